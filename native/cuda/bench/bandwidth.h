// How fast the memory of a device is, and how fast replays of a graph go: for figures that are shares of a bandwidth.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

#include "cuda/device/launch.h"
#include "cuda/kernel.h"

namespace switchyard::cuda::bench {

struct Timing {
  double median = 0, low = 0, high = 0;  // µs of a replay; low and high are the 10th and 90th percentile
};

// Replays of what `work` asks of the stream: some to warm up, then as many as `replays` say.
inline Timing time_graph(cudaStream_t stream, int replays, const std::function<void()>& work) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  work();
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t from, to;
  check(cudaEventCreateWithFlags(&from, cudaEventDefault));
  check(cudaEventCreateWithFlags(&to, cudaEventDefault));
  std::vector<double> times;
  for (int i = -3; i < replays; i++) {
    check(cudaEventRecord(from, stream));
    check(cudaGraphLaunch(exec, stream));
    check(cudaEventRecord(to, stream));
    check(cudaStreamSynchronize(stream));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, from, to));
    if (i >= 0) times.push_back(1000.0 * milliseconds);
  }
  check(cudaEventDestroy(from));
  check(cudaEventDestroy(to));
  check(cudaGraphExecDestroy(exec));
  check(cudaGraphDestroy(graph));
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) { return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))]; };
  return {at(0.5), at(0.1), at(0.9)};
}

// Device memory until the end of the scope.
class Memory {
 public:
  explicit Memory(int64_t bytes) { check(cudaMalloc(&data_, static_cast<size_t>(bytes > 0 ? bytes : 1))); }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

inline DeviceLimits limits_of_device() {
  DeviceLimits d;
  int value = 0;
  check(cudaDeviceGetAttribute(&d.multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  check(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  d.shared_per_block = value;
  check(cudaDeviceGetAttribute(&value, cudaDevAttrL2CacheSize, 0));
  d.l2 = value;
  return d;
}

// GB/s of a copy of `bytes` in device memory, reads and writes counted, and of a kernel that only reads.
struct Bandwidth {
  double copy = 0, read = 0;
};
static __global__ void read_kernel(const uint4* from, int64_t n, uint32_t* to) {
  uint32_t all = 0;
  constexpr int kAtOnce = 8;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += kAtOnce * step) {
    uint4 v[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; j++) v[j] = i + j * step < n ? __ldg(from + i + j * step) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < kAtOnce; j++) all |= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (all == 1) *to = all;  // keeps the loads
}

inline Bandwidth measure_bandwidth(int64_t bytes, int replays, const Launch& on) {
  const Memory from(bytes), to(bytes);
  const Timing copy = time_graph(on.stream, replays, [&] {
    check(cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on.stream));
  });
  const Timing read = time_graph(on.stream, replays, [&] {
    launch(read_kernel, dim3(static_cast<unsigned>(on.device->multiprocessors * 8)), 256, 0, on, from.as<uint4>(), bytes / 16,
           to.as<uint32_t>());
  });
  return {2e-3 * static_cast<double>(bytes) / copy.median, 1e-3 * static_cast<double>(bytes) / read.median};
}

}  // namespace switchyard::cuda::bench
