// Activations as the streaming products (stream.h) read them: bf16, in tiles of 8 rows of one expert, in the order of the
// tensor cores' operands. A tile is [steps][rows][4][2 words]: word w at t of a row holds k = 16·step + tile_column(order, t, w) and
// the next. A tile of fewer than 8 rows has places for 1, 2 or 4 of them only, so that little more than they is read beside the
// weights. What lies past K or past the expert's rows is zero in tiles that launch_row_tiles() writes.
//
// The tiles of expert e start at tile_begin(e), which needs no scan: every expert may waste a part of one tile.
#pragma once
#include "cuda/kernel.h"

namespace switchyard::cuda {

constexpr int kTileRows = 8;
constexpr int kStepColumns = 16;  // k of a product of the tensor cores
constexpr int kRowStepBytes = 32;
constexpr int kTileStepBytes = kTileRows * kRowStepBytes;

// Float weights are read in pairs, codes of block formats by fours.
enum class TileOrder { kNatural, kByFours };
__host__ __device__ constexpr int tile_column(TileOrder order, int t, int word) {
  return order == TileOrder::kNatural ? 8 * word + 2 * t : 4 * t + 2 * word;
}
// Steps of a tile: those of whole chunks of 32.
__host__ __device__ constexpr int64_t tile_steps(int64_t columns) { return (columns + 31) / 32 * 2; }
__host__ __device__ constexpr int tile_places(int64_t rows) { return rows >= 5 ? 8 : rows >= 3 ? 4 : rows >= 2 ? 2 : 1; }
__host__ __device__ constexpr int64_t tile_begin(int64_t expert, int64_t first_row) { return first_row / kTileRows + expert; }
// Bytes for any plan of so many rows and experts.
constexpr int64_t row_tiles_bytes(int64_t rows, int64_t experts, int64_t columns) {
  return (tile_begin(experts, rows) + 1) * tile_steps(columns) * kTileStepBytes;
}

// Rows of a plan: row r of x is that of token row_token[r], or r; offsets and tokens are not trusted.
struct PlanRows {
  const int32_t* offsets = nullptr;    // [experts + 1]; nullptr: one expert has all rows
  const int32_t* row_token = nullptr;  // [rows]
  int64_t experts = 1, rows = 0, tokens = 0;

  __device__ int64_t offset(int64_t e) const { return offsets == nullptr ? e * rows : offsets[e]; }
};

// Rows [last offset, rows) of them are no expert's and become zeros.
struct ClearedRows {
  static constexpr int kMost = 4;
  float* y[kMost] = {};  // [rows, columns]; nullptr: no more
  int64_t columns[kMost] = {};
};

// Writes the tiles of x [tokens, columns], and zeros to what `cleared` tells. Offsets
// that fall or lie outside 0 … rows are reported by the products; nothing is said of what is written then. Starts early, and lets
// the next grid do so.
void launch_row_tiles(const float* x, const PlanRows& plan, int64_t columns, TileOrder order, std::byte* tiles,
                      const ClearedRows& cleared, uint32_t instruction, const Launch& on);

}  // namespace switchyard::cuda
