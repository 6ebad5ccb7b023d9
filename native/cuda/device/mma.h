// Products of small tiles by the tensor cores, D += A·B for a whole warp: A 16×16, B 16×8, D 16×8 in f32. What lane 4g + t
// holds, g < 8 and t < 4; words are pairs of 16-bit floats, the lower index of the pair in the low half:
//   a[0] A[g, 2t…]    a[1] A[g + 8, 2t…]    a[2] A[g, 2t + 8…]    a[3] A[g + 8, 2t + 8…]
//   b[0] B[2t…, g]    b[1] B[2t + 8…, g]
//   d[0], d[1] D[g, 2t…]    d[2], d[3] D[g + 8, 2t…]
// The order of the 16 products of an element is the same everywhere, so k may be permuted if A and B are permuted alike.
#pragma once
#include "cuda/device/async.h"
#include "cuda/device/float16.h"
#include "cuda/device/launch.h"

namespace switchyard::cuda {

#if defined(SWITCHYARD_EMULATED)

// f32 sums in the order of k; the tensor cores' own order and rounding are not documented.
template <class Half16>
__device__ void mma_emulated(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Words {
    const uint32_t *a, *b;
  } mine{a, b};
  const uint64_t* all = emulation::warp_exchange(0xffffffffu, reinterpret_cast<uint64_t>(&mine));
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  const auto value = [](uint32_t word, int high) { return to_float(Half16{static_cast<uint16_t>(word >> 16 * high)}); };
  for (int i = 0; i < 4; i++) {
    const int column = 2 * t + i % 2;
    for (int k = 0; k < 16; k++) {
      const auto* row = reinterpret_cast<const Words*>(all[4 * g + k % 8 / 2]);
      const auto* other = reinterpret_cast<const Words*>(all[4 * column + k % 8 / 2]);
      d[i] += value(row->a[k / 8 * 2 + i / 2], k % 2) * value(other->b[k / 8], k % 2);
    }
  }
  emulation::warp_barrier(0xffffffffu);
}
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_emulated<Bf16>(d, a, b); }
__device__ inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_emulated<Half>(d, a, b); }

// Lane 8i + j gives the address of row j of matrix i: 8 floats of 16 bits, in shared memory, 16-byte aligned. Lane 4g + t gets
// in word i: matrix i [g, 2t…]; transposed: [2t…, g].
template <int kMatrices, bool kTransposed>
__device__ void load_matrices(uint32_t (&words)[kMatrices], const void* row) {
  const uint64_t* all = emulation::warp_exchange(0xffffffffu, reinterpret_cast<uint64_t>(row));
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int i = 0; i < kMatrices; i++) {
    const auto at = [&](int r, int c) { return uint32_t{reinterpret_cast<const uint16_t*>(all[8 * i + r])[c]}; };
    words[i] = kTransposed ? at(2 * t, g) | at(2 * t + 1, g) << 16 : at(g, 2 * t) | at(g, 2 * t + 1) << 16;
  }
  emulation::warp_barrier(0xffffffffu);
}

#else

__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <int kMatrices, bool kTransposed>
__device__ void load_matrices(uint32_t (&words)[kMatrices], const void* row) {
  static_assert(kMatrices == 2 || kMatrices == 4);
  const uint32_t at = shared_address(row);
  if constexpr (kMatrices == 4 && kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "r"(at) : "memory");
  } else if constexpr (kMatrices == 4) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "r"(at) : "memory");
  } else if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(words[0]), "=r"(words[1]) : "r"(at) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "r"(at) : "memory");
  }
}

#endif

// ldmatrix: 4 or 2 matrices of 8×8 into words (see load_matrices; with two matrices the addresses of lanes 16… are not used).
__device__ inline void ldmatrix(uint32_t (&words)[4], const void* row) { load_matrices<4, false>(words, row); }
__device__ inline void ldmatrix(uint32_t (&words)[2], const void* row) { load_matrices<2, false>(words, row); }
__device__ inline void ldmatrix_transposed(uint32_t (&words)[4], const void* row) { load_matrices<4, true>(words, row); }
__device__ inline void ldmatrix_transposed(uint32_t (&words)[2], const void* row) { load_matrices<2, true>(words, row); }

}  // namespace switchyard::cuda
