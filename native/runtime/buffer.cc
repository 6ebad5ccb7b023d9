#include "runtime/buffer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "runtime/error.h"

namespace switchyard {
namespace {

// Always kept: the outputs of decode steps (a row of logits is 0.2 to 0.6 MB) and of small prompts.
constexpr int64_t kLeastKept = int64_t{64} << 20;

// What kernels may assume of the outputs of a program.
constexpr int64_t kPartAlign = 64;

// Sizes of blocks: eight steps to each power of two, so that few sizes serve all at 12.5 % waste or less.
int64_t block_size(int64_t bytes) {
  if (bytes <= 512) return (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0);
  const int64_t step = int64_t{1} << (std::bit_width(static_cast<uint64_t>(bytes - 1)) - 4);
  return (bytes + step - 1) / step * step;
}

}  // namespace

Buffer::Buffer(std::shared_ptr<BufferPool> pool, Block block, int64_t bytes)
    : pool_(std::move(pool)), block_(std::move(block)), data_(block_.data()), bytes_(bytes) {
  pool_->count(bytes_, 1);
}

Buffer::Buffer(std::shared_ptr<Buffer> whole, int64_t offset, int64_t bytes)
    : whole_(std::move(whole)), data_(whole_->data()), bytes_(bytes) {
  if (offset < 0 || offset % kPartAlign != 0 || bytes < 0 || offset > whole_->bytes() || bytes > whole_->bytes() - offset) {
    fail(ErrorCode::kShape, "[buffer] got a part of %lld bytes at %lld, expected one within %lld at a multiple of %lld",
         static_cast<long long>(bytes), static_cast<long long>(offset), static_cast<long long>(whole_->bytes()),
         static_cast<long long>(kPartAlign));
  }
  data_ += offset;
}

Buffer::~Buffer() {
  if (pool_) pool_->give_back(std::move(block_), bytes_);
}

const Device* Buffer::device() const { return whole_ ? whole_->device() : pool_->device().get(); }

bool Buffer::overlaps(const Buffer& other) const {
  return bytes_ > 0 && other.bytes_ > 0 && data_ < other.data_ + other.bytes_ && other.data_ < data_ + bytes_;
}

BufferPool::BufferPool(std::shared_ptr<MemoryUsage> usage, std::shared_ptr<const Device> device)
    : usage_(std::move(usage)), device_(std::move(device)), most_kept_(kLeastKept) {}

void BufferPool::expect(int64_t output_bytes) {
  std::vector<Block> surplus;  // freed after the lock
  std::lock_guard lock(mutex_);
  most_kept_ = std::max(kLeastKept, output_bytes + output_bytes / 8);  // sizes of blocks are rounded up
  while (kept_ > most_kept_) {
    const auto largest = std::prev(free_.end());
    if (!largest->second.empty()) {
      surplus.push_back(std::move(largest->second.back()));
      largest->second.pop_back();
      kept_ -= largest->first;
    }
    if (largest->second.empty()) free_.erase(largest);
  }
}

int64_t BufferPool::kept() const {
  std::lock_guard lock(mutex_);
  return kept_;
}

std::shared_ptr<Buffer> BufferPool::allocate(int64_t bytes, bool zeroed) {
  if (bytes < 0 || bytes > (int64_t{1} << 46)) {
    fail(ErrorCode::kOption, "[buffer] got %lld bytes, expected 0 to 2^46", static_cast<long long>(bytes));
  }
  const int64_t size = block_size(bytes);
  Block block;
  {
    std::lock_guard lock(mutex_);
    const auto found = free_.find(size);
    if (found != free_.end() && !found->second.empty()) {
      block = std::move(found->second.back());
      found->second.pop_back();
      kept_ -= size;
    }
  }
  if (block.data() == nullptr) block = Block(size, device_);
  if (zeroed && !block.zeroed()) clear_memory(device_.get(), block.data(), bytes);
  return std::make_shared<Buffer>(shared_from_this(), std::move(block), bytes);
}

void BufferPool::give_back(Block block, int64_t bytes) {
  count(bytes, -1);
  const int64_t size = block_size(bytes);
  block.used();
  std::lock_guard lock(mutex_);
  if (kept_ + size > most_kept_) return;  // the block is freed
  try {
    free_[size].push_back(std::move(block));
    kept_ += size;
  } catch (const std::bad_alloc&) {
    // Called by a destructor: without memory for the list the block is simply freed.
  }
}

void BufferPool::count(int64_t bytes, int sign) {
  usage_->buffers += sign * bytes;
  if (bytes >= kExternalBytes) usage_->external += sign * bytes;
}

}  // namespace switchyard
