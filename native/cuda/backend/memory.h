// Memory of a device and of the host, as owned pointers.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cuda/device/check.h"

namespace switchyard::cuda {

enum class Place { kDevice, kPinned };

template <Place P>
class Memory {
 public:
  Memory() = default;
  explicit Memory(int64_t bytes) : bytes_(bytes) {
    if (bytes <= 0) return;
    void* p = nullptr;
    check(P == Place::kDevice ? cudaMalloc(&p, static_cast<size_t>(bytes))
                              : cudaHostAlloc(&p, static_cast<size_t>(bytes), cudaHostAllocDefault));
    data_ = static_cast<std::byte*>(p);
  }
  ~Memory() {
    if (data_ != nullptr) P == Place::kDevice ? cudaFree(data_) : cudaFreeHost(data_);
  }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  std::byte* data() const { return data_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};
using DeviceMemory = Memory<Place::kDevice>;
using PinnedMemory = Memory<Place::kPinned>;

}  // namespace switchyard::cuda
