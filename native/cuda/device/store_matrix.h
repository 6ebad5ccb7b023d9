// The way back from the registers of a product to rows in shared memory (stmatrix), beside ldmatrix of device/mma.h.
#pragma once
#include "cuda/device/async.h"
#include "cuda/device/launch.h"

namespace switchyard::cuda {

// Four transposed matrices of 8×8 floats of 16 bits. Word i of lane 4g + t holds matrix i [g, 2t], [2t + 1]; lane 8i + r gives
// the address of 16 bytes in shared memory, 16-byte aligned, that receive matrix i [0 … 7, r].
#if defined(SWITCHYARD_EMULATED)
__device__ inline void store_transposed(const uint32_t (&words)[4], void* column) {
  const uint64_t* all = emulation::warp_exchange(0xffffffffu, reinterpret_cast<uint64_t>(column));
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int i = 0; i < 4; i++) {
    for (int high = 0; high < 2; high++) {
      reinterpret_cast<uint16_t*>(all[8 * i + 2 * t + high])[g] = static_cast<uint16_t>(words[i] >> 16 * high);
    }
  }
  emulation::warp_barrier(0xffffffffu);
}
#else
__device__ inline void store_transposed(const uint32_t (&words)[4], void* column) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(column)),
               "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
#else
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto at = reinterpret_cast<unsigned long long>(column);
  for (int i = 0; i < 4; i++) {
    uint32_t turned;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(words[i]));
    auto* row = reinterpret_cast<uint32_t*>(__shfl_sync(0xffffffffu, at, 8 * i + lane / 4));
    row[lane % 4] = turned;
  }
#endif
}
#endif

}  // namespace switchyard::cuda
