#include "cuda/backend/device_state.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace switchyard::cuda {
namespace {

constexpr int64_t kSlot = int64_t{2} << 20;
constexpr int kSlots = 4;
constexpr int kLeastCapability = 80;  // mma.sync of bf16, cp.async

// What the driver says where it can be asked, as one sentence.
int devices() {
  int count = 0;
  const cudaError_t e = cudaGetDeviceCount(&count);
  if (e != cudaSuccess) {
    throw std::runtime_error(std::string("[device] got no CUDA device (") + cudaGetErrorString(e) +
                             "), expected a GPU with a driver for CUDA 13 or newer");
  }
  return count;
}

}  // namespace

DeviceLimits limits_of(int ordinal) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, ordinal));
    return value;
  };
  DeviceLimits limits;
  limits.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  limits.capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  limits.shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  limits.l2 = attribute(cudaDevAttrL2CacheSize);
  return limits;
}

DeviceState::DeviceState(int ordinal) : ordinal_(ordinal) {
  const int count = devices();
  if (ordinal < 0 || ordinal >= count) {
    throw std::runtime_error("[device] got cuda:" + std::to_string(ordinal) + ", expected one of the " + std::to_string(count) +
                             " devices of this machine");
  }
  enter();
  limits_ = limits_of(ordinal);
  if (limits_.capability < kLeastCapability) {
    throw std::runtime_error("[device] got a GPU of compute capability " + std::to_string(limits_.capability / 10) + "." +
                             std::to_string(limits_.capability % 10) + ", expected 8.0 or higher");
  }
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  check(cudaStreamCreateWithFlags(&down_, cudaStreamNonBlocking));
  uploaded_ = std::make_unique<Event>();
  down_memory_ = PinnedMemory(kSlot);
  error_ = DeviceMemory(sizeof(ErrorWord));
  error_on_host_ = PinnedMemory(sizeof(ErrorWord));
  for (int i = 0; i < kSlots; i++) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->memory = PinnedMemory(kSlot);
  }
}

DeviceState::~DeviceState() {
  cudaSetDevice(ordinal_);
  for (cudaStream_t stream : {stream_, down_}) {
    if (stream == nullptr) continue;
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
}

void DeviceState::upload(std::byte* to, const void* from, int64_t bytes) {
  std::lock_guard lock(stream_mutex);
  for (int64_t at = 0; at < bytes; at += kSlot) {
    const auto size = static_cast<size_t>(std::min(kSlot, bytes - at));
    Slot& slot = *slots_[next_slot_++ % slots_.size()];
    if (slot.used) check(cudaEventSynchronize(slot.done));
    std::memcpy(slot.memory.data(), static_cast<const std::byte*>(from) + at, size);
    check(cudaMemcpyAsync(to + at, slot.memory.data(), size, cudaMemcpyHostToDevice, stream_));
    check(cudaEventRecord(slot.done, stream_));
    slot.used = true;
  }
  check(cudaEventRecord(*uploaded_, stream_));
}

void DeviceState::download(void* to, const std::byte* from, int64_t bytes) {
  std::lock_guard lock(down_mutex_);
  {
    std::lock_guard order(stream_mutex);
    check(cudaStreamWaitEvent(down_, *uploaded_, 0));
  }
  for (int64_t at = 0; at < bytes; at += kSlot) {
    const auto size = static_cast<size_t>(std::min(kSlot, bytes - at));
    check(cudaMemcpyAsync(down_memory_.data(), from + at, size, cudaMemcpyDeviceToHost, down_));
    check(cudaStreamSynchronize(down_));
    std::memcpy(static_cast<std::byte*>(to) + at, down_memory_.data(), size);
  }
}

void DeviceState::clear(std::byte* to, int64_t bytes) {
  std::lock_guard lock(stream_mutex);
  check(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), stream_));
  check(cudaEventRecord(*uploaded_, stream_));
}

void DeviceState::reserve(int64_t arena, int64_t scratch, int64_t pinned) {
  const auto grow = [&](DeviceMemory& memory, int64_t bytes) {
    if (memory.bytes() >= bytes) return;
    check(cudaStreamSynchronize(stream_));
    working -= memory.bytes();
    memory = DeviceMemory();  // first, so that both are never held at once
    memory = DeviceMemory(bytes);
    working += bytes;
    generation_++;
  };
  grow(arena_, arena);
  grow(scratch_, scratch);
  if (pinned_.bytes() >= pinned) return;
  check(cudaStreamSynchronize(stream_));
  pinned_ = PinnedMemory();
  pinned_ = PinnedMemory(pinned);
  generation_++;
}

}  // namespace switchyard::cuda
