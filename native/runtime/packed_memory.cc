#include "runtime/packed_memory.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

// Under the address sanitizer each weight is an allocation of its own, so that a read past its end is found.
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__SANITIZE_ADDRESS__)
#include <sys/mman.h>
#define SWITCHYARD_PAGES 1
#endif

#include "formats/pack.h"
#include "runtime/error.h"
#include "runtime/memory.h"

namespace switchyard {
namespace {

#if defined(SWITCHYARD_PAGES)
constexpr int64_t kHugePage = int64_t{2} << 20;
// Address space only: pages that no weight has touched cost nothing.
constexpr int64_t kSlabBytes = int64_t{64} << 20;
// Larger weights have a mapping of their own; the small pages at its end are few.
constexpr int64_t kMostShared = int64_t{16} << 20;
#endif

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

[[noreturn]] void out_of_memory(int64_t bytes) {
  fail(ErrorCode::kOutOfMemory, "[weight] got no memory, expected %lld bytes for a packed weight",
       static_cast<long long>(bytes));
}

}  // namespace

// A span of address space that weights are cut from, one behind the other.
class Slab {
 public:
  explicit Slab(int64_t bytes) : bytes_(bytes) {
#if defined(SWITCHYARD_PAGES)
    mapped_ = static_cast<size_t>(bytes + kHugePage);
    base_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) out_of_memory(bytes);
    data_ = reinterpret_cast<std::byte*>(round_up(static_cast<int64_t>(reinterpret_cast<intptr_t>(base_)), kHugePage));
#if defined(MADV_HUGEPAGE)
    ::madvise(data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // only advice: a refusal is fine
#endif
#else
    base_ = ::operator new(static_cast<size_t>(bytes), std::align_val_t(kPanelAlign), std::nothrow);
    if (base_ == nullptr) out_of_memory(bytes);
    data_ = static_cast<std::byte*>(base_);
    std::memset(data_, 0, static_cast<size_t>(bytes));
#endif
  }
  ~Slab() {
#if defined(SWITCHYARD_PAGES)
    ::munmap(base_, mapped_);
#else
    ::operator delete(base_, std::align_val_t(kPanelAlign));
#endif
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // The next `bytes`, or null where they do not fit.
  std::byte* take(int64_t bytes) {
    if (bytes > bytes_ - used_) return nullptr;
    std::byte* at = data_ + used_;
    used_ += bytes;
    return at;
  }

  // The last weight taken leaves its place to the next one; the pages of any other go back to the system.
  void give_back(std::byte* at, int64_t bytes) {
    if (at + bytes == data_ + used_) {
      std::memset(at, 0, static_cast<size_t>(bytes));
      used_ -= bytes;
      return;
    }
#if defined(SWITCHYARD_PAGES)
    const int64_t page = page_size(), from = round_up(at - data_, page), to = (at - data_ + bytes) / page * page;
    if (from < to) ::madvise(data_ + from, static_cast<size_t>(to - from), MADV_DONTNEED);
#endif
  }

 private:
  void* base_ = nullptr;
  size_t mapped_ = 0;
  std::byte* data_ = nullptr;
  int64_t bytes_, used_ = 0;
};

namespace {

// The slab that small weights of this process are cut from at present. Weights of several environments may share it:
// it is address space, nothing else.
std::mutex& slab_mutex() {
  static std::mutex& mutex = *new std::mutex;  // never destroyed: weights may outlive static destruction
  return mutex;
}
std::weak_ptr<Slab>& open_slab() {
  static std::weak_ptr<Slab>& slab = *new std::weak_ptr<Slab>;
  return slab;
}

}  // namespace

PackedMemory::PackedMemory(int64_t bytes) {
#if defined(SWITCHYARD_PAGES)
  if (bytes <= kMostShared) {
    bytes_ = round_up(std::max<int64_t>(bytes, 1), kPanelAlign);
    std::lock_guard lock(slab_mutex());
    slab_ = open_slab().lock();
    data_ = slab_ ? slab_->take(bytes_) : nullptr;
    if (data_ == nullptr) {
      slab_ = std::make_shared<Slab>(kSlabBytes);
      open_slab() = slab_;
      data_ = slab_->take(bytes_);
    }
    return;
  }
#endif
  slab_ = std::make_shared<Slab>(bytes);
  data_ = slab_->take(bytes);
}

PackedMemory::~PackedMemory() {
  // A weight with a slab of its own, and the last of a shared one, free it without the work below.
  std::lock_guard lock(slab_mutex());
  if (bytes_ > 0 && slab_.use_count() > 1) slab_->give_back(data_, bytes_);
  slab_.reset();
}

}  // namespace switchyard
