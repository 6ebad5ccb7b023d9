// Products of f32 by the tensor cores: each factor is split in two of 11 significant bits, x = high + low up to 2^-22 |x|, and
// three products are summed, low·high + high·low + high·high (Ootomo, Yokota, "Recovering single precision accuracy from Tensor
// Cores while surpassing the FP32 theoretical peak performance", arXiv 2203.03341, equations 7 and 24).
//
// The tensor cores cut sums off instead of rounding them, so sums of many products lose their low bits on one side: what
// multiply() gives is to be added to a sum by ordinary additions (the same paper, section 4.3).
#pragma once
#include "cuda/device/launch.h"

namespace switchyard::cuda {

// The nearest float of 10 stored bits, ties away from zero, and what is left of x.
struct Tf32 {
  uint32_t high, low;
};

// D += A·B for a whole warp: A 16×8, B 8×8, D 16×8. What lane 4g + t holds, g < 8 and t < 4:
//   a[0] A[g, t]    a[1] A[g + 8, t]    a[2] A[g, t + 4]    a[3] A[g + 8, t + 4]
//   b[0] B[t, g]    b[1] B[t + 4, g]
//   d[0], d[1] D[g, 2t…]    d[2], d[3] D[g + 8, 2t…]
#if defined(SWITCHYARD_EMULATED)

inline uint32_t to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return std::isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

// Exact products, summed exactly and cut off once.
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Words {
    const uint32_t *a, *b;
  } mine{a, b};
  const uint64_t* all = emulation::warp_exchange(0xffffffffu, reinterpret_cast<uint64_t>(&mine));
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int i = 0; i < 4; i++) {
    double sum = d[i];
    for (int k = 0; k < 8; k++) {
      const auto* row = reinterpret_cast<const Words*>(all[4 * g + k % 4]);
      const auto* column = reinterpret_cast<const Words*>(all[4 * (2 * t + i % 2) + k % 4]);
      sum += double{__uint_as_float(row->a[k / 4 * 2 + i / 2])} * double{__uint_as_float(column->b[k / 4])};
    }
    const float nearest = static_cast<float>(sum);
    d[i] = std::fabs(double{nearest}) > std::fabs(sum) && std::isfinite(nearest) ? std::nextafter(nearest, 0.0f) : nearest;
  }
  emulation::warp_barrier(0xffffffffu);
}
inline void mma_tf32_first(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  for (float& v : d) v = 0;
  mma_tf32(d, a, b);
}

#else

__device__ inline uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
__device__ inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// D = A·B.
__device__ inline void mma_tf32_first(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}

#endif

__device__ inline Tf32 split_tf32(float x) {
  const uint32_t high = to_tf32(x);
  return {high, to_tf32(x - __uint_as_float(high))};
}

}  // namespace switchyard::cuda
