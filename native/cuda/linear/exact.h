// Products in f32 by parts, for those that share a list of tiles or run backwards.
#pragma once
#include "cuda/device/report.h"
#include "cuda/linear/decode.h"
#include "cuda/linear/product.h"
#include "cuda/linear/tiles.h"

namespace switchyard::cuda {

// Rows of a tile: up to kFewExactRows a block takes one panel and streams its weights once for all rows of the tile; above, it
// decodes slabs of panels into shared memory.
constexpr int kFewExactRows = 8;
constexpr int kSmallTile = 32, kLargeTile = 128;
int exact_tile_rows(int64_t rows, int64_t experts);
inline bool exact_streams(int64_t rows, int64_t experts) { return exact_tile_rows(rows, experts) <= kFewExactRows; }

// As launch_exact(), with tiles of exact_tile_rows().
void launch_exact(const Product& p, const RowTiles& tiles, uint32_t instruction, const Launch& on);

// dx[r] = dy[r]·W[e], rows past the last offset zero; x and y of the product are dy [rows, weight->rows] and dx [rows, columns].
int transposed_tile_rows(int64_t rows, int64_t experts);
void launch_exact_transposed(const Product& p, const RowTiles& tiles, uint32_t instruction, const Launch& on);

// What kernels take of a product.
struct ExactArguments {
  const std::byte* panels;  // of expert 0
  int64_t expert_stride;
  Places at;
  int64_t outputs;          // rows of the weight
  const float* x;           // [tokens, width]
  int64_t width, tokens;
  const int32_t* row_token;
  float* y;
  RowTiles tiles;
  uint32_t instruction;
  ErrorWord* error;
  bool whole_vectors;       // rows of x are 16-byte aligned, and width is a multiple of 4

  // The row of x that row r reads; nullptr, and a report, where its token is none.
  __device__ const float* x_row(int64_t r) const {
    const int64_t token = row_token == nullptr ? r : row_token[r];
    return in_range(error, instruction, r, token, tokens) ? x + token * width : nullptr;
  }
  // kCount values of a row of x from column k on, zero past its end. kWhole: whole_vectors.
  template <bool kWhole, int kCount>
  __device__ __forceinline__ void load_x(const float* row, int64_t k, float (&to)[kCount]) const {
    if constexpr (kWhole && kCount == 4) {
      const float4 v = k < width ? *reinterpret_cast<const float4*>(row + k) : make_float4(0, 0, 0, 0);
      to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (kWhole && kCount == 2) {
      const float2 v = k < width ? *reinterpret_cast<const float2*>(row + k) : make_float2(0, 0);
      to[0] = v.x, to[1] = v.y;
    } else {
#pragma unroll
      for (int i = 0; i < kCount; i++) to[i] = k + i < width ? row[k + i] : 0.0f;
    }
  }
};
void launch_exact_rows(Format f, const ExactArguments& a, const Launch& on);
void launch_exact_tiles(Format f, const ExactArguments& a, bool transposed, const Launch& on);

}  // namespace switchyard::cuda
