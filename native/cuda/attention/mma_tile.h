// Attention over caches of 16-bit floats by the tensor cores (after FlashAttention-2, arXiv 2307.08691, section 3): blocks of 64
// keys are copied to shared memory while the block before is worked on, scores and weights stay in registers.
//
// Keys lie channel after channel and values row after row, so both are read as the second factor through transposed matrices.
// Two ways to give the four warps work: prompts, where each has 16 rows of its own and all keys; and steps, where all have the
// same rows and a quarter of each block of keys, merged at the end. Two ways to round what is f32, queries and weights:
// - rounded: to the type of the cache, 16 rows a product;
// - precise: as a sum of two such numbers, in rows r and r + 8 of the same product, whose outputs stand in the same lane: 16 bits
//   of bf16, 22 of f16, with 8 rows a product. A value that is infinite gives NaN.
#pragma once
#include "cuda/attention/keys.h"
#include "cuda/device/async.h"
#include "cuda/device/mma.h"

namespace switchyard::cuda {

constexpr int kMmaThreads = 128, kMmaWarps = 4;
constexpr int kMostMmaWidth = 256;  // channels of keys and of values

template <class T>
__device__ inline void mma16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t b[2] = {b0, b1};
  if constexpr (std::is_same_v<T, Half>) {
    mma_f16(d, a, b);
  } else {
    mma_bf16(d, a, b);
  }
}
// Two floats as words of T: rounded, and what rounding left.
template <class T>
__device__ inline uint32_t pack16(float low, float high) {
  return uint32_t{from_float<T>(low).bits} | uint32_t{from_float<T>(high).bits} << 16;
}
template <class T>
__device__ inline float rest16(float x) {
  return x - to_float(from_float<T>(x));
}

// Weights of f16 are 2^14 times as large: small ones stay above the subnormal numbers.
template <class T>
constexpr float kWeightShift = std::is_same_v<T, Half> ? 14.0f : 0.0f;
template <class T>
constexpr float kWeightUnit = std::is_same_v<T, Half> ? 0x1p-14f : 1.0f;

// Rows of 16-byte pieces, an odd number of them apart, so that eight rows of a matrix lie in different banks.
constexpr int kMmaKeyStride = kKeyBlock * 2 + 16;
__host__ __device__ constexpr int mma_stride(int width) { return width * 2 + 16; }

struct MmaShared {
  int scales, stages, values, stage, total;  // in bytes; queries come first, values after the keys of a stage
};
template <bool kPrecise, bool kSteps>
__host__ __device__ inline MmaShared mma_shared(int C, int Cv, int stages) {
  constexpr int kProductRows = kSteps ? 16 : 16 * kMmaWarps;
  MmaShared s;
  s.scales = kProductRows * mma_stride(C);
  s.stages = s.scales + kProductRows * 4;
  s.values = C * kMmaKeyStride;
  s.stage = s.values + kKeyBlock * mma_stride(Cv);
  s.total = s.stages + stages * s.stage;
  return s;
}

// Queries as T. Those for f16 are divided by the power of two of their row's largest, which goes into the scale of the scores.
template <class T, bool kPrecise, int kRows>
__device__ void stage_mma_queries(const AttentionProblem& p, const AttentionTile& tile, int g, std::byte* to, float* scales) {
  const int lane = static_cast<int>(threadIdx.x) % 32, group = p.group();
  const int64_t rows = int64_t{tile.queries} * group - tile.first;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < kRows; r += kMmaWarps) {
    const int64_t row = tile.first + r;
    const float* from = p.q + ((tile.token + row / group) * p.H + g * group + row % group) * p.C;
    float factor = 1.0f, unit = 1.0f;
    if constexpr (std::is_same_v<T, Half>) {
      float most = 0;
      for (int c = lane; r < rows && c < p.C; c += 32) most = fmaxf(most, fabsf(from[c]));
      most = warp_reduce(most, [](float a, float b) { return fmaxf(a, b); });
      const uint32_t exponent = __float_as_uint(most) & 0x7f800000u;
      if (exponent != 0 && exponent < 0x7f000000u) {
        unit = __uint_as_float(exponent), factor = __uint_as_float(0x7f000000u - exponent);
      }
    }
    const int at = kPrecise ? r / 8 * 16 + r % 8 : r;
    if (lane == 0) scales[r] = unit * p.scale;
    T* high = reinterpret_cast<T*>(to + at * mma_stride(p.C));
    T* low = reinterpret_cast<T*>(to + (at + 8) * mma_stride(p.C));
    for (int c = lane; c < p.C; c += 32) {
      const float x = r < rows ? from[c] * factor : 0.0f;
      high[c] = from_float<T>(x);
      if constexpr (kPrecise) low[c] = from_float<T>(rest16<T>(x));
    }
  }
}

// Asks for a block of keys and values; zeros for values that no row sees.
template <class T>
__device__ void copy_block(const PagedKeys<T>& keys, const AttentionProblem& p, const FoundVector* found, const SeenKeys& seen,
                           int base, std::byte* to_keys, std::byte* to_values) {
  for (int i = static_cast<int>(threadIdx.x); i < p.C * 8; i += kMmaThreads) {
    const int c = i / 8, piece = i % 8;
    const std::byte* from = found[piece / 2].k;
    const int64_t at = (int64_t{c} * keys.size + piece % 2 * 8) * 2;
    copy_16(to_keys + c * kMmaKeyStride + piece * 16, from != nullptr ? from + at : keys.k, from != nullptr ? 16 : 0);
  }
  const int pieces = p.Cv / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kKeyBlock * pieces; i += kMmaThreads) {
    const int key = i / pieces, piece = i % pieces;
    const std::byte* from = found[key / 16].v;
    const bool there = from != nullptr && seen.sees(base + key);
    const int64_t at = (int64_t{key % 16} * p.Cv + piece * 8) * 2;
    copy_16(to_values + key * mma_stride(p.Cv) + piece * 16, there ? from + at : keys.v, there ? 16 : 0);
  }
}

// Whether some of [64, Cv] values are no finite numbers; all threads get the answer.
template <class T>
__device__ bool any_not_finite(const std::byte* values, int Cv) {
  __shared__ int found;
  constexpr uint32_t kExponent = std::is_same_v<T, Half> ? 0x7c00u : 0x7f80u;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kKeyBlock * Cv / 2; i += kMmaThreads) {
    const int key = i / (Cv / 2), pair = i % (Cv / 2);
    const uint32_t word = *reinterpret_cast<const uint32_t*>(values + key * mma_stride(Cv) + pair * 4);
    if ((word & kExponent) == kExponent || (word >> 16 & kExponent) == kExponent) atomicOr(&found, 1);
  }
  __syncthreads();
  return found != 0;
}

// The address that a lane gives for 16 × 16 numbers at (row, column) of a table: matrices by rows first.
__device__ inline const std::byte* matrix_row(const std::byte* table, int stride, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return table + (row + lane % 16) * stride + (column + lane / 16 * 8) * 2;
}

// Grid: tiles, KV heads, splits. kWidth: value columns at most.
template <class T, bool kPrecise, bool kSteps, int kWidth, int kStages>
__global__ __launch_bounds__(kMmaThreads) void attention_mma(AttentionProblem p, PagedKeys<T> keys) {
  constexpr int kProduct = kPrecise ? 8 : 16, kRows = kSteps ? kProduct : kProduct * kMmaWarps;
  constexpr int kLaneRows = kProduct / 8, kKeyTiles = kSteps ? 2 : 8;
  constexpr float kLog2e = 1.44269504f;
  const AttentionTile tile = find_tile<kRows>(p, blockIdx.x);
  if (tile.sequence < 0) return;
  const int g = static_cast<int>(blockIdx.y), group = p.group(), s = tile.sequence, split = static_cast<int>(blockIdx.z);
  const KeyWalk walk = walk_of<kRows>(p, tile, keys.length(p, s, tile.queries));
  if (p.splits > 1 && split >= walk.used()) return;
  const int begin = split * walk.per_split, end = min(begin + walk.per_split, walk.count);
  // Whether keys that a row sees may be hidden from another.
  const bool ragged = walk.all.low != walk.every.low || walk.all.high != walk.every.high;

  SWITCHYARD_SHARED(memory);
  __shared__ FoundVector found[2][4];
  const MmaShared at = mma_shared<kPrecise, kSteps>(p.C, p.Cv, kStages);
  float* const scales = reinterpret_cast<float*>(memory + at.scales);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int first_row = kSteps ? 0 : warp * kProduct, first_key = kSteps ? warp * 16 : 0;
  const std::byte* const queries = memory + (kSteps ? 0 : warp * 16) * mma_stride(p.C);
  const auto copy = [&](int block) {
    std::byte* to = memory + at.stages + (block - begin) % kStages * at.stage;
    if (block < end) copy_block(keys, p, found[block % 2], walk.all, walk.base(block), to, to + at.values);
    copy_commit();
  };
  const auto find = [&](int block) {
    if (thread < 4 && block < end) found[block % 2][thread] = find_vector(keys, p, s, g, walk.all, walk.base(block), thread);
  };

  find(begin);
  for (int i = 0; i < kStages - 1; i++) {
    __syncthreads();
    copy(begin + i);
    find(begin + i + 1);
  }
  stage_mma_queries<T, kPrecise, kRows>(p, tile, g, memory, scales);

  SeenKeys seen[kLaneRows];
  int head[kLaneRows], position[kLaneRows];
  float top[kLaneRows], sum[kLaneRows], out[kWidth / 8][4] = {};
#pragma unroll
  for (int i = 0; i < kLaneRows; i++) {
    const int64_t row = tile.first + first_row + 8 * i + lane / 4;  // past the last row: not written in the end
    head[i] = g * group + static_cast<int>(row % group);
    position[i] = walk.first_position + static_cast<int>(row / group);
    seen[i] = seen_by(p, s, walk.length, position[i]);
    top[i] = -INFINITY, sum[i] = 0;
  }

  for (int block = begin; block < end; block++) {
    copy_wait<kStages - 2>();
    __syncthreads();  // the block has come, the one before is done with
    copy(block + kStages - 1);
    const bool finds = thread < 4 && block + kStages < end;
    const int64_t entry = finds ? entry_of(keys, s, walk.all, walk.base(block + kStages), thread) : kUnseen;
    const int base = walk.base(block);
    const std::byte* const k = memory + at.stages + (block - begin) % kStages * at.stage;
    const std::byte* const v = k + at.values;

    float score[kKeyTiles][4] = {};
#pragma unroll 2
    for (int c = 0; c < p.C; c += 16) {
      uint32_t a[4];
      ldmatrix(a, matrix_row(queries, mma_stride(p.C), 0, c));
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) {
        uint32_t b[4];
        ldmatrix_transposed(b, matrix_row(k, kMmaKeyStride, c, first_key + 8 * n));
        mma16<T>(score[n], a, b[0], b[1]);
        mma16<T>(score[n + 1], a, b[2], b[3]);
      }
    }

    const bool whole = walk.whole(base), terms = p.terms();
#pragma unroll
    for (int i = 0; i < kLaneRows; i++) {
      const float scale = scales[first_row + 8 * i + lane / 4];
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int key = base + first_key + 8 * n + lane % 4 * 2 + e;
          float x = kPrecise ? score[n][e] + score[n][2 + e] : score[n][2 * i + e];
          x *= scale;
          if (terms) x = changed_score(p, head[i], key - position[i], x);
          if (!whole && !seen[i].sees(key)) x = -INFINITY;
          score[n][2 * i + e] = x;
          most = fmaxf(most, x);
        }
      }
      most = warp_reduce<4>(most, [](float a, float b) { return fmaxf(a, b); });
      const float now = fmaxf(top[i], most), off = finite_top(now), factor = exp2f((top[i] - off) * kLog2e);
      top[i] = now;
      sum[i] *= factor;
#pragma unroll
      for (int n = 0; n < kWidth / 8; n++) {
        out[n][2 * i] *= factor, out[n][2 * i + 1] *= factor;
        if (kPrecise) out[n][2] *= factor, out[n][3] *= factor;
      }
#pragma unroll
      for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const float x = exp2f(fmaf(score[n][2 * i + e] - off, kLog2e, kWeightShift<T>));
          score[n][2 * i + e] = x;
          sum[i] += x;
        }
      }
    }

    if (!whole && ragged && any_not_finite<T>(v, p.Cv)) {
      // A weight of 0 does not hide a value that is not finite: those of hidden keys are not multiplied.
      for (int t = 0; t < 4; t++) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
          for (int e = 0; e < 2 * kLaneRows; e++) {
            const float x = __shfl_sync(kAllLanes, score[n][e], lane / 4 * 4 + t);
            const T* row = reinterpret_cast<const T*>(v + (first_key + 8 * n + 2 * t + e % 2) * mma_stride(p.Cv)) + lane % 4 * 2;
#pragma unroll
            for (int m = 0; m < kWidth / 8; m++) {
              if (8 * m >= p.Cv || x == 0.0f) continue;
              out[m][e / 2 * 2] = fmaf(x, to_float(row[8 * m]), out[m][e / 2 * 2]);
              out[m][e / 2 * 2 + 1] = fmaf(x, to_float(row[8 * m + 1]), out[m][e / 2 * 2 + 1]);
            }
          }
        }
      }
    } else {
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const float* x = score[n + i];
          a[2 * i] = pack16<T>(x[0], x[1]);
          a[2 * i + 1] = kPrecise ? pack16<T>(rest16<T>(x[0]), rest16<T>(x[1])) : pack16<T>(x[2], x[3]);
        }
#pragma unroll
        for (int m = 0; m < kWidth / 8; m += 2) {
          if (8 * m >= p.Cv) break;
          uint32_t b[4];
          ldmatrix_transposed(b, matrix_row(v, mma_stride(p.Cv), first_key + 8 * n, 8 * m));
          mma16<T>(out[m], a, b[0], b[1]);
          mma16<T>(out[m + 1], a, b[2], b[3]);
        }
      }
    }
    if (finds) found[(block + kStages) % 2][thread] = vector_of(keys, p, s, g, walk.base(block + kStages), thread, entry);
  }

  if constexpr (kPrecise) {
#pragma unroll
    for (int m = 0; m < kWidth / 8; m++) out[m][0] += out[m][2], out[m][1] += out[m][3];
  }
#pragma unroll
  for (int i = 0; i < kLaneRows; i++) sum[i] = warp_reduce<4>(sum[i], Add()) * kWeightUnit<T>;

  // Where a row's outputs go, and by what they are multiplied.
  const auto close = [&](int r, float row_top, float row_sum, float* factor) -> float* {
    const int64_t row = tile.first + r;
    if (row >= int64_t{tile.queries} * group) return nullptr;
    const int h = g * group + static_cast<int>(row % group);
    if (p.splits == 1) {
      *factor = last_factor(p, h, row_top, row_sum);
      return p.y + ((tile.token + row / group) * p.H + h) * p.Cv;
    }
    float* state = p.partial + (((int64_t{blockIdx.x} * p.G + g) * p.splits + split) * kRows + r) * (2 + p.Cv);
    state[0] = row_top, state[1] = row_sum, *factor = 1.0f;
    return state + 2;
  };

  if constexpr (kSteps) {
    static_assert(kPrecise);
    // The warps' states of the 8 rows, merged in order of warps.
    float* const tops = scales;  // [4, 8] and sums [4, 8], from here over the stages
    float* const sums = tops + kMmaWarps * 8;
    float* const states = sums + kMmaWarps * 8;  // [4, 8, Cv]
    __syncthreads();
    if (lane % 4 == 0) tops[warp * 8 + lane / 4] = top[0], sums[warp * 8 + lane / 4] = sum[0];
#pragma unroll
    for (int m = 0; m < kWidth / 8; m++) {
      if (8 * m >= p.Cv) break;
      float* to = states + (warp * 8 + lane / 4) * p.Cv + 8 * m + lane % 4 * 2;
      to[0] = out[m][0] * kWeightUnit<T>, to[1] = out[m][1] * kWeightUnit<T>;
    }
    __syncthreads();
    for (int r = warp; r < kRows; r += kMmaWarps) {
      float row_top = -INFINITY, row_sum = 0, by[kMmaWarps], factor;
#pragma unroll
      for (int w = 0; w < kMmaWarps; w++) row_top = fmaxf(row_top, tops[w * 8 + r]);
#pragma unroll
      for (int w = 0; w < kMmaWarps; w++) {
        by[w] = exp_of_falling(tops[w * 8 + r] - finite_top(row_top));
        row_sum = fmaf(sums[w * 8 + r], by[w], row_sum);
      }
      float* to = close(r, row_top, row_sum, &factor);
      for (int c = lane; to != nullptr && c < p.Cv; c += 32) {
        float x = 0;
#pragma unroll
        for (int w = 0; w < kMmaWarps; w++) x = fmaf(states[(w * 8 + r) * p.Cv + c], by[w], x);
        to[c] = x * factor;
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < kLaneRows; i++) {
      float factor;
      float* to = close(first_row + 8 * i + lane / 4, top[i], sum[i], &factor);
      if (to == nullptr) continue;
      factor *= kWeightUnit<T>;
#pragma unroll
      for (int m = 0; m < kWidth / 8; m++) {
        if (8 * m >= p.Cv) break;
        to[8 * m + lane % 4 * 2] = out[m][2 * i] * factor, to[8 * m + lane % 4 * 2 + 1] = out[m][2 * i + 1] * factor;
      }
    }
  }
}

}  // namespace switchyard::cuda
