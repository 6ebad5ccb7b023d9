// Products of large tiles by the tensor cores of Hopper (sm_90a): D += A·B for a warpgroup, four consecutive warps of which the
// first has a number divisible by 4. A is 64×16 bf16 in registers, B 16×kN bf16 in shared memory, D 64×kN f32 in registers;
// kN is 64, 128 or 256. Warp w of the four holds rows 16w … 16w + 15, its lane 4g + t (g < 8, t < 4; a word is a pair of bf16,
// the lower index in the low half):
//   a[0] A[16w + g, 2t…]   a[1] A[16w + g + 8, 2t…]   a[2] A[16w + g, 2t + 8…]   a[3] A[16w + g + 8, 2t + 8…]
//   d[4j], d[4j + 1] D[16w + g, 8j + 2t…]   d[4j + 2], d[4j + 3] D[16w + g + 8, 8j + 2t…]
// (PTX ISA, "Register fragments" of wgmma.mma_async.m64nNk16.)
//
// Products run beside the threads. In order: wgmma_fence() after the last ordinary write to registers that they read or add to;
// products; wgmma_commit(), which makes a group of them; wgmma_wait<n>(), after which all but the last n groups are done. Until
// then neither d nor a may be touched. Shared memory that threads have written needs fence_async() in those threads and a
// barrier before a product reads it.
#pragma once
#include "cuda/device/async.h"
#include "cuda/device/float16.h"
#include "cuda/device/launch.h"

namespace switchyard::cuda {

// Where B lies: kN rows of 128 bytes, one under the other from a multiple of 1024 bytes on, each 64 values of k for one column
// of B. The 16 bytes with values 8c … 8c + 7 of row n stand in place c ^ (n % 8): swizzled_16(). A product reads 16 values of k.
constexpr int kOperandRowBytes = 128;
__device__ inline int swizzled_16(int row, int c) { return row * kOperandRowBytes + (c ^ (row & 7)) * 16; }

// The descriptor of such an operand ("Matrix descriptor"): bits 0-13 address, 16-29 leading offset (not used with a swizzle),
// 32-45 offset from 8 rows to the next 8, all in units of 16 bytes; bits 62-63: 1, a swizzle of 128 bytes. The next 16 values of
// k begin 32 bytes on: descriptor + kNextK.
constexpr uint64_t kNextK = 32 >> 4;
__device__ inline uint64_t operand_at(uint32_t shared_address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{8 * kOperandRowBytes >> 4} << 32;
  return kSwizzle128 | kEightRows | uint64_t{1} << 16 | (shared_address & 0x3ffff) >> 4;
}

#if defined(SWITCHYARD_EMULATED) || (defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL))
// Where products are done at once, or no kernel that has them is started.
__device__ inline void wgmma_fence() {}
__device__ inline void wgmma_commit() {}
template <int kGroups>
__device__ void wgmma_wait() {}
template <int kRegisters>
__device__ void take_registers() {}
template <int kRegisters>
__device__ void give_registers() {}
#endif

#if defined(SWITCHYARD_EMULATED)

// Addresses of shared memory count from the block's first byte, as on a device.
__device__ inline uint64_t operand(const void* shared) {
  return operand_at(static_cast<uint32_t>(static_cast<const std::byte*>(shared) - emulation::dynamic_shared()));
}

// The 16 bytes of row n with values 8·half… of k, found as the hardware does: bits 4-6 of an address change with bits 7-9.
inline const uint16_t* operand_row(uint64_t b, int n, int half) {
  const uint32_t start = (b & 0x3fff) << 4, eight_rows = (b >> 32 & 0x3fff) << 4;
  if (b >> 62 != 1) std::abort();
  uint32_t at = start + static_cast<uint32_t>(n / 8) * eight_rows + static_cast<uint32_t>(n % 8 * 128 + half * 16);
  at ^= (at >> 7 & 7) << 4;
  return reinterpret_cast<const uint16_t*>(emulation::dynamic_shared() + at);
}

// D += A·B. Sums in f32 in the order of k; the tensor cores' own order is not documented.
template <int kN>
__device__ void wgmma(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
  const uint64_t* all = emulation::warp_exchange(0xffffffffu, reinterpret_cast<uint64_t>(&a));
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  float rows[2][16];
  for (int k = 0; k < 16; k++) {
    const auto* quad = reinterpret_cast<const uint32_t*>(all[4 * g + k % 8 / 2]);
    for (int i = 0; i < 2; i++) rows[i][k] = to_float(Bf16{static_cast<uint16_t>(quad[k / 8 * 2 + i] >> 16 * (k % 2))});
  }
  for (int n = 2 * t; n < kN; n += n % 2 == 0 ? 1 : 7) {
    float column[16];
    for (int k = 0; k < 16; k++) column[k] = to_float(Bf16{operand_row(b, n, k / 8)[k % 8]});
    for (int i = 0; i < 2; i++) {
      float& sum = d[n / 8 * 4 + 2 * i + n % 2];
      for (int k = 0; k < 16; k++) sum += rows[i][k] * column[k];
    }
  }
  emulation::warp_barrier(0xffffffffu);
}

#elif defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Built for another device, where no kernel that multiplies so is started.
__device__ inline uint64_t operand(const void*) { return 0; }
template <int kN>
__device__ void wgmma(float (&)[kN / 2], const uint32_t (&)[4], uint64_t) {
  __trap();
}

#else

__device__ inline uint64_t operand(const void* shared) { return operand_at(shared_address(shared)); }
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kGroups>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
// The registers of a thread, for all warps of a warpgroup: more, once others have given theirs, or fewer. Multiples of 8.
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// The operands of the instruction: kN / 2 sums, then a and b, whose numbers follow.
#define SWITCHYARD_SUMS_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SWITCHYARD_SUMS_64 \
  SWITCHYARD_SUMS_32 ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SWITCHYARD_SUMS_128 \
  SWITCHYARD_SUMS_64 ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SWITCHYARD_OUT_8(i)                                                                            \
  "+f"(d[(i)]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3]), "+f"(d[(i) + 4]), "+f"(d[(i) + 5]), \
      "+f"(d[(i) + 6]), "+f"(d[(i) + 7])
#define SWITCHYARD_OUT_32(i) \
  SWITCHYARD_OUT_8(i), SWITCHYARD_OUT_8((i) + 8), SWITCHYARD_OUT_8((i) + 16), SWITCHYARD_OUT_8((i) + 24)
#define SWITCHYARD_WGMMA(n, sums, a0, a1, a2, a3, b_, ...)                                          \
  asm volatile(                                                                                          \
      "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" sums "}, "                             \
      "{%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b_ ", 1, 1, 1, 0;"                                        \
      : __VA_ARGS__                                                                                      \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

template <int kN>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
  static_assert(kN == 64 || kN == 128 || kN == 256);
  if constexpr (kN == 64) {
    SWITCHYARD_WGMMA("64", SWITCHYARD_SUMS_32, "32", "33", "34", "35", "36", SWITCHYARD_OUT_32(0));
  } else if constexpr (kN == 128) {
    SWITCHYARD_WGMMA("128", SWITCHYARD_SUMS_64, "64", "65", "66", "67", "68", SWITCHYARD_OUT_32(0), SWITCHYARD_OUT_32(32));
  } else {
    SWITCHYARD_WGMMA("256", SWITCHYARD_SUMS_128, "128", "129", "130", "131", "132", SWITCHYARD_OUT_32(0),
                     SWITCHYARD_OUT_32(32), SWITCHYARD_OUT_32(64), SWITCHYARD_OUT_32(96));
  }
}
#undef SWITCHYARD_WGMMA
#undef SWITCHYARD_OUT_32
#undef SWITCHYARD_OUT_8
#undef SWITCHYARD_SUMS_128
#undef SWITCHYARD_SUMS_64
#undef SWITCHYARD_SUMS_32

#endif

}  // namespace switchyard::cuda
