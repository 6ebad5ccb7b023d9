// Blocks of native memory and who counts them.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace switchyard {

class Device;

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
  // At least 0 bytes, in the host's memory or in that of a device; throws kOutOfMemory.
  explicit Block(int64_t bytes, std::shared_ptr<const Device> device = nullptr);
  ~Block() { release(); }
  Block(Block&& other) noexcept { swap(other); }
  Block& operator=(Block&& other) noexcept {
    swap(other);
    return *this;
  }
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  const std::shared_ptr<const Device>& device() const { return device_; }  // null: the host
  bool zeroed() const { return zeroed_; }  // true: nothing has to be cleared before first use
  void used() { zeroed_ = false; }

 private:
  void release();
  void swap(Block& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(device_, other.device_);
    std::swap(mapped_, other.mapped_);
    std::swap(zeroed_, other.zeroed_);
  }

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  std::shared_ptr<const Device> device_;
  bool mapped_ = false;
  bool zeroed_ = false;
};

// Copies and zeros, wherever the memory is (`device` null: the host).
void copy_out(const Device* device, void* to, const std::byte* from, int64_t bytes);
void copy_in(const Device* device, std::byte* to, const void* from, int64_t bytes);
void clear_memory(const Device* device, std::byte* to, int64_t bytes);

int64_t page_size();

}  // namespace switchyard
