// Activations as the streaming products (stream.h) read them: bf16, in tiles of 8 rows of one expert, in the order of the
// tensor cores' fragments. A tile is [steps][32 lanes][2 words]: word w of lane 4n + t holds row n, k = 16·step + 8w + 2t and the
// next. What lies past K or past the expert's rows is zero in tiles that launch_row_tiles() writes.
//
// The tiles of expert e start at tile_begin(e), which needs no scan: every expert may waste a part of one tile.
#pragma once
#include "cuda/kernel.h"

namespace switchyard::cuda {

constexpr int kTileRows = 8;
constexpr int kStepColumns = 16;  // k of a product of the tensor cores
constexpr int kTileStepBytes = 256;

__host__ __device__ constexpr int64_t steps_of(int64_t columns) { return (columns + kStepColumns - 1) / kStepColumns; }
__host__ __device__ constexpr int64_t tile_begin(int64_t expert, int64_t first_row) { return first_row / kTileRows + expert; }
// Bytes for any plan of so many rows and experts.
constexpr int64_t row_tiles_bytes(int64_t rows, int64_t experts, int64_t columns) {
  return (tile_begin(experts, rows) + 1) * steps_of(columns) * kTileStepBytes;
}

// Rows of a plan: row r of x is that of token row_token[r], or r; offsets and tokens are not trusted.
struct PlanRows {
  const int32_t* offsets = nullptr;    // [experts + 1]; nullptr: one expert has all rows
  const int32_t* row_token = nullptr;  // [rows]
  int64_t experts = 1, rows = 0, tokens = 0;

  __device__ int64_t offset(int64_t e) const { return offsets == nullptr ? e * rows : offsets[e]; }
};

// Writes the tiles of x [tokens, columns], and zeros to rows [last offset, rows) of `cleared` [rows, cleared_columns]. Offsets
// that fall or lie outside 0 … rows are reported by the products; nothing is said of what is written then. Starts early, and lets the next grid do so.
void launch_row_tiles(const float* x, const PlanRows& plan, int64_t columns, std::byte* tiles, float* cleared,
                      int64_t cleared_columns, uint32_t instruction, const Launch& on);

}  // namespace switchyard::cuda
