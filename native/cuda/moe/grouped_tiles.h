// Products of rows that are grouped by expert with plain f32 matrices, and the gradients of those, by tiles of one kind.
#pragma once
#include "cuda/linear/tile_choice.h"
#include "cuda/linear/tile_product.h"
#include "cuda/linear/tiles.h"

namespace switchyard::cuda {

// y[r] = Σ over parts of w[expert of r]·x[row of r]; zeros past the last offset.
struct GroupedProduct {
  struct Part {
    const float *x, *w;        // [x_rows, k], [experts, n, k] or [experts, k, n]
    const int32_t* ids;        // [rows] of x; nullptr: row r is x[r]
    int64_t x_rows, k;
  } parts[2];
  int count;                   // of parts
  const int32_t* offsets;      // [experts + 1]
  int64_t experts, rows, n;
  float* y;                    // [rows, n]
  RowTiles tiles = {};
  int64_t tiles_across = 0;
};

template <class C, bool kTranspose>
__global__ void __launch_bounds__(kTileThreads, C::kBlocks)
    grouped_matmul_kernel(GroupedProduct p, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_SHARED(shared);
  const RowTile tile = p.tiles.at(blockIdx.x / p.tiles_across);
  if (tile.rows == 0) return;
  const int64_t row = tile.first, column = blockIdx.x % p.tiles_across * C::kColumns;
  TileProduct t;
  t.count = tile.expert < 0 ? 0 : p.count;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const GroupedProduct::Part& part = p.parts[i];
    const float* w = part.w + max(tile.expert, 0) * p.n * part.k;
    t.parts[i].a = part.ids != nullptr ? Lines{part.x, part.k, part.ids + row, part.x_rows, row} : Lines{part.x + row * part.k, part.k};
    t.parts[i].b = kTranspose ? Lines{w + column, p.n} : Lines{w + column * part.k, part.k};
    t.parts[i].k = part.k;
  }
  t.rows = tile.rows;
  t.columns = static_cast<int>(min(int64_t{C::kColumns}, p.n - column));
  t.c = p.y + row * p.n + column, t.stride = p.n;
  t.error = error, t.instruction = instruction;
  write_tile<C, true, !kTranspose>(t, shared);
}

// Bytes of scratch of launch_grouped, for tiles of any kind.
inline int64_t grouped_scratch(int64_t rows, int64_t experts) { return tiles_scratch(rows, experts, MultiplyAdd64::kRows); }

template <class C>
void launch_grouped(GroupedProduct p, bool transpose, uint32_t instruction, const Launch& on, std::byte* scratch) {
  p.tiles = launch_tiles(p.offsets, p.rows, p.experts, C::kRows, instruction, on, scratch);
  p.tiles_across = (p.n + C::kColumns - 1) / C::kColumns;
  const dim3 grid = tile_grid(p.tiles.bound * p.tiles_across);
  if (transpose) {
    launch(grouped_matmul_kernel<C, true>, grid, kTileThreads, TileSteps<C, true, false>::kShared, on, p, on.error, instruction);
  } else {
    launch(grouped_matmul_kernel<C, false>, grid, kTileThreads, TileSteps<C, true, true>::kShared, on, p, on.error, instruction);
  }
}

struct GroupedRows {
  const float* x;
  const int32_t* ids;
  int64_t count, width;

  // From row `first` on, columns from `column` on.
  __device__ Lines lines(int64_t first, int64_t column) const {
    return ids != nullptr ? Lines{x + column, width, ids + first, count, first} : Lines{x + first * width + column, width};
  }
};

// dw[e] = Σ over the rows of e of dyᵀ x.
struct GroupedGradient {
  GroupedRows dy, x;
  const int32_t* offsets;
  int64_t experts, rows;
  float* dw;
  int64_t tiles_down = 0, tiles_across = 0;
};

// Whether the rows of expert e are in order, as check_offsets() of cpu/linear.h asks; else the first offset that is not is
// reported.
__device__ inline bool rows_in_order(const int32_t* offsets, int64_t e, int64_t experts, int64_t rows, ErrorWord* error,
                                     uint32_t instruction) {
  for (int64_t i = e; i <= e + 1 && i <= experts; i++) {
    const int64_t low = i == 0 ? 0 : offsets[i - 1], high = i == 0 ? 0 : rows;
    if (offsets[i] >= low && offsets[i] <= high) continue;
    report(error, instruction, ErrorKind::kIndex, i, offsets[i], low, high);
    return false;
  }
  return true;
}

template <class C>
__global__ void __launch_bounds__(kTileThreads, C::kBlocks)
    grouped_matmul_grad_kernel(GroupedGradient p, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_SHARED(shared);
  const int64_t per_expert = p.tiles_down * p.tiles_across;
  const int64_t e = blockIdx.x / per_expert, tile = blockIdx.x % per_expert;
  const int64_t row = tile / p.tiles_across * C::kRows, column = tile % p.tiles_across * C::kColumns;
  // Offsets that are out of order stand for an expert without rows.
  const bool ok = rows_in_order(p.offsets, e, p.experts, p.rows, error, instruction);
  const int64_t first = ok ? p.offsets[e] : 0, end = ok ? p.offsets[e + 1] : 0;
  TileProduct t;
  t.count = 1, t.parts[0] = {p.dy.lines(first, row), p.x.lines(first, column), end - first};
  t.rows = static_cast<int>(min(int64_t{C::kRows}, p.dy.width - row));
  t.columns = static_cast<int>(min(int64_t{C::kColumns}, p.x.width - column));
  t.c = p.dw + (e * p.dy.width + row) * p.x.width + column, t.stride = p.x.width;
  t.error = error, t.instruction = instruction;
  write_tile<C, false, false>(t, shared);
}

template <class C>
void launch_gradient(GroupedGradient p, uint32_t instruction, const Launch& on) {
  p.tiles_down = (p.dy.width + C::kRows - 1) / C::kRows, p.tiles_across = (p.x.width + C::kColumns - 1) / C::kColumns;
  launch(grouped_matmul_grad_kernel<C>, tile_grid(p.experts * p.tiles_down * p.tiles_across), kTileThreads,
         TileSteps<C, false, false>::kShared, on, p, on.error, instruction);
}

}  // namespace switchyard::cuda
