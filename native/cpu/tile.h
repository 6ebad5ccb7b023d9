// f32 matrix products and row sums in tiles, built once per instruction set: what attention and the MoE training
// kernels stand on. Every output element is one chain of fused multiply-adds in the order of k.
#pragma once
#include <cstdint>

#include "runtime/tier.h"

namespace switchyard {

// Columns of a packed panel: four vectors.
constexpr int kPanelColumns = 64;

struct TileKernels {
  // panel[k][j] = rows[j][k] for k < K, j < count ≤ 64; columns from count on are zero. panel is [K, 64].
  void (*transpose)(const float* const* rows, int count, int64_t K, float* panel);
  // c[i][j] += Σ_k a[i][k] · panel[k][j], for rows i < M and columns j < columns ≤ 64. c is [M, 64]; columns up
  // to the next multiple of 16 are written too.
  void (*multiply)(int64_t M, int64_t K, int columns, const float* const* a, const float* panel, float* c);
  // y = Σ_k weights[k] · x[ids[k]], k in order, ids of -1 left out. x is [_, D].
  void (*gather_sum)(const float* x, const int32_t* ids, const float* weights, int64_t K, int64_t D, float* y);
  // y[k] = <x[ids[k]], dy>, 0 where ids[k] is -1; 16 partial sums, folded by halves.
  void (*gather_dot)(const float* x, const int32_t* ids, const float* dy, int64_t K, int64_t D, float* y);
  // h = act(h)·up, or act(h) where up is nullptr. 0 silu, 1 gelu, 2 gelu by tanh, 3 relu, in the steps of their
  // compositions in src/core/ops/elementwise.ts, so that both give the same bits.
  void (*activate)(int activation, float* h, const float* up, int64_t n);
};

const TileKernels& tile_kernels(Tier tier);

}  // namespace switchyard
