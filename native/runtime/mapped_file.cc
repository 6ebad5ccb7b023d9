#include "runtime/mapped_file.h"

#include "runtime/error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "runtime/memory.h"

namespace switchyard {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
// One call of the warmer: short enough that nobody waits long for its end (a disk of 1 GB/s needs 32 ms).
constexpr int64_t kWarmStep = int64_t{32} << 20;

[[noreturn]] void cut(const std::string& path, const std::string& got, int64_t expected) {
  throw Error(ErrorCode::kIo, "[file] got " + got + " of '" + path + "' while its weights were in use, expected " +
                                  std::to_string(expected) + " bytes that can be read",
              "dispose the model and load it again from a whole file");
}

// Address space for a file, on a boundary of huge pages: the system backs a range by them only where file and address
// lie alike. What is before and behind goes back.
std::byte* reserve(int64_t bytes) {
  void* raw = ::mmap(nullptr, static_cast<size_t>(bytes + kHugePage), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto* from = static_cast<std::byte*>(raw);
  const auto over = static_cast<int64_t>(reinterpret_cast<uintptr_t>(raw) % kHugePage);
  const int64_t before = over == 0 ? 0 : kHugePage - over, after = kHugePage - before;
  if (before > 0) ::munmap(from, static_cast<size_t>(before));
  if (after > 0) ::munmap(from + before + bytes, static_cast<size_t>(after));
  return from + before;
}

int64_t whole_pages(int64_t bytes) { return (bytes + page_size() - 1) / page_size() * page_size(); }

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path, int64_t bytes) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat facts = {};
  if (file->descriptor_ < 0 || ::fstat(file->descriptor_, &facts) != 0) {
    fail(ErrorCode::kIo, "[file] could not open '%s': %s", path.c_str(), std::strerror(errno));
  }
  if (facts.st_size != bytes || bytes < 1) {
    fail(ErrorCode::kIo, "[file] got %lld bytes of '%s', expected %lld", static_cast<long long>(facts.st_size),
         path.c_str(), static_cast<long long>(bytes));
  }
  const int64_t length = whole_pages(bytes);
  std::byte* at = reserve(length);
  if (at == nullptr) return nullptr;
  if (::mmap(at, static_cast<size_t>(bytes), PROT_READ, MAP_PRIVATE | MAP_FIXED, file->descriptor_, 0) == MAP_FAILED) {
    ::munmap(at, static_cast<size_t>(length));
    return nullptr;
  }
  file->data_ = at;
  file->bytes_ = bytes;
  file->guard_ = std::make_unique<BusGuard>(at, static_cast<size_t>(length));
  if (!file->guard_->active()) return nullptr;
#if defined(MADV_HUGEPAGE)
  // Pages that are not in memory yet are then read as huge ones, where the file system can (ext4 from Linux 6.16, xfs).
  ::madvise(at, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  try {
    file->warmer_ = std::thread([raw = file.get()] { raw->warm(); });
  } catch (const std::system_error&) {
    // Without a thread the first pass over the weights meets the page faults.
  }
  return file;
}

MappedFile::~MappedFile() {
  stopping_ = true;
  if (warmer_.joinable()) warmer_.join();
  guard_.reset();
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(whole_pages(bytes_)));
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MappedFile::check() const {
  struct stat facts = {};
  // Asked too: the bytes between a new end and the end of its page read as zeros without a signal.
  if (::fstat(descriptor_, &facts) != 0 || facts.st_size < bytes_) {
    cut(path_, std::to_string(facts.st_size) + " bytes", bytes_);
  }
  if (guard_->broken()) cut(path_, "a page that could not be read", bytes_);
}

// Reads ahead in the order of the file, and enters the pages in the page table while the model gets ready: a first
// token that meets them one by one waits for each. Where the page cache holds small pages, huge ones are asked for.
void MappedFile::warm() {
  if (bytes_ > static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * page_size()) return;  // would push itself out again
#if defined(__linux__)
  constexpr int kPopulateRead = 22, kCollapse = 25;  // Linux 5.14 and 6.1; not in every C library's headers
  bool collapse = true;
  for (int64_t at = 0; at < bytes_ && !stopping_; at += kWarmStep) {
    const auto step = static_cast<size_t>(std::min(kWarmStep, bytes_ - at));
    if (::madvise(data_ + at, step, kPopulateRead) != 0) return;
    // Refused where files cannot have huge pages (EINVAL): then never again.
    collapse = collapse && (::madvise(data_ + at, step, kCollapse) == 0 || errno != EINVAL);
  }
#else
  ::madvise(data_, static_cast<size_t>(bytes_), MADV_WILLNEED);
#endif
}

}  // namespace switchyard

#else

namespace switchyard {

std::shared_ptr<const MappedFile> MappedFile::open(const std::string&, int64_t) { return nullptr; }
MappedFile::~MappedFile() = default;
void MappedFile::check() const {}
void MappedFile::warm() {}

}  // namespace switchyard

#endif
