// What a block of threads of the attention kernels works on. The rows of a sequence and KV head are its queries by position,
// then head of the group, so that a decode step reads each key once for all its heads. A tile is a run of kRows of them; keys
// are walked in blocks of 64 at absolute positions. Rows past the last sequence are one more sequence, without keys.
#pragma once
#include <algorithm>

#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {

constexpr int kKeyBlock = 64;

struct AttentionProblem {
  const float* q;  // [N, H, C]
  float* y;        // [N, H, Cv]
  const int32_t* query_offsets;  // [S + 1]
  const int32_t* prefix;         // [S] or nullptr
  const float *slopes, *sinks;   // [H] or nullptr
  const float* bias;             // [H, bias_size] or nullptr
  int64_t N, bias_size, left;
  int S, H, G, C, Cv, window;
  int heads;  // of a group: H / G
  float scale, cap;
  bool causal;
  uint32_t instruction;
  ErrorWord* error;
  // The cut, from shapes alone.
  int64_t tiles;   // that all queries can fill at most
  int splits;      // of the keys of a tile
  int least;       // blocks of keys of a split
  // splits > 1: weighted values [tiles, G, splits, rows, Cv], and the largest score and the sum of each [tiles, G, splits, rows, 2]
  float *partial, *ends;

  __host__ __device__ int group() const { return heads; }
  // Of a split of a tile, in rows.
  __device__ int64_t state(int64_t tile, int g, int split, int rows) const { return ((tile * G + g) * splits + split) * rows; }
  __device__ bool terms() const { return cap > 0 || slopes != nullptr || bias != nullptr; }
};

// Queries of sequence s, or those past the last one (s = S); 0 where offsets are wrong. begin, end: offsets s and s + 1, of S the
// first alone.
__device__ inline int queries_of(const AttentionProblem& p, int s, int begin, int end) {
  if (s > p.S) return 0;
  if (s == 0 && begin != 0) {
    report(p.error, p.instruction, ErrorKind::kIndex, 0, begin, 0, 0);
    return 0;
  }
  if (s == p.S) return static_cast<int>(p.N - min(int64_t{max(begin, 0)}, p.N));
  if (begin < 0 || begin > p.N) return 0;  // reported as the end of the sequence before
  if (end >= begin && end <= p.N) return end - begin;
  report(p.error, p.instruction, ErrorKind::kIndex, s + 1, end, begin, p.N);
  return 0;
}

struct AttentionTile {
  int sequence = -1;  // -1: none is left
  int queries;
  int64_t first;      // row of the sequence and KV head
  int64_t token;      // of the first query of the sequence
  int length;         // keys of the sequence, as find_tile read it
};

// Tile `index` of kRows rows. The last tiles of a sequence, which see most keys under a causal mask, come first. Called by whole
// warps. lengths: [S] or nullptr, read along with the offsets.
template <int kRows>
__device__ AttentionTile find_tile(const AttentionProblem& p, int64_t index, const int32_t* lengths = nullptr) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int base = 0; base <= p.S; base += 32) {
    const int s = base + lane;
    const int begin = s <= p.S ? p.query_offsets[s] : 0, next = s < p.S ? p.query_offsets[s + 1] : 0;
    const int length = s < p.S && lengths != nullptr ? lengths[s] : 0;
    const int queries = queries_of(p, s, begin, next);
    // No more than 2^30 rows, and wrong offsets can count all of them for every other lane: 16 · 2^30 / 8 tiles.
    const uint32_t own = (static_cast<uint32_t>(queries * p.group()) + kRows - 1) / kRows, end = warp_scan(own);
    const unsigned beyond = __ballot_sync(kAllLanes, end > index);
    if (beyond == 0) {
      index -= __shfl_sync(kAllLanes, end, 31);
      continue;
    }
    const int at = __ffs(static_cast<int>(beyond)) - 1;
    AttentionTile tile;
    tile.sequence = base + at;
    tile.queries = __shfl_sync(kAllLanes, queries, at);
    tile.first = (int64_t{__shfl_sync(kAllLanes, end, at)} - 1 - index) * kRows;
    const int token = __shfl_sync(kAllLanes, begin, at);
    tile.token = tile.sequence < p.S ? token : p.N - tile.queries;
    tile.length = __shfl_sync(kAllLanes, length, at);
    return tile;
  }
  return {};
}

// What rows see of the keys of a sequence: [0, prefix) and [low, high).
struct SeenKeys {
  int prefix, low, high;
  __device__ bool sees(int key) const { return (key < prefix) | ((key >= low) & (key < high)); }
};

// `at`: the position of the query; `length`: keys of the sequence.
__device__ inline SeenKeys seen_by(const AttentionProblem& p, int sequence, int length, int at) {
  SeenKeys r;
  r.low = p.window > 0 && at >= p.window ? at - p.window + 1 : 0;
  r.high = p.causal ? min(max(at, -1) + 1, length) : length;
  r.prefix = 0;
  if (p.prefix != nullptr && sequence < p.S) {
    const int prefix = p.prefix[sequence];
    if (prefix < 0) report(p.error, p.instruction, ErrorKind::kIndex, sequence, prefix, 0, INT32_MAX);
    r.prefix = min(max(prefix, 0), length);
  }
  return r;
}

// The blocks of keys of a tile: those of the prefix, then those of the rest, cut into even runs for the splits.
struct KeyWalk {
  SeenKeys all;    // of the rows together
  SeenKeys every;  // what each of the rows sees
  int length, first_position;  // keys of the sequence; position of its first query
  int front, jump, count;      // blocks [0, front) and from front + jump on
  int per_split;

  __device__ int used() const { return (count + per_split - 1) / per_split; }
  __device__ int base(int i) const { return (i < front ? i : i + jump) * kKeyBlock; }
  // Whether each row sees all keys of the block.
  __device__ bool whole(int base) const {
    return base <= every.prefix - kKeyBlock || (base >= every.low && base <= every.high - kKeyBlock);
  }
};

template <int kRows>
__device__ KeyWalk walk_of(const AttentionProblem& p, const AttentionTile& tile, int length) {
  KeyWalk w;
  w.length = length, w.first_position = length - tile.queries;
  const int64_t last = min(tile.first + kRows, int64_t{tile.queries} * p.group()) - 1;
  const auto of_row = [&](int64_t row) {
    return seen_by(p, tile.sequence, length, w.first_position + static_cast<int>(row) / p.group());
  };
  const SeenKeys top = of_row(tile.first), bottom = of_row(last);
  w.all = top, w.all.high = bottom.high;
  w.every = top, w.every.low = bottom.low;
  w.front = (top.prefix + kKeyBlock - 1) / kKeyBlock;
  const int from = max(w.front, top.low / kKeyBlock), to = (bottom.high + kKeyBlock - 1) / kKeyBlock;
  w.jump = from - w.front;
  w.count = w.front + (bottom.high > top.low ? max(0, to - from) : 0);
  w.per_split = max(p.least, (w.count + p.splits - 1) / p.splits);
  return w;
}

// e^x for x ≤ 0; NaN stays.
__device__ inline float exp_of_falling(float x) { return expf(x); }
// 2^x, off by 2^-22 of it; results below 2^-126 are 0.
__device__ inline float exp2_fast(float x) {
#if defined(SWITCHYARD_EMULATED)
  return std::exp2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
// What is taken off the scores: a row without a score above -inf has no maximum.
__device__ inline float finite_top(float top) { return top == -INFINITY ? 0.0f : top; }

// By what the weighted values are multiplied in the end. sinks: one score more, without a value.
__device__ inline float last_factor(const AttentionProblem& p, int head, float top, float sum) {
  float factor = 1.0f;
  if (p.sinks != nullptr) {
    const float sink = p.sinks[head], both = finite_top(sink > top ? sink : top);
    factor = exp_of_falling(top - both);
    sum = sum * factor + exp_of_falling(sink - both);
  }
  return sum == 0.0f ? 0.0f : factor / sum;
}

// A score as the softmax meets it; distance = key position - query position.
__device__ inline float changed_score(const AttentionProblem& p, int head, int distance, float s) {
  if (p.cap > 0) s = tanhf(s / p.cap) * p.cap;
  if (p.slopes != nullptr) s = fmaf(p.slopes[head], static_cast<float>(distance), s);
  if (p.bias != nullptr) s += p.bias[head * p.bias_size + min(max(distance + p.left, int64_t{0}), p.bias_size - 1)];
  return s;
}

}  // namespace switchyard::cuda
