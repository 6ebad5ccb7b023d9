#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/device/launch.h"

namespace switchyard::cuda {

// Sorts words[0…n) in shared memory, rising; n is a power of two. All threads of a block of one dimension call, after what they
// wrote is seen; ends with a barrier. (Batcher, "Sorting networks and their applications", 1968.)
__device__ inline void bitonic_sort(uint64_t* words, int n) {
  for (int run = 2; run <= n; run *= 2) {
    for (int apart = run / 2; apart > 0; apart /= 2) {
      for (int t = static_cast<int>(threadIdx.x); t < n / 2; t += static_cast<int>(blockDim.x)) {
        const int i = 2 * t - (t & (apart - 1)), j = i + apart;
        const uint64_t a = words[i], b = words[j];
        if ((a > b) == ((i & run) == 0)) words[i] = b, words[j] = a;
      }
      __syncthreads();
    }
  }
}

}  // namespace switchyard::cuda
