// Attention in f32 over any storage and any sizes: online softmax (arXiv 1805.02867, algorithm 3) by a block of 256 threads for a
// tile of rows and a span of keys.
//
// Threads stand as 16 × 16. Thread (ty, tx) has rows ty·R … ty·R + R - 1, keys 4·tx … 4·tx + 3 of a block of keys, and value
// columns 4·tx … 4·tx + 3 of every 64. The 16 threads of some rows are half a warp: weights pass between them alone.
#pragma once
#include "cuda/attention/keys.h"
#include "cuda/device/async.h"

namespace switchyard::cuda {

constexpr int kStageFloats = kKeyBlock * kKeyStride;  // 64 channels of keys, or as many values

struct TileShared {
  int stage, weights, scales, total;  // in floats; queries come first
  int channels;                       // of queries that are kept
};
// Queries are kept whole where they fit, else brought again for each block of keys.
template <int kRows>
__host__ __device__ inline TileShared tile_shared(int C) {
  TileShared s;
  s.channels = C <= 128 * 1024 / (4 * (kRows + 4)) ? C : 64;
  s.stage = s.channels * (kRows + 4);
  s.weights = s.stage + kStageFloats;
  s.scales = s.weights + kKeyBlock * (kRows + 4);
  s.total = s.scales + 2 * kKeyBlock;
  return s;
}

// Queries' channels [first, first + count) → to [count, kRows + 4].
template <int kRows>
__device__ void stage_queries(const AttentionProblem& p, const AttentionTile& tile, int g, int first, int count, float* to) {
  const int group = p.group(), first_row = static_cast<int>(tile.first), rows = tile.queries * group - first_row;
  stage_pieces<1, float>(
      count * kRows,
      [&](int i) -> const float* {
        const int r = i / count, row = first_row + r, query = row / group;
        if (r >= rows) return nullptr;
        return p.q + ((tile.token + query) * p.H + g * group + (row - query * group)) * p.C + first + i % count;
      },
      [&](int i) { return to + i % count * (kRows + 4) + i / count; });
}

template <int R>
__device__ inline void load_rows(const float* from, float (&to)[R]) {
  if constexpr (R == 4) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
  } else {
#pragma unroll
    for (int i = 0; i < R; i++) to[i] = from[i];
  }
}

// acc += weights [count, kRows + 4] · values [count, 16·V]. kMasked: weights below 0 stand for keys that the row does not see.
template <bool kMasked, int R, int V>
__device__ void add_values(const float* weights, const float* values, int count, float (&acc)[R][V]) {
  constexpr int kRows = 16 * R;
  const int tx = static_cast<int>(threadIdx.x) % 16, ty = static_cast<int>(threadIdx.x) / 16;
#pragma unroll 2
  for (int j = 0; j < count; j++) {
    float w[R];
    load_rows(weights + j * (kRows + 4) + ty * R, w);
#pragma unroll
    for (int v = 0; v < V; v += 4) {
      const float4 x = *reinterpret_cast<const float4*>(values + j * 16 * V + 16 * v + 4 * tx);
#pragma unroll
      for (int i = 0; i < R; i++) {
        if (kMasked && w[i] < 0) continue;
        acc[i][v] = fmaf(w[i], x.x, acc[i][v]), acc[i][v + 1] = fmaf(w[i], x.y, acc[i][v + 1]);
        acc[i][v + 2] = fmaf(w[i], x.z, acc[i][v + 2]), acc[i][v + 3] = fmaf(w[i], x.w, acc[i][v + 3]);
      }
    }
  }
}

// Grid: tiles, KV heads × chunks of 16·V value columns, splits. Started early.
template <class Keys, int R, int V>
__global__ __launch_bounds__(kAttentionThreads, 2) void attention_tile(AttentionProblem p, Keys keys) {
  using T = typename Keys::Element;
  constexpr int kRows = 16 * R, kWide = 16 / sizeof(T), kWidth = 16 * V, kKeysAtOnce = 4096 / kWidth;
  begin_overlapped();
  const AttentionTile tile = find_tile<kRows>(p, blockIdx.x, keys.lengths);
  if (tile.sequence < 0) return;
  const int g = static_cast<int>(blockIdx.y) % p.G, column = static_cast<int>(blockIdx.y) / p.G * kWidth, group = p.group();
  const int s = tile.sequence, split = static_cast<int>(blockIdx.z);
  const KeyWalk walk = walk_of<kRows>(p, tile, keys.length(p, tile));
  if (p.splits > 1 && split >= walk.used()) return;
  const int begin = split * walk.per_split, end = min(begin + walk.per_split, walk.count);

  SWITCHYARD_SHARED(memory);
  __shared__ FoundVector found[2][4];
  const TileShared at = tile_shared<kRows>(p.C);
  float* const all = reinterpret_cast<float*>(memory);
  float *queries = all, *stage = all + at.stage, *weights = all + at.weights, *scales = all + at.scales;
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;

  SeenKeys seen[R];
  const auto row_of = [&](int i) { return static_cast<int>(tile.first) + ty * R + i; };
  const auto head_of = [&](int i) { return g * group + row_of(i) % group; };
  const auto position_of = [&](int i) { return walk.first_position + row_of(i) / group; };
  float top[R], sum[R], acc[R][V] = {};
#pragma unroll
  for (int i = 0; i < R; i++) {
    seen[i] = seen_by(p, s, walk.length, position_of(i));  // rows past the last one are not written in the end
    top[i] = -INFINITY, sum[i] = 0;
  }
  if (at.channels == p.C) stage_queries<kRows>(p, tile, g, 0, p.C, queries);
  if (thread < 4 && begin < end) found[begin % 2][thread] = find_vector(keys, p, s, g, walk.all, walk.base(begin), thread);

  for (int block = begin; block < end; block++) {
    const int base = walk.base(block);
    const FoundVector* const now = found[block % 2];
    __syncthreads();  // found is written, stage and weights are read
    if (thread < 4 && block + 1 < end) {
      found[(block + 1) % 2][thread] = find_vector(keys, p, s, g, walk.all, walk.base(block + 1), thread);
    }
    if (Keys::kScaled && thread < 2 * kKeyBlock) {
      const int key = thread % kKeyBlock;
      const std::byte* scale = thread < kKeyBlock ? now[key / 16].k_scale : now[key / 16].v_scale;
      scales[thread] = scale != nullptr ? scale_at(scale + key % 16 * 4) : 0.0f;
    }

    float score[R][4] = {};
    for (int first = 0; first < p.C; first += 64) {
      const int count = min(64, p.C - first);
      if (first > 0) __syncthreads();
      if (at.channels != p.C) stage_queries<kRows>(p, tile, g, first, count, queries);
      if (keys.wide_k) {
        stage_keys<kWide>(keys, p, now, walk.all, base, first, count, stage);
      } else {
        stage_keys<1>(keys, p, now, walk.all, base, first, count, stage);
      }
      __syncthreads();
      const float* const q = queries + (at.channels == p.C ? first : 0) * (kRows + 4) + ty * R;
#pragma unroll 4
      for (int c = 0; c < count; c++) {
        float x[R];
        load_rows(q + c * (kRows + 4), x);
        const float4 k = *reinterpret_cast<const float4*>(stage + c * kKeyStride + 4 * tx);
#pragma unroll
        for (int i = 0; i < R; i++) {
          score[i][0] = fmaf(x[i], k.x, score[i][0]), score[i][1] = fmaf(x[i], k.y, score[i][1]);
          score[i][2] = fmaf(x[i], k.z, score[i][2]), score[i][3] = fmaf(x[i], k.w, score[i][3]);
        }
      }
    }
    if (p.C == 0) __syncthreads();  // the scales are written

#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if constexpr (Keys::kScaled) score[i][j] *= scales[4 * tx + j];
        score[i][j] *= p.scale;
      }
    }
    float* const own = weights + 4 * tx * (kRows + 4) + ty * R;  // of key j and row i: own[j * (kRows + 4) + i]
    if (p.terms()) {
      // One by one, through shared memory: written out for each, this would take the registers of all else.
#pragma unroll
      for (int n = 0; n < 4 * R; n++) own[n % 4 * (kRows + 4) + n / 4] = score[n / 4][n % 4];
#pragma unroll 1
      for (int n = 0; n < 4 * R; n++) {
        float* const x = own + n % 4 * (kRows + 4) + n / 4;
        *x = changed_score(p, head_of(n / 4), base + 4 * tx + n % 4 - position_of(n / 4), *x);
      }
#pragma unroll
      for (int n = 0; n < 4 * R; n++) score[n / 4][n % 4] = own[n % 4 * (kRows + 4) + n / 4];
    }

    const bool whole = walk.whole(base);
#pragma unroll
    for (int i = 0; i < R; i++) {
      float most = -INFINITY;
      unsigned hidden = 0;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (!whole && !seen[i].sees(base + 4 * tx + j)) score[i][j] = -INFINITY, hidden |= 1u << j;
        most = fmaxf(most, score[i][j]);
      }
      most = warp_reduce<16>(most, [](float a, float b) { return fmaxf(a, b); });
      const float now_top = fmaxf(top[i], most), off = finite_top(now_top), factor = exp_of_falling(top[i] - off);
      top[i] = now_top;
      sum[i] *= factor;
#pragma unroll
      for (int v = 0; v < V; v++) acc[i][v] *= factor;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float x = exp_of_falling(score[i][j] - off);
        const bool hide = hidden >> j & 1;
        if (!hide) sum[i] += x;
        score[i][j] = hide ? -1.0f : Keys::kScaled ? x * scales[kKeyBlock + 4 * tx + j] : x;
      }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int i = 0; i < R; i++) own[j * (kRows + 4) + i] = score[i][j];
    }

    for (int first = 0; first < kKeyBlock; first += kKeysAtOnce) {
      constexpr int kCount = kKeysAtOnce < kKeyBlock ? kKeysAtOnce : kKeyBlock;
      __syncthreads();
      bool done = false;
      if constexpr (Keys::kPaged) {
        if (keys.v == nullptr) {
          stage_values_of_keys<kWidth>(keys, p, now, walk.all, base, first, kCount, column, stage);
          done = true;
        }
      }
      if (!done && keys.wide_v) stage_values<kWide, kWidth>(keys, p, now, walk.all, base, first, kCount, column, stage);
      if (!done && !keys.wide_v) stage_values<1, kWidth>(keys, p, now, walk.all, base, first, kCount, column, stage);
      __syncthreads();
      const float* const w = weights + first * (kRows + 4);
      whole ? add_values<false>(w, stage, kCount, acc) : add_values<true>(w, stage, kCount, acc);
    }
  }

#pragma unroll
  for (int i = 0; i < R; i++) {
    const int row = row_of(i);
    const float all_sum = warp_reduce<16>(sum[i], Add());
    if (row >= tile.queries * group) continue;
    float* to;
    float factor = 1.0f;
    if (p.splits > 1) {
      const int64_t at_row = p.state(blockIdx.x, g, split, kRows) + ty * R + i;
      if (column == 0 && tx == 0) p.ends[2 * at_row] = top[i], p.ends[2 * at_row + 1] = all_sum;
      to = p.partial + at_row * p.Cv;
    } else {
      to = p.y + ((tile.token + row / group) * p.H + head_of(i)) * p.Cv;
      factor = last_factor(p, head_of(i), top[i], all_sum);
    }
#pragma unroll
    for (int v = 0; v < V; v++) {
      const int c = column + v / 4 * 64 + 4 * tx + v % 4;
      if (c < p.Cv) to[c] = acc[i][v] * factor;
    }
  }
}

}  // namespace switchyard::cuda
