// The states of a tile's splits, merged in order.
#pragma once
#include "cuda/attention/keys.h"
#include "cuda/device/async.h"

namespace switchyard::cuda {

constexpr int kCombineThreads = 128, kMostSplits = 256;

// Grid: tiles, KV heads, rows of a tile. Started early.
template <class Keys, int kRows>
__global__ __launch_bounds__(kCombineThreads) void attention_combine(AttentionProblem p, Keys keys) {
  __shared__ float by[kMostSplits];
  wait_for_previous_grid();
  const AttentionTile tile = find_tile<kRows>(p, blockIdx.x);
  if (tile.sequence < 0) return;
  const int g = static_cast<int>(blockIdx.y), group = p.group(), thread = static_cast<int>(threadIdx.x);
  const int64_t row = tile.first + blockIdx.z;
  if (row >= int64_t{tile.queries} * group) return;
  const KeyWalk walk = walk_of<kRows>(p, tile, keys.length(p, tile.sequence, tile.queries));
  const int used = walk.used(), head = g * group + static_cast<int>(row % group);
  const int64_t distance = int64_t{kRows} * (2 + p.Cv);
  const float* state = p.partial + ((int64_t{blockIdx.x} * p.G + g) * p.splits * kRows + blockIdx.z) * (2 + p.Cv);

  float top = -INFINITY, sum = 0;
  for (int i = thread; i < used; i += kCombineThreads) top = fmaxf(top, state[i * distance]);
  top = block_reduce<kCombineThreads>(top, [](float a, float b) { return fmaxf(a, b); });
  for (int i = thread; i < used; i += kCombineThreads) {
    by[i] = exp_of_falling(state[i * distance] - finite_top(top));
    sum = fmaf(state[i * distance + 1], by[i], sum);
  }
  sum = block_reduce<kCombineThreads>(sum, Add());  // its barriers let all see by
  const float factor = last_factor(p, head, top, sum);
  float* y = p.y + ((tile.token + row / group) * p.H + head) * p.Cv;
  for (int c = thread; c < p.Cv; c += kCombineThreads) {
    float x = 0;
#pragma unroll 16
    for (int i = 0; i < used; i++) x = fmaf(state[i * distance + 2 + c], by[i], x);
    y[c] = x * factor;
  }
}

}  // namespace switchyard::cuda
