// A block's tile of a product of plain f32 tensors (operands: tile_lines.h), in one of two ways, each with a fixed order:
//   multiply-adds   an element is one chain of fused multiply-adds over rising k, the bits of the CPU;
//   tensor cores    three products of split factors (device/mma_tf32.h), added to the sum 8 k at a time. Splitting makes NaN of
//                   infinities: a tile with an element that is not finite is computed again by multiply-adds.
#pragma once
#include <cfloat>

#include "cuda/device/mma_tf32.h"
#include "cuda/device/reduce.h"
#include "cuda/linear/tile_lines.h"

namespace switchyard::cuda {

// `count` neighbouring elements of c from `to` on, those before `end`.
template <int kCount>
__device__ inline void store(float* to, const float (&v)[kCount], int64_t left) {
  constexpr uintptr_t kBytes = 4 * kCount;
  if (left >= kCount && reinterpret_cast<uintptr_t>(to) % kBytes == 0) {
    if constexpr (kCount == 4) {
      *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
      *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; i++) {
    if (i < left) to[i] = v[i];
  }
}

// 16 × 16 threads, each of kDown × kAcross elements. Lines along the inner dimension are read 16 bytes of it at a time, and a
// thread's lines are 16 apart; lines across give 4 neighbouring rows (columns), and those are 64 apart.
template <class C, bool kAlongA, bool kAlongB>
class MultiplyAdds {
  using Steps = TileSteps<C, kAlongA, kAlongB>;
  static constexpr int kDown = C::kRows / 16, kAcross = C::kColumns / 16;

  template <bool kAlong>
  __device__ static int place(int thread, int i) {
    return kAlong ? thread + 16 * i : 4 * thread + 64 * (i / 4) + i % 4;
  }
  // v[i][s]: element k + s of the thread's line i.
  template <bool kAlong, int kStride, int kCount>
  __device__ static void read(const float* shared, int thread, int k, float (&v)[kCount][4]) {
#pragma unroll
    for (int i = 0; i < kCount; i += kAlong ? 1 : 4) {
#pragma unroll
      for (int s = 0; s < (kAlong ? 1 : 4); s++) {
        const int at = place<kAlong>(thread, i);
        const float4 q = *reinterpret_cast<const float4*>(shared + (kAlong ? at * kStride + k : (k + s) * kStride + at));
        if constexpr (kAlong) {
          v[i][0] = q.x, v[i][1] = q.y, v[i][2] = q.z, v[i][3] = q.w;
        } else {
          v[i][s] = q.x, v[i + 1][s] = q.y, v[i + 2][s] = q.z, v[i + 3][s] = q.w;
        }
      }
    }
  }

 public:
  __device__ static void write(const TileProduct& p, float* shared) {
    const int thread_down = static_cast<int>(threadIdx.x) / 16, thread_across = static_cast<int>(threadIdx.x) % 16;
    float sums[kDown][kAcross] = {};
    Steps::run(p, shared, [&](const float* a, const float* b) {
#pragma unroll 2
      for (int k = 0; k < C::kDepth; k += 4) {
        float left[kDown][4], right[kAcross][4];
        read<kAlongA, Steps::A::kStride>(a, thread_down, k, left);
        read<kAlongB, Steps::B::kStride>(b, thread_across, k, right);
#pragma unroll
        for (int s = 0; s < 4; s++) {
#pragma unroll
          for (int i = 0; i < kDown; i++) {
#pragma unroll
            for (int j = 0; j < kAcross; j++) sums[i][j] = __fmaf_rn(left[i][s], right[j][s], sums[i][j]);
          }
        }
      }
    });
#pragma unroll
    for (int i = 0; i < kDown; i++) {
      const int row = place<kAlongA>(thread_down, i);
      if (row >= p.rows) continue;
      float* c = p.c + row * p.stride;
      if constexpr (kAlongB) {
#pragma unroll
        for (int j = 0; j < kAcross; j++) {
          const int column = place<true>(thread_across, j);
          if (column < p.columns) c[column] = sums[i][j];
        }
      } else {
#pragma unroll
        for (int j = 0; j < kAcross; j += 4) {
          const int column = place<false>(thread_across, j);
          const float four[4] = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
          store(c + column, four, p.columns - column);
        }
      }
    }
  }
};

// Warps of kTilesDown × kTilesAcross tiles of the tensor cores (16 × 8). A lane's two k of a step of 8 are neighbours, which
// permutes k in both operands alike.
template <class C, bool kAlongA, bool kAlongB>
class TensorProducts {
  using Steps = TileSteps<C, kAlongA, kAlongB>;
  static constexpr int kTilesDown = C::kRows / C::kWarpsDown / 16, kTilesAcross = C::kColumns / C::kWarpsAcross / 8;
  static_assert(C::kWarpsDown * C::kWarpsAcross * 32 == kTileThreads);

  // Elements k and k + 1 of line `at`.
  template <bool kAlong, int kStride>
  __device__ static float2 pair(const float* shared, int at, int k) {
    if constexpr (kAlong) return *reinterpret_cast<const float2*>(shared + at * kStride + k);
    return make_float2(shared[k * kStride + at], shared[(k + 1) * kStride + at]);
  }

 public:
  // Whether all sums are finite; then they are written.
  __device__ static bool write(const TileProduct& p, float* shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int g = lane / 4, t = lane % 4;
    const int row = warp / C::kWarpsAcross * kTilesDown * 16 + g, column = warp % C::kWarpsAcross * kTilesAcross * 8;
    float sums[kTilesDown][kTilesAcross][4] = {};
    Steps::run(p, shared, [&](const float* a, const float* b) {
#pragma unroll
      for (int k = 0; k < C::kDepth; k += 8) {
        uint32_t b_high[kTilesAcross][2], b_low[kTilesAcross][2];
#pragma unroll
        for (int j = 0; j < kTilesAcross; j++) {
          const float2 v = pair<kAlongB, Steps::B::kStride>(b, column + 8 * j + g, k + 2 * t);
          const Tf32 x = split_tf32(v.x), y = split_tf32(v.y);
          b_high[j][0] = x.high, b_low[j][0] = x.low, b_high[j][1] = y.high, b_low[j][1] = y.low;
        }
#pragma unroll
        for (int i = 0; i < kTilesDown; i++) {
          uint32_t a_high[4], a_low[4];
#pragma unroll
          for (int h = 0; h < 2; h++) {
            const float2 v = pair<kAlongA, Steps::A::kStride>(a, row + 16 * i + 8 * h, k + 2 * t);
            const Tf32 x = split_tf32(v.x), y = split_tf32(v.y);
            a_high[h] = x.high, a_low[h] = x.low, a_high[h + 2] = y.high, a_low[h + 2] = y.low;
          }
          float d[kTilesAcross][4];
#pragma unroll
          for (int j = 0; j < kTilesAcross; j++) mma_tf32_first(d[j], a_low, b_high[j]);
#pragma unroll
          for (int j = 0; j < kTilesAcross; j++) mma_tf32(d[j], a_high, b_low[j]);
#pragma unroll
          for (int j = 0; j < kTilesAcross; j++) mma_tf32(d[j], a_high, b_high[j]);
#pragma unroll
          for (int j = 0; j < kTilesAcross; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) sums[i][j][e] += d[j][e];
          }
        }
      }
    });
    bool finite = true;
#pragma unroll
    for (int i = 0; i < kTilesDown * kTilesAcross * 4; i++) {
      finite = finite && fabsf(sums[i / (4 * kTilesAcross)][i / 4 % kTilesAcross][i % 4]) <= FLT_MAX;
    }
    if (block_reduce<kTileThreads>(finite ? 1 : 0, Smallest{}) == 0) return false;
#pragma unroll
    for (int i = 0; i < 2 * kTilesDown; i++) {
      if (row + 8 * i >= p.rows) continue;
      float* c = p.c + (row + 8 * i) * p.stride;
#pragma unroll
      for (int j = 0; j < kTilesAcross; j++) {
        const int at = column + 8 * j + 2 * t;
        const float two[2] = {sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]};
        store(c + at, two, p.columns - at);
      }
    }
    return true;
  }
};

// What a kernel's block of kTileThreads does, with tile_shared<C, …> bytes of shared memory.
template <class C, bool kAlongA, bool kAlongB>
__device__ inline void write_tile(const TileProduct& p, std::byte* shared) {
  auto* floats = reinterpret_cast<float*>(shared);
  if constexpr (C::kTensor) {
    if (TensorProducts<C, kAlongA, kAlongB>::write(p, floats)) return;
  }
  MultiplyAdds<C, kAlongA, kAlongB>::write(p, floats);
}

}  // namespace switchyard::cuda
