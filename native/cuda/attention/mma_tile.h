// Attention over caches of 16-bit floats by the tensor cores (after FlashAttention-2, arXiv 2307.08691, section 3): blocks of 64
// keys are copied to shared memory while the block before is worked on, scores and weights stay in registers.
//
// Keys lie channel after channel and values row after row, so both are read as the second factor through transposed matrices.
// Two ways to give the warps work: prompts, where each of four or eight has 16 rows of its own and all keys; and steps, where four
// have the same rows and a quarter of each block of keys, merged at the end. Two ways to round what is f32, queries and weights:
// - rounded: to the type of the cache, 16 rows a product;
// - precise: as a sum of two such numbers, in rows r and r + 8 of the same product, whose outputs stand in the same lane: 16 bits
//   of bf16, 22 of f16, with 8 rows a product. A value that is infinite gives NaN.
#pragma once
#include "cuda/attention/mma_stage.h"
#include "cuda/device/mma.h"

namespace switchyard::cuda {

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
// Weights of f16 are 2^14 times as large: small ones stay above the subnormal numbers.
template <class T>
constexpr float kWeightShift = std::is_same_v<T, Half> ? 14.0f : 0.0f;
template <class T>
constexpr float kWeightUnit = std::is_same_v<T, Half> ? 0x1p-14f : 1.0f;

// e^x is 2^(x·log2 e), and scores are counted in that from the start.
constexpr float kLog2e = 1.44269504f, kLn2 = 0.693147181f;

// The address that a lane gives for 16 × 16 numbers at (row, column) of a table: matrices by rows first.
__device__ inline const std::byte* matrix_row(const std::byte* table, int stride, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return table + (row + lane % 16) * stride + (column + lane / 16 * 8) * 2;
}

// Grid: tiles, KV heads, splits. kWidth: channels at most; kExact: of keys and of values just so many. Started early.
template <class T, bool kPrecise, bool kSteps, int kWarps, int kWidth, bool kExact, int kStages>
__global__ __launch_bounds__(32 * kWarps, kWarps == 8 ? 1 : kSteps && kStages == 2 && kWidth <= 128 ? 3 : 2) void attention_mma(AttentionProblem p, PagedKeys<T> keys) {
  constexpr int kProduct = kPrecise ? 8 : 16, kRows = kSteps ? kProduct : kProduct * kWarps;
  constexpr int kLaneRows = kProduct / 8, kKeyTiles = kSteps ? 2 : 8;
  begin_overlapped();
  const AttentionTile tile = find_tile<kRows>(p, blockIdx.x, keys.lengths);
  if (tile.sequence < 0) return;
  const int g = static_cast<int>(blockIdx.y), group = p.group(), s = tile.sequence, split = static_cast<int>(blockIdx.z);
  const KeyWalk walk = walk_of<kRows>(p, tile, keys.length(p, tile));
  if (p.splits > 1 && split >= walk.used()) return;
  const int begin = split * walk.per_split, end = min(begin + walk.per_split, walk.count);
  // Whether keys that a row sees may be hidden from another.
  const bool ragged = walk.all.low != walk.every.low || walk.all.high != walk.every.high;

  SWITCHYARD_SHARED(memory);
  const int C = kExact ? kWidth : p.C, Cv = kExact ? kWidth : p.Cv;
  const MmaShared at = mma_shared(kSteps ? 16 : 16 * kWarps, C, Cv, kStages);
  float* const scales = reinterpret_cast<float*>(memory + at.scales);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int first_row = kSteps ? 0 : warp * kProduct, first_key = kSteps ? warp * 16 : 0;
  const std::byte* const queries = memory + (kSteps ? 0 : warp * 16) * mma_stride(C);
  FoundBlocks<T> found{keys, p, walk, s, g, end};
  const auto stage_of = [&](int block) { return memory + at.stages + (block - begin) % kStages * at.stage; };
  const auto copy = [&](int block) {
    const int of_eight = (block - begin) % 8;
    if (of_eight == 0) found.find(block);
    if (block < end) {
      copy_block<32 * kWarps, kExact ? kWidth : 0>(found, of_eight, walk.base(block), C, Cv, stage_of(block), stage_of(block) + at.values);
    }
    copy_commit();
  };

  found.read_table(begin);
  for (int i = 0; i < kStages - 1; i++) copy(begin + i);
  stage_mma_queries<T, kPrecise, kRows, kWarps, kWidth>(p, tile, g, C, memory, scales);

  SeenKeys seen[kLaneRows];
  int head[kLaneRows], position[kLaneRows];
  float top[kLaneRows], sum[kLaneRows], out[kWidth / 8][4] = {};
#pragma unroll
  for (int i = 0; i < kLaneRows; i++) {
    const int row = static_cast<int>(tile.first) + first_row + 8 * i + lane / 4;  // past the last row: not written in the end
    head[i] = g * group + row % group;
    position[i] = walk.first_position + row / group;
    seen[i] = seen_by(p, s, walk.length, position[i]);
    top[i] = -INFINITY, sum[i] = 0;
  }

  for (int block = begin; block < end; block++) {
    copy_wait<kStages - 2>();
    __syncthreads();  // the block has come, the one before is done with
    copy(block + kStages - 1);
    const int base = walk.base(block);
    const std::byte *const k = stage_of(block), *const v = k + at.values;

    // Of even and odd products apart where there are few of them, so that they need not wait for each other.
    constexpr int kChains = kSteps && kExact ? 2 : 1;
    float score[kKeyTiles][4] = {}, odd[kKeyTiles][4] = {};
#pragma unroll(kExact ? kWidth / 16 : 2)
    for (int c = 0; c < C; c += 16) {
      uint32_t a[4];
      ldmatrix(a, matrix_row(queries, mma_stride(C), 0, c));
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) {
        uint32_t b[4];
        ldmatrix_transposed(b, matrix_row(k, kMmaKeyStride, c, first_key + 8 * n));
        auto& to = c / 16 % kChains == 0 ? score : odd;
        mma16<T>(to[n], a, b[0], b[1]);
        mma16<T>(to[n + 1], a, b[2], b[3]);
      }
    }
    if constexpr (kPrecise) {  // of a row's two parts
#pragma unroll
      for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) score[n][e] = (score[n][e] + odd[n][e]) + (score[n][2 + e] + odd[n][2 + e]);
      }
    }

    const bool whole = walk.whole(base), terms = p.terms();
    const auto key_at = [&](int n, int e) { return base + first_key + 8 * n + lane % 4 * 2 + e; };
    const auto each = [&](const auto& change) {
#pragma unroll
      for (int i = 0; i < kLaneRows; i++) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
          for (int e = 0; e < 2; e++) change(i, n, e, score[n][2 * i + e]);
        }
      }
    };
    float scale[kLaneRows];
#pragma unroll
    for (int i = 0; i < kLaneRows; i++) scale[i] = scales[first_row + 8 * i + lane / 4];
    if (terms) {
      each([&](int i, int n, int e, float& x) { x = changed_score(p, head[i], key_at(n, e) - position[i], x * scale[i]) * kLog2e; });
    } else {
      each([&](int i, int, int, float& x) { x *= scale[i] * kLog2e; });
    }
    if (!whole) {
      each([&](int i, int n, int e, float& x) { x = seen[i].sees(key_at(n, e)) ? x : -INFINITY; });
    }
#pragma unroll
    for (int i = 0; i < kLaneRows; i++) {
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < kKeyTiles; n++) most = fmaxf(most, fmaxf(score[n][2 * i], score[n][2 * i + 1]));
      most = warp_reduce<4>(most, [](float a, float b) { return fmaxf(a, b); });
      const float now = fmaxf(top[i], most), off = finite_top(now), factor = exp2_fast(top[i] - off);
      top[i] = now;
      sum[i] *= factor;
#pragma unroll
      for (int n = 0; n < kWidth / 8; n++) {
        out[n][2 * i] *= factor, out[n][2 * i + 1] *= factor;
        if (kPrecise) out[n][2] *= factor, out[n][3] *= factor;
      }
      const float shift = kWeightShift<T> - off;
#pragma unroll
      for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const float x = exp2_fast(score[n][2 * i + e] + shift);
          score[n][2 * i + e] = x;
          sum[i] += x;
        }
      }
    }

    if (!whole && ragged && any_not_finite<32 * kWarps, T>(v, Cv, reinterpret_cast<int*>(memory + at.flag))) {
      // A weight of 0 does not hide a value that is not finite: those of hidden keys are not multiplied.
      for (int t = 0; t < 4; t++) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; n++) {
#pragma unroll
          for (int e = 0; e < 2 * kLaneRows; e++) {
            const float x = __shfl_sync(kAllLanes, score[n][e], lane / 4 * 4 + t);
            const T* row = reinterpret_cast<const T*>(v + (first_key + 8 * n + 2 * t + e % 2) * mma_stride(Cv)) + lane % 4 * 2;
#pragma unroll
            for (int m = 0; m < kWidth / 8; m++) {
              if (8 * m >= Cv || x == 0.0f) continue;
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
          if (8 * m >= Cv) break;
          uint32_t b[4];
          ldmatrix_transposed(b, matrix_row(v, mma_stride(Cv), first_key + 8 * n, 8 * m));
          mma16<T>(out[m], a, b[0], b[1]);
          mma16<T>(out[m + 1], a, b[2], b[3]);
        }
      }
    }
  }

  if constexpr (kPrecise) {
#pragma unroll
    for (int m = 0; m < kWidth / 8; m++) out[m][0] += out[m][2], out[m][1] += out[m][3];
  }
#pragma unroll
  for (int i = 0; i < kLaneRows; i++) sum[i] = warp_reduce<4>(sum[i], Add()) * kWeightUnit<T>;

  // Where a row's outputs go, and by what they are multiplied.
  const auto close = [&](int r, float row_top, float row_sum, float* factor) -> float* {
    const int row = static_cast<int>(tile.first) + r;
    if (row >= tile.queries * group) return nullptr;
    const int h = g * group + row % group;
    row_top *= kLn2;
    if (p.splits == 1) {
      *factor = last_factor(p, h, row_top, row_sum);
      return p.y + ((tile.token + row / group) * p.H + h) * Cv;
    }
    const int64_t state = p.state(blockIdx.x, g, split, kRows) + r;
    p.ends[2 * state] = row_top, p.ends[2 * state + 1] = row_sum, *factor = 1.0f;
    return p.partial + state * Cv;
  };

  if constexpr (kSteps) {
    static_assert(kPrecise);
    // The warps' states of the 8 rows, merged in order of warps.
    float* const tops = scales;  // [4, 8] and sums [4, 8], from here over the stages
    float* const sums = tops + kWarps * 8;
    float* const states = sums + kWarps * 8;  // [4, 8, Cv]
    __syncthreads();
    if (lane % 4 == 0) tops[warp * 8 + lane / 4] = top[0], sums[warp * 8 + lane / 4] = sum[0];
#pragma unroll
    for (int m = 0; m < kWidth / 8; m++) {
      if (8 * m >= Cv) break;
      float* to = states + (warp * 8 + lane / 4) * Cv + 8 * m + lane % 4 * 2;
      to[0] = out[m][0] * kWeightUnit<T>, to[1] = out[m][1] * kWeightUnit<T>;
    }
    __syncthreads();
    for (int r = warp; r < kRows; r += kWarps) {
      float row_top = -INFINITY, row_sum = 0, by[kWarps], factor;
#pragma unroll
      for (int w = 0; w < kWarps; w++) row_top = fmaxf(row_top, tops[w * 8 + r]);
#pragma unroll
      for (int w = 0; w < kWarps; w++) {
        by[w] = exp2_fast(tops[w * 8 + r] - finite_top(row_top));
        row_sum = fmaf(sums[w * 8 + r], by[w], row_sum);
      }
      float* to = close(r, row_top, row_sum, &factor);
      for (int c = lane; to != nullptr && c < Cv; c += 32) {
        float x = 0;
#pragma unroll
        for (int w = 0; w < kWarps; w++) x = fmaf(states[(w * 8 + r) * Cv + c], by[w], x);
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
        if (8 * m >= Cv) break;
        to[8 * m + lane % 4 * 2] = out[m][2 * i] * factor, to[8 * m + lane % 4 * 2 + 1] = out[m][2 * i + 1] * factor;
      }
    }
  }
}

}  // namespace switchyard::cuda
