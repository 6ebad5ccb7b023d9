// How fast the memory of a device is: for figures that are shares of it.
#pragma once
#include "cuda/bench/timing.h"

namespace switchyard::cuda::bench {

// GB/s of a copy in device memory, reads and writes counted, and of a kernel that only reads.
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
  const DeviceMemory from(bytes), to(bytes);
  const auto copy = time_graph(on.stream, kWarmUp, replays, [&] {
    check(cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on.stream));
  });
  const auto read = time_graph(on.stream, kWarmUp, replays, [&] {
    launch(read_kernel, dim3(static_cast<unsigned>(on.device->multiprocessors * 8)), 256, 0, on, from.as<uint4>(), bytes / 16,
           to.as<uint32_t>());
  });
  const auto rate = [&](const std::vector<double>& us) { return 1e-3 * static_cast<double>(bytes) / us[us.size() / 2]; };
  return {2 * rate(copy), rate(read)};
}

}  // namespace switchyard::cuda::bench
