// Reading parts of a file by offset, from several threads at once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace switchyard {

class File {
 public:
  explicit File(std::string path);  // throws Error(kIo)
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  // Reads exactly `bytes` bytes; a file that ends before is an Error(kIo). Never maps: a file that is cut while it is
  // read must be an error, not a signal.
  void read(int64_t offset, int64_t bytes, std::byte* out) const;

 private:
  std::string path_;
#if defined(_WIN32)
  void* handle_ = nullptr;
#else
  int descriptor_ = -1;
#endif
};

}  // namespace switchyard
