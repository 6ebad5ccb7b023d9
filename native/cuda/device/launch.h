// Starting kernels, and the words that nvcc and the emulation (cuda/emulation) have for the same thing. Kernels are plain
// __global__ functions; nothing else of the launch syntax is used, so that every file also compiles as C++.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cuda/device/check.h"
#include "cuda/kernel.h"

#if defined(SWITCHYARD_EMULATED)
#include "cuda/emulation/threads.h"
#endif

namespace switchyard::cuda {

// The dynamic shared memory of a block, 1024-byte aligned: `SWITCHYARD_SHARED(bytes);` declares std::byte* bytes.
#if defined(SWITCHYARD_EMULATED)
#define SWITCHYARD_SHARED(name) std::byte* const name = ::switchyard::cuda::emulation::dynamic_shared()
#else
#define SWITCHYARD_SHARED(name) extern __shared__ __align__(1024) std::byte name[]
#endif

// Whether a grid waits for the one before it in the stream, or may start as soon as all blocks of that one have called
// start_next_grid() or returned (programmatic dependent launch). Then every block of it calls wait_for_previous_grid() before it
// touches what earlier grids write (device/async.h).
enum class Start { kAfterPrevious, kEarly };

template <class... P, class... A>
void launch(Start start, void (*kernel)(P...), dim3 grid, dim3 block, int64_t shared, const Launch& on, A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#if defined(SWITCHYARD_EMULATED)
  (void)start;
  emulation::launch(on.stream, grid, block, shared,
                    [kernel, ... copies = static_cast<P>(std::forward<A>(args))] { kernel(copies...); });
#else
  if (shared > 32 * 1024) {  // static shared memory counts too
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared), config.stream = on.stream;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early, config.numAttrs = start == Start::kEarly ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...));
#endif
}

// kernel<<<grid, block, shared, stream>>>(args…) with its errors checked.
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, int64_t shared, const Launch& on, A&&... args) {
  launch(Start::kAfterPrevious, kernel, grid, block, shared, on, std::forward<A>(args)...);
}

// Blocks of `block` threads for n elements, at most as many as keep the device busy: kernels walk on by the grid's width.
inline dim3 grid_for(int64_t n, int block, const Launch& on) {
  const int64_t wanted = (n + block - 1) / block, most = int64_t{on.device->multiprocessors} * (2048 / block) * 4;
  return dim3(static_cast<unsigned>(wanted < most ? wanted : most));
}

// for (int64_t i : this thread's elements of [0, n)) in a kernel started by grid_for.
#define SWITCHYARD_GRID_STRIDE(i, n)                                                            \
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, step_ = int64_t{gridDim.x} * blockDim.x; i < (n); \
       i += step_)

}  // namespace switchyard::cuda
