// What products of many rows stand on: the rows of experts cut in tiles, and activations rounded to bf16.
#pragma once
#include "cuda/device/float16.h"
#include "cuda/kernel.h"

namespace switchyard::cuda::many {

// Rows [first, first + rows) of the plan, all of one expert. Up to kBlockTiles tiles of an expert, one after another, make a
// block, whose tiles meet the same weights at the same time: `place` is the tile's index in its block, `block` the block's size.
constexpr int kBlockTiles = 8;
struct Tile {
  int32_t expert, first, rows;
  int16_t place, block;
};

// In device memory, written by launch_tile_list(): expert after expert, the tiles of expert e from starts[e] on. They are cut out
// of rows [0, used) without overlaps whatever the offsets are.
struct TileList {
  Tile* tiles = nullptr;
  int32_t* starts = nullptr;  // [experts + 1]
  int32_t* used = nullptr;    // [1]

  static int64_t bytes(int64_t rows, int64_t experts, int tile_rows) {
    return (rows / tile_rows + experts) * static_cast<int64_t>(sizeof(Tile)) + (experts + 2) * 4;
  }
  static TileList at(std::byte* scratch, int64_t rows, int64_t experts, int tile_rows) {
    TileList l;
    l.tiles = reinterpret_cast<Tile*>(scratch);
    l.starts = reinterpret_cast<int32_t*>(l.tiles + rows / tile_rows + experts);
    l.used = l.starts + experts + 1;
    return l;
  }
};
// offsets [experts + 1], not trusted: those that fall, or pass `rows`, are reported. nullptr: one expert has all rows.
void launch_tile_list(const int32_t* offsets, int64_t experts, int64_t rows, int tile_rows, const TileList& list,
                      uint32_t instruction, const Launch& on);

// Rows of bf16 stand `padded_columns(columns)` values apart, those past the last column are zeros.
constexpr int64_t kColumnPad = 64;
__host__ __device__ constexpr int64_t padded_columns(int64_t columns) { return (columns + kColumnPad - 1) / kColumnPad * kColumnPad; }
void launch_round(const float* x, int64_t rows, int64_t columns, Bf16* out, const Launch& on);

// Zeros to rows [used, rows) of y.
void launch_clear_unused(float* y, int64_t rows, int64_t columns, const TileList& list, const Launch& on);
void launch_clear_unused(Bf16* y, int64_t rows, int64_t columns, const TileList& list, const Launch& on);

}  // namespace switchyard::cuda::many
