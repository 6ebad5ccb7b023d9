#include "runtime/file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#if defined(_WIN32)
#include <windows.h>
#else
#include <fcntl.h>
#include <unistd.h>
#endif

#include "runtime/error.h"

namespace switchyard {
namespace {

[[noreturn]] void ended(const std::string& path, int64_t at, int64_t expected) {
  fail(ErrorCode::kIo, "[file] got the end of '%s' at byte %lld, expected at least %lld bytes", path.c_str(),
       static_cast<long long>(at), static_cast<long long>(expected));
}

}  // namespace

#if defined(_WIN32)

File::File(std::string path) : path_(std::move(path)) {
  const std::u8string name(path_.begin(), path_.end());
  handle_ = CreateFileW(std::filesystem::path(name).c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING,
                        FILE_ATTRIBUTE_NORMAL, nullptr);
  if (handle_ == INVALID_HANDLE_VALUE) {
    fail(ErrorCode::kIo, "[file] could not open '%s' (error %lu)", path_.c_str(), GetLastError());
  }
}

File::~File() { CloseHandle(handle_); }

void File::read(int64_t offset, int64_t bytes, std::byte* out) const {
  for (int64_t done = 0; done < bytes;) {
    OVERLAPPED at{};
    at.Offset = static_cast<DWORD>(offset + done);
    at.OffsetHigh = static_cast<DWORD>((offset + done) >> 32);
    DWORD got = 0;
    const DWORD want = static_cast<DWORD>(std::min<int64_t>(bytes - done, 1 << 30));
    if (!ReadFile(handle_, out + done, want, &got, &at) && GetLastError() != ERROR_HANDLE_EOF) {
      fail(ErrorCode::kIo, "[file] could not read '%s' (error %lu)", path_.c_str(), GetLastError());
    }
    if (got == 0) ended(path_, offset + done, offset + bytes);
    done += got;
  }
}

#else

File::File(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail(ErrorCode::kIo, "[file] could not open '%s': %s", path_.c_str(), std::strerror(errno));
}

File::~File() { ::close(descriptor_); }

void File::read(int64_t offset, int64_t bytes, std::byte* out) const {
  for (int64_t done = 0; done < bytes;) {
    const size_t want = static_cast<size_t>(std::min<int64_t>(bytes - done, 1 << 30));
    const ssize_t got = ::pread(descriptor_, out + done, want, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorCode::kIo, "[file] could not read '%s': %s", path_.c_str(), std::strerror(errno));
    if (got == 0) ended(path_, offset + done, offset + bytes);
    done += got;
  }
}

#endif

}  // namespace switchyard
