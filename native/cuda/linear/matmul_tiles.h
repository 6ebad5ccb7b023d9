// c = a·b of a batch of plain f32 matrices by tiles of one kind.
#pragma once
#include "cuda/linear/tile_choice.h"
#include "cuda/linear/tile_product.h"

namespace switchyard::cuda {

struct Matmul {
  const float *a, *b;
  float* c;
  int64_t batch, m, n, k;
  bool shared_b;  // one b for all of the batch
  int64_t tiles_down, tiles_across;
};

// Tiles of this many rows in turn share what they read of b.
constexpr int64_t kTogether = 8;

template <class C, bool kTransposeA, bool kTransposeB>
__global__ void __launch_bounds__(kTileThreads, C::kBlocks) matmul_kernel(Matmul p, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_SHARED(shared);
  const int64_t per_matrix = p.tiles_down * p.tiles_across;
  const int64_t at = blockIdx.x / per_matrix, tile = blockIdx.x % per_matrix;
  const int64_t first = tile / (kTogether * p.tiles_across) * kTogether, within = tile % (kTogether * p.tiles_across);
  const int64_t together = min(kTogether, p.tiles_down - first);
  const int64_t row = (first + within % together) * C::kRows, column = within / together * C::kColumns;

  const float *a = p.a + at * p.m * p.k, *b = p.b + (p.shared_b ? 0 : at * p.n * p.k);
  TileProduct t;
  t.count = 1, t.parts[0].k = p.k;
  t.parts[0].a = kTransposeA ? Lines{a + row, p.m} : Lines{a + row * p.k, p.k};
  t.parts[0].b = kTransposeB ? Lines{b + column * p.k, p.k} : Lines{b + column, p.n};
  t.rows = static_cast<int>(min(int64_t{C::kRows}, p.m - row));
  t.columns = static_cast<int>(min(int64_t{C::kColumns}, p.n - column));
  t.c = p.c + (at * p.m + row) * p.n + column, t.stride = p.n;
  t.error = error, t.instruction = instruction;
  write_tile<C, !kTransposeA, kTransposeB>(t, shared);
}

template <class C, bool kTransposeA, bool kTransposeB>
void launch_matmul(Matmul p, uint32_t instruction, const Launch& on) {
  p.tiles_down = (p.m + C::kRows - 1) / C::kRows, p.tiles_across = (p.n + C::kColumns - 1) / C::kColumns;
  launch(matmul_kernel<C, kTransposeA, kTransposeB>, tile_grid(p.batch * p.tiles_down * p.tiles_across), kTileThreads,
         TileSteps<C, !kTransposeA, kTransposeB>::kShared, on, p, on.error, instruction);
}

}  // namespace switchyard::cuda
