// f32 matrix products and row sums in tiles, built once per instruction set: what attention and the MoE training
// kernels stand on. Every output element is one chain of fused multiply-adds in the order of k.
#pragma once
#include <cstdint>
#include <cstring>

#include "runtime/tier.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace switchyard {

// Columns of a packed panel: four vectors.
constexpr int kPanelColumns = 64;

// What experts make of their pre-activations.
struct HiddenRule {
  int activation = 0;  // 0 silu, 1 gelu, 2 gelu by tanh, 3 relu
  // With a limit above 0 and up beside h: (u + 1) · g·σ(slope·g), g = min(h, limit), u = up within ±limit (gpt-oss).
  float limit = 0, slope = 0;
};

struct TileKernels {
  // panel[k · distance + j] = rows[j][k] for k < K, j < count ≤ 64; columns from count to lanes are zero. lanes and
  // distance are multiples of 16 up to 64.
  void (*transpose)(const float* const* rows, int count, int64_t K, float* panel, int64_t lanes, int64_t distance);
  // c[i][j] (+)= Σ_k a[i][a_offset + k] · b[k · b_distance + j], for rows i < M and columns j < columns ≤ 64; `add`:
  // the chains go on from c. c is [M, 64]; columns up to the next multiple of 16 are read and written too.
  // b_ahead > 0: b lies in memory, its rows that many further are fetched.
  void (*multiply)(int64_t M, int64_t K, int columns, const float* const* a, int64_t a_offset, const float* b,
                   int64_t b_distance, int64_t b_ahead, float* c, bool add);
  // to[i · to_distance + j] = from[i][j] + Σ_r a[r][a_offset + i] · b[r][b_offset + j], for i < M and j < columns, of
  // which the next multiple of 16 is read and written. from is [M, 64], or nullptr: zero. past_caches: `to` is written
  // by stores that leave the caches alone and need 64-byte alignment and stream_fence() after them.
  void (*outer)(int64_t M, int64_t count, int64_t columns, const float* const* a, int64_t a_offset,
                const float* const* b, int64_t b_offset, const float* from, float* to, int64_t to_distance,
                bool past_caches);
  // The same for rows that lie at equal distances: a [count, a_distance], b [count, b_distance].
  void (*outer_packed)(int64_t M, int64_t count, int64_t columns, const float* a, int64_t a_distance, const float* b,
                       int64_t b_distance, const float* from, float* to, int64_t to_distance, bool past_caches);
  // y = Σ_k weights[k] · x[ids[k]], k in order, ids of -1 left out; weights nullptr: ones. x is [_, D].
  void (*gather_sum)(const float* x, const int32_t* ids, const float* weights, int64_t K, int64_t D, float* y);
  // y[k] = <x[ids[k]], dy>, 0 where ids[k] is -1; 16 partial sums, folded by halves.
  void (*gather_dot)(const float* x, const int32_t* ids, const float* dy, int64_t K, int64_t D, float* y);
  // h = act(gate)·up, or act(gate) where up is nullptr, in the steps of the compositions in src/core/ops/hidden.ts, so that both
  // give the same bits.
  void (*activate)(const HiddenRule& rule, const float* gate, const float* up, int64_t n, float* h);
};

const TileKernels& tile_kernels(Tier tier);

// Other threads see what this one has stored past the caches.
inline void stream_fence() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_sfence();
#endif
}

// Copies n floats. past_caches: by stores that leave the caches alone and need 16-byte alignment, n a multiple of 4, and
// stream_fence() after them.
inline void copy_floats(const float* from, int64_t n, bool past_caches, float* to) {
#if defined(__x86_64__) || defined(_M_X64)
  if (past_caches) {
    for (int64_t i = 0; i < n; i += 4) _mm_stream_ps(to + i, _mm_load_ps(from + i));
    return;
  }
#endif
  static_cast<void>(past_caches);
  std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

}  // namespace switchyard
