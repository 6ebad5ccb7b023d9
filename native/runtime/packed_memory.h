// Memory of packed weights.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace switchyard {

class Slab;

// Zeroed, 64-byte aligned memory. Weights smaller than a few huge pages share slabs that huge pages can back: decoding
// reads every byte for every token, and on small pages that is a third slower. A slab is given back with its last
// weight, and the whole pages of a weight as soon as it is gone.
class PackedMemory {
 public:
  explicit PackedMemory(int64_t bytes);  // throws kOutOfMemory
  ~PackedMemory();
  PackedMemory(const PackedMemory&) = delete;
  PackedMemory& operator=(const PackedMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::shared_ptr<Slab> slab_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace switchyard
