// A file whose bytes are read where the system keeps them: packed weights need no copy, and a second start no reading.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "runtime/bus_guard.h"

namespace switchyard {

class MappedFile {
 public:
  // Maps a file of exactly `bytes` bytes, at a multiple of a huge page. Throws Error(kIo) where it cannot be opened or
  // has another size; null where this system, or this file, cannot be mapped: then it has to be read.
  static std::shared_ptr<const MappedFile> open(const std::string& path, int64_t bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Throws Error(kIo) once the file was cut or a page could not be read: what was computed since the last check may
  // come from zeros. Costs a system call (0.2 µs).
  void check() const;

 private:
  MappedFile() = default;
  void warm();

  std::string path_;
  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  std::unique_ptr<BusGuard> guard_;
  std::atomic<bool> stopping_{false};
  std::thread warmer_;
};

}  // namespace switchyard
