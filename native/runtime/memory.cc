#include "runtime/memory.h"

#include <cstdlib>
#include <cstring>

#include "runtime/device.h"
#include "runtime/error.h"

#if defined(_WIN32)
#include <malloc.h>
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace switchyard {
namespace {

constexpr size_t kAlign = 64;
constexpr int64_t kMapFrom = int64_t{1} << 20;   // below, the allocator is cheaper than page faults
constexpr int64_t kHugePage = int64_t{2} << 20;  // x64 and most arm64 systems
constexpr int64_t kMost = int64_t{1} << 46;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

#if !defined(_WIN32)
void* map_pages(int64_t bytes) {
  void* p = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

// Maps `bytes` at an address that is a multiple of a huge page, so that the system can back all of it by huge pages.
void* map_huge(int64_t bytes) {
  auto* raw = static_cast<std::byte*>(map_pages(bytes + kHugePage));
  if (raw == nullptr) return nullptr;
  const auto at = static_cast<int64_t>(reinterpret_cast<uintptr_t>(raw) % kHugePage);
  const int64_t before = at == 0 ? 0 : kHugePage - at, after = kHugePage - before;
  if (before > 0) munmap(raw, static_cast<size_t>(before));
  if (after > 0) munmap(raw + before + bytes, static_cast<size_t>(after));
#if defined(MADV_HUGEPAGE)
  madvise(raw + before, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // only advice: a refusal is fine
#endif
  return raw + before;
}
#endif

}  // namespace

int64_t page_size() {
#if defined(_WIN32)
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return static_cast<int64_t>(info.dwPageSize);
#else
  return sysconf(_SC_PAGESIZE);
#endif
}

Block::Block(int64_t bytes, std::shared_ptr<const Device> device) : device_(std::move(device)) {
  if (device_ && bytes >= 0 && bytes <= kMost) {
    bytes_ = round_up(bytes == 0 ? 1 : bytes, kAlign);
    data_ = device_->allocate(bytes_);
    return;
  }
  if (bytes >= 0 && bytes <= kMost) {
#if defined(_WIN32)
    bytes_ = round_up(bytes == 0 ? 1 : bytes, kAlign);
    data_ = static_cast<std::byte*>(_aligned_malloc(static_cast<size_t>(bytes_), kAlign));
#else
    mapped_ = bytes >= kMapFrom;
    bytes_ = round_up(bytes == 0 ? 1 : bytes, mapped_ ? page_size() : static_cast<int64_t>(kAlign));
    void* p = !mapped_            ? std::aligned_alloc(kAlign, static_cast<size_t>(bytes_))
              : bytes < kHugePage ? map_pages(bytes_)
                                  : map_huge(bytes_);
    data_ = static_cast<std::byte*>(p);
    zeroed_ = mapped_;
#endif
  }
  if (data_ == nullptr) {
    throw Error(ErrorCode::kOutOfMemory,
                "[memory] got no memory from the system, expected " + std::to_string(bytes) + " bytes",
                "use a smaller model, batch or context, or close other programs");
  }
}

void Block::release() {
  if (data_ == nullptr) return;
  if (device_) {
    device_->release(data_);
    data_ = nullptr;
    return;
  }
#if defined(_WIN32)
  _aligned_free(data_);
#else
  if (mapped_) {
    munmap(data_, static_cast<size_t>(bytes_));
  } else {
    std::free(data_);
  }
#endif
  data_ = nullptr;
}

void copy_out(const Device* device, void* to, const std::byte* from, int64_t bytes) {
  if (bytes == 0) return;
  device == nullptr ? static_cast<void>(std::memcpy(to, from, static_cast<size_t>(bytes))) : device->download(to, from, bytes);
}

void copy_in(const Device* device, std::byte* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  device == nullptr ? static_cast<void>(std::memcpy(to, from, static_cast<size_t>(bytes))) : device->upload(to, from, bytes);
}

void clear_memory(const Device* device, std::byte* to, int64_t bytes) {
  if (bytes == 0) return;
  device == nullptr ? static_cast<void>(std::memset(to, 0, static_cast<size_t>(bytes))) : device->clear(to, bytes);
}

}  // namespace switchyard
