// What products of many rows do with their sums (see many_kernel.h). store<kN>(): a warp has its 16 rows of outputs by kN rows of
// the tile; of lane 4g + t, sums[4j + i], i < 2, belongs to output row g and the tile's row 8j + 2t + i, sums[4j + 2 + i] to
// output row g + 8. The two multiplying warpgroups have a half of staging() bytes each.
#pragma once
#include "cuda/device/store_matrix.h"
#include "cuda/linear/many_kernel.h"

namespace switchyard::cuda::many {

// What becomes of pre-activations: the rules of HiddenRule in cpu/tile.h.
enum class Rule { kNone, kSilu, kGelu, kGeluTanh, kRelu, kClamped };

// 1 / (1 + exp(-x)) to about 2^-21 of its value: what comes of it is rounded to bf16.
__device__ __forceinline__ float sigmoid(float x) {
#if defined(SWITCHYARD_EMULATED)
  return 1.0f / (1.0f + std::exp(-x));
#else
  float power, y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-1.4426950408889634f * x));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.0f + power));
  return y;
#endif
}

// f(x), or f(x)·up.
template <Rule kRule>
__device__ __forceinline__ float activate(float x) {
  if constexpr (kRule == Rule::kSilu) return x * sigmoid(x);
  if constexpr (kRule == Rule::kGelu) return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  if constexpr (kRule == Rule::kGeluTanh) {
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  }
  if constexpr (kRule == Rule::kRelu) return x > 0.0f || x != x ? x : 0.0f;
  return x;
}
template <Rule kRule>
__device__ __forceinline__ float gated(float gate, float up, float limit, float slope) {
  if constexpr (kRule == Rule::kClamped) {
    const float g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;
    return (u + 1.0f) * g * sigmoid(slope * g);
  }
  return activate<kRule>(gate) * up;
}

// Adds the biases of output rows g and g + 8.
template <int kSums>
__device__ __forceinline__ void add_biases(float (&sums)[kSums], float first, float second) {
#pragma unroll
  for (int i = 0; i < kSums; i++) sums[i] += i % 4 < 2 ? first : second;
}
__device__ inline float bias_at(const float* bias, int64_t expert, int64_t outputs, int64_t output) {
  return bias != nullptr && output < outputs ? bias[expert * outputs + output] : 0.0f;
}

// y [rows, stride]: outputs [0, columns) of each row, of which those from `outputs` on have no bias.
template <class T>
struct RowStore {
  static constexpr bool kGated = false;
  __host__ __device__ static constexpr int staging(int) { return 0; }
  T* y = nullptr;
  int64_t stride = 0;
  int columns = 0, outputs = 0;
  const float* bias = nullptr;  // [experts, outputs]
  Rule rule = Rule::kNone;

  template <int kN>
  __device__ __forceinline__ void store(float (&sums)[kN / 2], const Place<false>& place, const Begun& tile,
                                        std::byte*) const {
    if constexpr (std::is_same_v<T, float>) return store_rule<kN, Rule::kNone>(sums, place, tile);  // of plain products
    switch (rule) {
      case Rule::kSilu: return store_rule<kN, Rule::kSilu>(sums, place, tile);
      case Rule::kGelu: return store_rule<kN, Rule::kGelu>(sums, place, tile);
      case Rule::kGeluTanh: return store_rule<kN, Rule::kGeluTanh>(sums, place, tile);
      case Rule::kRelu: return store_rule<kN, Rule::kRelu>(sums, place, tile);
      default: return store_rule<kN, Rule::kNone>(sums, place, tile);
    }
  }

 private:
  template <int kN, Rule kRule>
  __device__ __forceinline__ void store_rule(float (&sums)[kN / 2], const Place<false>& place, const Begun& tile) const {
    const int output = tile.group * kGroupPanels * kPanel + place.output;
    if (output >= columns) return;
    if (bias != nullptr) {
      add_biases(sums, bias_at(bias, tile.expert, outputs, output), bias_at(bias, tile.expert, outputs, output + 1));
    }
    T* rows = y + (tile.first + 2 * place.t) * stride + output;
    const int left = tile.rows - 2 * place.t;
    if (stride % 2 == 0 && output + 1 < columns) {
      each_row<kN, kRule>(sums, rows, left, [](T* to, float first, float second) {
        if constexpr (sizeof(T) == 4) {
          *reinterpret_cast<float2*>(to) = make_float2(first, second);
        } else {
          *reinterpret_cast<uint32_t*>(to) = pack_bf16(first, second);
        }
      });
    } else {
      const bool both = output + 1 < columns;
      each_row<kN, kRule>(sums, rows, left, [both](T* to, float first, float second) {
        to[0] = from_float<T>(first);
        if (both) to[1] = from_float<T>(second);
      });
    }
  }
  // put(where, output row g's value, the next's) for those of the lane's rows of the tile that there are.
  template <int kN, Rule kRule, class Put>
  __device__ __forceinline__ void each_row(const float (&sums)[kN / 2], T* rows, int left, const Put& put) const {
#pragma unroll
    for (int j = 0; j < kN / 8; j++, rows += 8 * stride) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float first = activate<kRule>(sums[4 * j + i]), second = activate<kRule>(sums[4 * j + 2 + i]);
        if (8 * j + i < left) put(rows + i * stride, first, second);
      }
    }
  }
};

// act(gate)·up in bf16: hidden [rows, stride], where stride is a multiple of 64 that covers all groups. A warp's eight outputs
// are the 16 bytes of a row that stmatrix writes; four warps' make 64 bytes of a row.
struct HiddenStore {
  static constexpr bool kGated = true;
  static constexpr int kRowBytes = 64;
  __host__ __device__ static constexpr int staging(int rows) { return 2 * rows * kRowBytes; }
  Bf16* hidden = nullptr;
  int64_t stride = 0;
  int outputs = 0;
  const float *gate_bias = nullptr, *up_bias = nullptr;  // [experts, outputs]
  Rule rule = Rule::kSilu;
  float limit = 0, slope = 0;

  template <int kN>
  __device__ __forceinline__ void store(float (&sums)[kN / 2], const Place<true>& place, const Begun& tile,
                                        std::byte* staging) const {
    switch (rule) {
      case Rule::kClamped: return store_rule<kN, Rule::kClamped>(sums, place, tile, staging);
      case Rule::kGelu: return store_rule<kN, Rule::kGelu>(sums, place, tile, staging);
      case Rule::kGeluTanh: return store_rule<kN, Rule::kGeluTanh>(sums, place, tile, staging);
      case Rule::kRelu: return store_rule<kN, Rule::kRelu>(sums, place, tile, staging);
      default: return store_rule<kN, Rule::kSilu>(sums, place, tile, staging);
    }
  }

 private:
  // Four rows of 64 bytes take eight banks' places by turns: writes and reads of 16 bytes meet no bank twice.
  __device__ static int at(int row, int c) { return row * kRowBytes + (c ^ (row >> 1 & 3)) * 16; }

  template <int kN, Rule kRule>
  __device__ __forceinline__ void store_rule(float (&sums)[kN / 2], const Place<true>& place, const Begun& tile,
                                             std::byte* staging) const {
    constexpr int kGroupOutputs = kGroupPanels / 2 * kPanel;
    const int output = tile.group * kGroupOutputs + place.output, barrier = 1 + place.warp / 4, warp = place.warp % 4;
    if (gate_bias != nullptr || up_bias != nullptr) {
      add_biases(sums, bias_at(gate_bias, tile.expert, outputs, output), bias_at(up_bias, tile.expert, outputs, output));
    }
    std::byte* written = staging + at(place.lane, warp);
    block_barrier(barrier, 128);  // all have read what the last tile left
#pragma unroll
    for (int j = 0; j < kN / 8; j += 4) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* s = sums + 4 * (j + i);
        words[i] = pack_bf16(gated<kRule>(s[0], s[2], limit, slope), gated<kRule>(s[1], s[3], limit, slope));
      }
      store_transposed(words, written + 8 * j * kRowBytes);
    }
    block_barrier(barrier, 128);
    const int thread = 32 * warp + place.lane, row = thread / 4, c = thread % 4, left = tile.rows - row;
    const std::byte* read = staging + at(row, c);
    Bf16* to = hidden + (tile.first + row) * stride + tile.group * kGroupOutputs + place.warp / 4 * 32 + 8 * c;
#pragma unroll
    for (int j = 0; j < kN; j += 32, to += 32 * stride) {
      if (j < left) *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(read + j * kRowBytes);
    }
  }
};

}  // namespace switchyard::cuda::many
