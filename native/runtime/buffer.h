// The native memory of a tensor.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/memory.h"

namespace switchyard {

class BufferPool;

// 64-byte aligned, fixed size, held by shared_ptr: by a JavaScript handle, by runs in flight and by programs whose
// constant it is. Its memory goes back to the pool with the last of them, on whatever thread that is. A part of another
// buffer is that buffer's memory and holds it.
class Buffer {
 public:
  Buffer(std::shared_ptr<BufferPool> pool, Block block, int64_t bytes);
  // `offset` must be a multiple of 64. Throws Error(kShape) for bytes that do not lie within `whole`.
  Buffer(std::shared_ptr<Buffer> whole, int64_t offset, int64_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  const Device* device() const;  // null: the host's memory
  bool overlaps(const Buffer& other) const;

 private:
  std::shared_ptr<BufferPool> pool_;  // null for a part
  Block block_;
  std::shared_ptr<Buffer> whole_;
  std::byte* data_;
  int64_t bytes_;
};

// Keeps freed blocks by size, so that the outputs of a step are those of the step before and no step asks the system
// for pages. One per environment and device; safe on all threads.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  explicit BufferPool(std::shared_ptr<MemoryUsage> usage, std::shared_ptr<const Device> device = nullptr);

  // Contents are undefined unless `zeroed`.
  std::shared_ptr<Buffer> allocate(int64_t bytes, bool zeroed);
  // A program with outputs of so many bytes is about to run: so much is kept at least until another one runs. The
  // gradients of a training step can be gigabytes, whose first touch costs more than computing them.
  void expect(int64_t output_bytes);
  int64_t kept() const;
  MemoryUsage& usage() const { return *usage_; }
  const std::shared_ptr<const Device>& device() const { return device_; }  // null: the host

 private:
  friend class Buffer;
  void give_back(Block block, int64_t bytes);
  void count(int64_t bytes, int sign);

  std::shared_ptr<MemoryUsage> usage_;
  std::shared_ptr<const Device> device_;
  mutable std::mutex mutex_;
  std::map<int64_t, std::vector<Block>> free_;  // by the size of the block
  int64_t kept_ = 0;                            // bytes in free_
  int64_t most_kept_;
};

}  // namespace switchyard
