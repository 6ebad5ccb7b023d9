// Blocks of native memory and who counts them.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace switchyard {

// What one environment holds, in bytes. Shared by everything that holds some of it.
struct MemoryUsage {
  std::atomic<int64_t> buffers{0};   // live buffers, without those that wait for reuse
  std::atomic<int64_t> weights{0};
  std::atomic<int64_t> arena{0};     // arenas and scratch of all runtimes
  std::atomic<int64_t> external{0};  // allocations of at least kExternalBytes: what the garbage collector is told
};
constexpr int64_t kExternalBytes = 64 * 1024;

// 64-byte aligned memory, freed with the object. Large blocks come from the system page by page: they hold zeros
// when fresh, sit on huge pages where the system offers them, and go back to it when freed.
class Block {
 public:
  Block() = default;
  explicit Block(int64_t bytes);  // at least 0; throws kOutOfMemory
  ~Block() { release(); }
  Block(Block&& other) noexcept { swap(other); }
  Block& operator=(Block&& other) noexcept {
    swap(other);
    return *this;
  }
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  bool zeroed() const { return zeroed_; }  // true: nothing has to be cleared before first use
  void used() { zeroed_ = false; }

 private:
  void release();
  void swap(Block& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_, other.mapped_);
    std::swap(zeroed_, other.zeroed_);
  }

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  bool mapped_ = false;
  bool zeroed_ = false;
};

int64_t page_size();

}  // namespace switchyard
