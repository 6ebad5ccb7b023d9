// One GPU as the backend holds it: streams, working memory that all programs share, and the way of bytes to it and back.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/kernel.h"
#include "cuda/backend/memory.h"

namespace switchyard::cuda {

class Event {
 public:
  Event(unsigned flags = cudaEventDisableTiming) { check(cudaEventCreateWithFlags(&event_, flags)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// What the runtime tells of a device.
DeviceLimits limits_of(int ordinal);

class DeviceState {
 public:
  // Throws std::runtime_error with one sentence where there is no such device or none that works.
  explicit DeviceState(int ordinal);
  ~DeviceState();
  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;

  int ordinal() const { return ordinal_; }
  const DeviceLimits& limits() const { return limits_; }
  cudaStream_t stream() const { return stream_; }
  // Makes the device the calling thread's.
  void enter() const { check(cudaSetDevice(ordinal_)); }

  // Through pinned memory, in the order of the stream; `from` is free when it returns.
  void upload(std::byte* to, const void* from, int64_t bytes);
  // After all uploads so far, beside what runs: for memory whose run has ended.
  void download(void* to, const std::byte* from, int64_t bytes);
  void clear(std::byte* to, int64_t bytes);

  // Held by a run from its first launch to its end: runs share arena, scratch and the error word.
  std::mutex run_mutex;
  // Held while work is put into the stream.
  std::mutex stream_mutex;

  // Memory of runs: it only grows. With run_mutex. A new generation means that addresses have changed.
  void reserve(int64_t arena, int64_t scratch, int64_t pinned);
  std::byte* arena() const { return arena_.data(); }
  std::byte* scratch() const { return scratch_.data(); }
  std::byte* pinned() const { return pinned_.data(); }  // what instructions on the host read and write
  uint64_t generation() const { return generation_; }
  ErrorWord* error_word() const { return reinterpret_cast<ErrorWord*>(error_.data()); }
  ErrorWord* error_on_host() const { return reinterpret_cast<ErrorWord*>(error_on_host_.data()); }

  std::atomic<int64_t> working{0};  // bytes of device memory beside what users allocate

 private:
  struct Slot {
    PinnedMemory memory;
    Event done;
    bool used = false;
  };

  int ordinal_;
  DeviceLimits limits_;
  cudaStream_t stream_ = nullptr, down_ = nullptr;
  std::vector<std::unique_ptr<Slot>> slots_;  // of uploads, in turns; with stream_mutex
  size_t next_slot_ = 0;
  std::unique_ptr<Event> uploaded_;
  std::mutex down_mutex_;
  PinnedMemory down_memory_;
  DeviceMemory arena_, scratch_, error_;
  PinnedMemory error_on_host_, pinned_;
  uint64_t generation_ = 0;
};

}  // namespace switchyard::cuda
