// What products of many rows stand on: the rows of experts cut in tiles, and activations rounded to bf16.
#pragma once
#include "cuda/device/float16.h"
#include "cuda/kernel.h"

namespace switchyard::cuda::many {

// Rows [first, first + rows) of the plan, all of one expert.
struct Tile {
  int32_t expert, first, rows, unused;
};

// In device memory, written by launch_tile_list(): `tiles[count]`, expert after expert. Segments are cut out of [0, used) without
// overlaps whatever the offsets are.
struct TileList {
  int32_t count, used, unused[2];

  __host__ __device__ Tile* tiles() { return reinterpret_cast<Tile*>(this + 1); }
  __host__ __device__ const Tile* tiles() const { return reinterpret_cast<const Tile*>(this + 1); }
};
int64_t tile_list_bytes(int64_t rows, int64_t experts, int tile_rows);
// offsets [experts + 1], not trusted: those that fall, or pass `rows`, are reported. nullptr: one expert has all rows.
void launch_tile_list(const int32_t* offsets, int64_t experts, int64_t rows, int tile_rows, TileList* list,
                      uint32_t instruction, const Launch& on);

// Rows of bf16 stand `padded_columns(columns)` values apart, those past the last column are zeros.
constexpr int64_t kColumnPad = 64;
__host__ __device__ constexpr int64_t padded_columns(int64_t columns) { return (columns + kColumnPad - 1) / kColumnPad * kColumnPad; }
void launch_round(const float* x, int64_t rows, int64_t columns, Bf16* out, const Launch& on);

// Zeros to rows [list->used, rows) of y.
void launch_clear_unused(float* y, int64_t rows, int64_t columns, const TileList* list, const Launch& on);
void launch_clear_unused(Bf16* y, int64_t rows, int64_t columns, const TileList* list, const Launch& on);

}  // namespace switchyard::cuda::many
