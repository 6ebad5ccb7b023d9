// Copies from global to shared memory that go on while the threads compute, and the barriers that tell of their end.
// The emulation makes a copy only when it is waited for, so that a forgotten wait shows.
#pragma once
#include "cuda/device/launch.h"

#if defined(SWITCHYARD_EMULATED)
#include "cuda/emulation/copies.h"
#endif

namespace switchyard::cuda {

// A barrier in shared memory (mbarrier): phases of a number of arrivals and of the bytes that copies bring. A phase has a
// parity, 0 for the first; wait(parity) returns once the phase of that parity is complete, and returns at once for parity 1 on
// a fresh barrier. One thread calls init; then fence_barriers() and __syncthreads() before others use it.
struct alignas(8) Barrier {
  uint64_t word;
};

#if defined(SWITCHYARD_EMULATED)

// 16 bytes, of which the first `bytes` come from global memory and the rest are zeros. Both addresses 16-byte aligned; with
// `bytes` 0 nothing is read. This thread's copies are grouped by copy_commit(); copy_wait<n> returns once all but its last n
// groups are done (for this thread: others need a __syncthreads() after it).
__device__ inline void copy_16(void* shared, const void* global, int bytes = 16) { emulation::copy_later(shared, global, bytes, 16); }
// The same of 4 bytes; `bytes` is 4 or 0.
__device__ inline void copy_4(void* shared, const void* global, int bytes = 4) { emulation::copy_later(shared, global, bytes, 4); }
__device__ inline void copy_commit() { emulation::commit_copies(); }
template <int kGroups>
__device__ void copy_wait() {
  emulation::wait_copies(kGroups);
}

__device__ inline void init(Barrier& b, int arrivals) { emulation::barrier_init(&b.word, arrivals); }
__device__ inline void fence_barriers() {}
__device__ inline void arrive(Barrier& b) { emulation::barrier_arrive(&b.word, 0); }
// An arrival that comes when all copies that this thread has asked for by copy_16() are done.
__device__ inline void arrive_when_copied(Barrier& b) {
  emulation::commit_copies();
  emulation::wait_copies(0);
  emulation::barrier_arrive(&b.word, 0);
}
// An arrival, and the promise of bytes that bulk copies will bring in this phase.
__device__ inline void arrive_expecting(Barrier& b, uint32_t bytes) { emulation::barrier_arrive(&b.word, bytes); }
__device__ inline bool try_wait(Barrier& b, uint32_t parity) { return emulation::barrier_complete(&b.word, parity); }
__device__ inline void wait(Barrier& b, uint32_t parity) {
  while (!try_wait(b, parity)) emulation::yield();
}

// A contiguous copy asked for by one thread, told of at `done`. Addresses and bytes are multiples of 16.
__device__ inline void copy_bulk(void* shared, const void* global, uint32_t bytes, Barrier& done) {
  emulation::copy_bulk(shared, global, bytes, &done.word);
}
// Between ordinary accesses to shared memory and bulk copies or tensor cores that use the same bytes.
__device__ inline void fence_async() {}
// Between what other grids wrote to global memory and bulk copies of it.
__device__ inline void fence_async_global() {}

// Waits for `threads` threads of the block (a multiple of 32) at barrier 1 … 15.
__device__ inline void block_barrier(int id, int threads) { emulation::barrier(id, threads); }

// Of a grid started with Start::kEarly: waits until the grid before it is complete and its writes are seen. And what that grid
// calls to let the next one start.
__device__ inline void wait_for_previous_grid() {}
__device__ inline void start_next_grid() {}

#else

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ inline void copy_16(void* shared, const void* global, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
__device__ inline void copy_4(void* shared, const void* global, int bytes = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroups>
__device__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

__device__ inline void init(Barrier& b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&b)), "r"(arrivals) : "memory");
}
__device__ inline void fence_barriers() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ inline void arrive(Barrier& b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&b)) : "memory");
}
__device__ inline void arrive_when_copied(Barrier& b) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&b)) : "memory");
}
__device__ inline void arrive_expecting(Barrier& b, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&b)), "r"(bytes) : "memory");
}
__device__ inline bool try_wait(Barrier& b, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
#if __CUDA_ARCH__ >= 900
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
#else
      "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
#endif
      "selp.u32 %0, 1, 0, p;\n"
      "}"
      : "=r"(done)
      : "r"(shared_address(&b)), "r"(parity)
      : "memory");
  return done != 0;
}
__device__ inline void wait(Barrier& b, uint32_t parity) {
  while (!try_wait(b, parity)) {
  }
}

__device__ inline void copy_bulk(void* shared, const void* global, uint32_t bytes, Barrier& done) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(&done))
               : "memory");
}
__device__ inline void fence_async() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ inline void fence_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

__device__ inline void block_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

__device__ inline void wait_for_previous_grid() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ inline void start_next_grid() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

#endif

// Kernels of little work are started so, and all their blocks call begin_overlapped() before anything else: the launch of a grid
// overlaps the end of the one before it. (With kAfterPrevious here the calls do nothing.)
constexpr Start kOverlapped = Start::kEarly;
__device__ inline void begin_overlapped() {
  wait_for_previous_grid();
  start_next_grid();
}

}  // namespace switchyard::cuda
