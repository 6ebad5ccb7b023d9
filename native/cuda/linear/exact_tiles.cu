// f32 products of many rows: a block makes BM rows × 128 columns of y. Slabs of the weight are decoded into shared memory as
// [32][128] floats, slabs of x lie beside them as [BM][32]; every sum is one chain of multiply-adds in the order of the CPU's.
// Forwards a slab is 8 panels × 32 values of k; backwards it is 2 panels, 32 rows of the weight, × 128 columns.
#include "cuda/linear/exact.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 128;
constexpr int kSlab = 32;
// Distances in floats: threads of a warp that read or write together meet different banks.
constexpr int kXDistance = kSlab + 4, kWDistance = kColumns + 4;

// fn.template operator()<codec>() for a format, in a kernel.
template <int kFrom = 0, class Fn>
__device__ __forceinline__ void in_codec(Format f, const Fn& fn) {
  if constexpr (kFrom < kFormatCount) {
    constexpr Format kCodec = static_cast<Format>(kFrom);
    if constexpr (codec_of(kCodec) == kCodec) {
      if (f == kCodec) return fn.template operator()<kCodec>();
    }
    in_codec<kFrom + 1>(f, fn);
  }
}

struct Slab {
  const std::byte* panels;  // of the expert
  const Places& at;
  int64_t panel_count, chunks;
  int64_t column;           // the block's first output, or first column backwards
};

// A unit of `panel` in `chunk`, run by run: put(k in the chunk, lane of the panel, values). Zeros where there is no such unit.
template <Format f, class Put>
__device__ __forceinline__ void each_run(const Slab& s, int64_t panel, int64_t chunk, int unit, int quad, const Put& put) {
  using C = Codec<f>;
  const bool inside = panel < s.panel_count && chunk * C::kUnits + unit < units_of<f>(s.at.columns);
  Unit<f> u{};
  ScaleWords<f> scales{};
  if (inside) {
    const std::byte* start = s.panels + panel * s.at.bytes;
    u = load_unit<f>(start + chunk * C::kChunkBytes, unit, quad);
    scales = load_scales<f>(start, s.at, chunk, quad);
  }
#pragma unroll
  for (int run = 0; run < C::kRuns; run++) {
    float w[4][C::kRun] = {};
    if (inside) decode<f>(u, scales, unit, run, w);
    put(first_k<f>(unit, run), w);
  }
}

// w [k][output]: chunk `slab` of 8 panels. A warp takes a unit of each.
template <Format f>
__device__ void decode_forwards(const Slab& s, int64_t slab, float* w) {
  using C = Codec<f>;
  const int lane = static_cast<int>(threadIdx.x) % 32, quad = lane % 4, panel = lane / 4;
  for (int unit = static_cast<int>(threadIdx.x) / 32; unit < C::kUnits; unit += kThreads / 32) {
    each_run<f>(s, s.column / kPanel + panel, slab, unit, quad, [&](int k, const float (&v)[4][C::kRun]) {
#pragma unroll
      for (int i = 0; i < C::kRun; i++) {
        *reinterpret_cast<float4*>(w + (k + i) * kWDistance + kPanel * panel + 4 * quad) =
            make_float4(v[0][i], v[1][i], v[2][i], v[3][i]);
      }
    });
  }
}

// w [row of the weight][column]: 4 chunks of panels 2·slab and 2·slab + 1, a warp each.
template <Format f>
__device__ void decode_backwards(const Slab& s, int64_t slab, float* w) {
  using C = Codec<f>;
  constexpr int kSide = C::kUnits < 8 ? C::kUnits : 8;  // units beside each other in a warp
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int panel = warp / 4, chunk = warp % 4, quad = lane / kSide;
  if (quad >= 4) return;
  for (int unit = lane % kSide; unit < C::kUnits; unit += kSide) {
    each_run<f>(s, 2 * slab + panel, s.column / kChunk + chunk, unit, quad, [&](int k, const float (&v)[4][C::kRun]) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float* to = w + (kPanel * panel + 4 * quad + i) * kWDistance + kChunk * chunk + k;
        if constexpr (C::kRun == 4) {
          *reinterpret_cast<float4*>(to) = make_float4(v[i][0], v[i][1], v[i][2], v[i][3]);
        } else {
#pragma unroll
          for (int j = 0; j < C::kRun; j++) to[j] = v[i][j];
        }
      }
    });
  }
}

template <int BM, bool kBackwards>
__global__ void __launch_bounds__(kThreads, 2) tiles_kernel(Format format, ExactArguments a, int64_t columns) {
  constexpr int kRows = BM / 16;  // of a thread
  __align__(16) __shared__ float x_slab[BM * kXDistance];
  __align__(16) __shared__ float w_slab[kSlab * kWDistance];
  __shared__ const float* rows[BM];
  const RowTile tile = a.tiles.at(blockIdx.x % a.tiles.bound);
  const int64_t column = blockIdx.x / a.tiles.bound * kColumns;
  if (tile.rows == 0) return;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  // A warp makes 4 of 16 rows by 8 of 16 quads of columns.
  const int tx = warp % 2 * 8 + lane % 8, ty = warp / 2 * 4 + lane / 8;
  float sums[kRows][8] = {};
  if (tile.expert >= 0) {
    for (int i = thread; i < BM; i += kThreads) rows[i] = i < tile.rows ? a.x_row(tile.first + i) : nullptr;
    __syncthreads();
    const Slab s{a.panels + tile.expert * a.expert_stride, a.at, (a.outputs + kPanel - 1) / kPanel,
                 (a.at.columns + kChunk - 1) / kChunk, column};
    for (int64_t slab = 0; slab * kSlab < a.width; slab++) {
      for (int i = thread / 8; i < BM; i += kThreads / 8) {
        const int64_t k = slab * kSlab + thread % 8 * 4;
        float v[4] = {};
        if (rows[i] != nullptr) a.whole_vectors ? a.load_x<true>(rows[i], k, v) : a.load_x<false>(rows[i], k, v);
        *reinterpret_cast<float4*>(x_slab + i * kXDistance + thread % 8 * 4) = make_float4(v[0], v[1], v[2], v[3]);
      }
      in_codec(format, [&]<Format f>() {
        if constexpr (kBackwards) decode_backwards<f>(s, slab, w_slab);
        else decode_forwards<f>(s, slab, w_slab);
      });
      __syncthreads();
#pragma unroll 1
      for (int k = 0; k < kSlab; k += 4) {
        float x[kRows][4];
#pragma unroll
        for (int i = 0; i < kRows; i++) {
          const float4 v = *reinterpret_cast<const float4*>(x_slab + (16 * i + ty) * kXDistance + k);
          x[i][0] = v.x, x[i][1] = v.y, x[i][2] = v.z, x[i][3] = v.w;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const float4 left = *reinterpret_cast<const float4*>(w_slab + (k + j) * kWDistance + 4 * tx);
          const float4 right = *reinterpret_cast<const float4*>(w_slab + (k + j) * kWDistance + kColumns / 2 + 4 * tx);
          const float w[8] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
#pragma unroll
          for (int i = 0; i < kRows; i++) {
#pragma unroll
            for (int c = 0; c < 8; c++) sums[i][c] = __fmaf_rn(x[i][j], w[c], sums[i][c]);
          }
        }
      }
      __syncthreads();
    }
  }
  const bool whole = columns % 4 == 0;
#pragma unroll
  for (int i = 0; i < kRows; i++) {
    const int row = 16 * i + ty;
    if (row >= tile.rows) continue;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64_t first = column + half * (kColumns / 2) + 4 * tx;
      float* y = a.y + (tile.first + row) * columns + first;
      const float* v = sums[i] + 4 * half;
      if (whole && first < columns) {
        *reinterpret_cast<float4*>(y) = make_float4(v[0], v[1], v[2], v[3]);
      } else {
#pragma unroll
        for (int c = 0; c < 4; c++) {
          if (first + c < columns) y[c] = v[c];
        }
      }
    }
  }
}

template <int BM>
void launch_tiles_of(Format f, const ExactArguments& a, bool transposed, const Launch& on) {
  const int64_t columns = transposed ? a.at.columns : a.outputs;
  const dim3 grid(static_cast<unsigned>((columns + kColumns - 1) / kColumns * a.tiles.bound));
  if (transposed) launch(tiles_kernel<BM, true>, grid, kThreads, 0, on, f, a, columns);
  else launch(tiles_kernel<BM, false>, grid, kThreads, 0, on, f, a, columns);
}

}  // namespace

void launch_exact_tiles(Format format, const ExactArguments& a, bool transposed, const Launch& on) {
  const Format f = codec_of(format);
  if (a.tiles.per_tile == kSmallTile) launch_tiles_of<kSmallTile>(f, a, transposed, on);
  else launch_tiles_of<kLargeTile>(f, a, transposed, on);
}

}  // namespace switchyard::cuda
