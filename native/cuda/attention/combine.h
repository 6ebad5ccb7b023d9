// The states of a tile's splits, merged in a fixed order.
#pragma once
#include "cuda/attention/keys.h"
#include "cuda/device/async.h"

namespace switchyard::cuda {

constexpr int kCombineThreads = 128, kMostSplits = 256;

// Grid: tiles, KV heads, rows of a tile. Started early: it reads the lengths while the splits are worked on, whose blocks have all
// waited for the grids before them by then. A warp has every fourth split of 128 columns.
template <class Keys, int kRows>
__global__ __launch_bounds__(kCombineThreads) void attention_combine(AttentionProblem p, Keys keys) {
  constexpr int kWarps = kCombineThreads / 32, kAhead = 4, kColumns = 4;
  __shared__ float by[kMostSplits], parts[kWarps][32 * kColumns];
  const AttentionTile tile = find_tile<kRows>(p, blockIdx.x, keys.lengths);
  const int g = static_cast<int>(blockIdx.y), group = p.group(), thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32, lane = thread % 32, row = static_cast<int>(tile.first) + static_cast<int>(blockIdx.z);
  const bool works = tile.sequence >= 0 && row < int64_t{tile.queries} * group;
  const int used = works ? walk_of<kRows>(p, tile, keys.length(p, tile)).used() : 0;
  wait_for_previous_grid();
  start_next_grid();
  if (!works) return;
  const int head = g * group + row % group;
  const int64_t first = p.state(blockIdx.x, g, 0, kRows) + blockIdx.z;
  const float* const values = p.partial + first * p.Cv;
  const float2* const ends = reinterpret_cast<const float2*>(p.ends) + first;
  float* const y = p.y + ((tile.token + row / group) * p.H + head) * p.Cv;
  // Values of four splits of this warp from `i` on.
  float x[kAhead][kColumns];
  const auto load = [&](int i, int column) {
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
#pragma unroll
      for (int c = 0; c < kColumns; c++) {
        const int split = i + a * kWarps, at = column + 32 * c + lane;
        x[a][c] = split < used && at < p.Cv ? values[int64_t{split} * kRows * p.Cv + at] : 0.0f;
      }
    }
  };

  load(warp, 0);
  float top = -INFINITY, sum = 0;
  for (int i = lane; i < used; i += 32) top = fmaxf(top, ends[int64_t{i} * kRows].x);
  top = warp_reduce(top, [](float a, float b) { return fmaxf(a, b); });
  for (int i = lane; i < used; i += 32) {
    const float2 end = ends[int64_t{i} * kRows];
    const float factor = exp_of_falling(end.x - finite_top(top));
    if (i % kWarps == warp) by[i] = factor;
    sum = fmaf(end.y, factor, sum);
  }
  sum = warp_reduce(sum, Add());
  __syncwarp();
  const float factor = last_factor(p, head, top, sum);

  for (int column = 0; column < p.Cv; column += 32 * kColumns) {
    float all[kColumns] = {};
    if (column > 0) load(warp, column);
    for (int i = warp; i < used; i += kAhead * kWarps) {
      if (i > warp) load(i, column);
#pragma unroll
      for (int a = 0; a < kAhead; a++) {
        if (i + a * kWarps >= used) break;
#pragma unroll
        for (int c = 0; c < kColumns; c++) all[c] = fmaf(x[a][c], by[i + a * kWarps], all[c]);
      }
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kColumns; c++) parts[warp][32 * c + lane] = all[c];
    __syncthreads();
    if (column + thread < p.Cv) {
      float sum_of_parts = 0;
#pragma unroll
      for (int w = 0; w < kWarps; w++) sum_of_parts += parts[w][thread];
      y[column + thread] = sum_of_parts * factor;
    }
  }
}

}  // namespace switchyard::cuda
