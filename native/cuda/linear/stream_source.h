// Weights in the slots of a stream (stream.h), and the operands of the tensor cores made of them. A slot brings `count` units of
// each of its panels: steps of 16 columns of float formats, chunks of 32 of block formats with what scales them.
//
// Rows g and g + 8 of the 16-row operand are lanes 2g and 2g + 1 of the panel. k is permuted so that a thread decodes whole words
// of four codes; activations have the same order (row_tiles.h).
#pragma once
#include "cuda/device/mma.h"
#include "cuda/linear/decode.h"
#include "cuda/linear/row_tiles.h"

namespace switchyard::cuda {

template <Format f>
struct StreamSource {
  using C = Codec<f>;
  static constexpr int kUnitSteps = C::kFloats ? 1 : 2;
  static constexpr int kUnitBytes = C::kFloats ? 512 : C::kChunkBytes;
  static constexpr bool kRowScale = C::kScales == ScaleKind::kRow;  // applied once, to the sums
  static constexpr int kScaleBytes = C::kFloats || kRowScale ? 0 : C::kScaleBytes;
  static constexpr TileOrder kOrder = C::kFloats ? TileOrder::kNatural : TileOrder::kByFours;

  // Of a panel, in a slot of `units` units that may start anywhere.
  __host__ __device__ static int scales_room(const Places& at, int units) {
    return kScaleBytes == 0 ? 0 : kScaleBytes * (((units - 1) >> at.scale_shift) + 2);
  }
  __host__ __device__ static int panel_room(const Places& at, int units) {
    return units * kUnitBytes + scales_room(at, units) + C::kSuperBytes * ((units - 1) / kSuperChunks + 2);
  }
};

// One area of a panel: the entries of `each` bytes that belong to units first … first + count - 1, `shift`: units of an entry.
struct Area {
  int64_t from;
  uint32_t bytes;
};
__device__ inline Area area_of(int64_t begins, int each, int first, int count, int shift) {
  const int low = first >> shift, high = (first + count - 1) >> shift;
  return {begins + int64_t{low} * each, static_cast<uint32_t>((high - low + 1) * each)};
}

// --- Block formats
// What a thread reads of a chunk: of lanes 2g and 2g + 1, the words of both steps.
template <Format f>
struct RawCodes {
  uint2 low[2], high[2];

  __device__ RawCodes(const std::byte* chunk, int g, int t) {
    using C = Codec<f>;
    const auto at = [&](int vector) { return *reinterpret_cast<const uint2*>(chunk + 64 * vector + 8 * g); };
    low[0] = at(C::kLowBits == 2 ? 0 : t);
    low[1] = C::kLowBits == 8 ? at(4 + t) : C::kLowBits == 2 ? at(1) : low[0];
    if constexpr (C::kHighBits > 0) {
      high[0] = at(C::kLowBits);
      high[1] = C::kHighBits == 2 ? at(C::kLowBits + 1) : high[0];
    }
  }
  // Four codes, of k = 16·step + 4t …, of lane 2g + row.
  __device__ uint32_t word(int step, int row, int t) const {
    using C = Codec<f>;
    uint32_t w = row == 0 ? low[step].x : low[step].y;
    if constexpr (C::kLowBits == 4) w = w >> 4 * step & 0x0f0f0f0fu;
    if constexpr (C::kLowBits == 2) w = w >> 2 * t & 0x03030303u;
    if constexpr (C::kHighBits > 0) {
      const uint32_t h = row == 0 ? high[step].x : high[step].y;
      if constexpr (C::kHighBits == 1) w |= (h >> (4 * step + t) & 0x01010101u) << C::kLowBits;
      if constexpr (C::kHighBits == 2) w |= (h >> 2 * t & 0x03030303u) << C::kLowBits;
    }
    if constexpr (C::kTable) return look_up<f>(w);
    return w;
  }
  __device__ void operand(int step, int t, uint32_t (&a)[4]) const {
    const uint2 first = code_pairs<f>(word(step, 0, t)), second = code_pairs<f>(word(step, 1, t));
    a[0] = first.x, a[1] = second.x, a[2] = first.y, a[3] = second.y;
  }
};

// sums += W·x of chunk `i` of the slot, which is chunk `chunk` of the panel; the slot's areas start at `codes`, `scales` and
// `supers` with the entries of chunk `first`. ones: Σ x over each of the chunk's steps.
template <Format f, int kTiles>
__device__ __forceinline__ void add_chunk(const Places& at, const std::byte* codes, const std::byte* scales, const std::byte* supers,
                                          int first, int i, int g, int t, const uint32_t (&x)[2][kTiles][2],
                                          const float (&ones)[2][kTiles][4], float (&sums)[kTiles][4]) {
  using S = StreamSource<f>;
  using C = Codec<f>;
  const RawCodes<f> raw(codes + i * S::kUnitBytes, g, t);
  const std::byte* scale_at = scales;
  if constexpr (S::kScaleBytes > 0) scale_at += (((first + i) >> at.scale_shift) - (first >> at.scale_shift)) * S::kScaleBytes;
  const std::byte* super_at = supers + ((first + i) / kSuperChunks - first / kSuperChunks) * C::kSuperBytes;
  constexpr int kGroups = C::kHalves;  // of a chunk
#pragma unroll
  for (int group = 0; group < kGroups; group++) {
    float part[kTiles][4] = {};
#pragma unroll
    for (int step = group; step < 2; step += kGroups) {
      uint32_t a[4];
      raw.operand(step, t, a);
#pragma unroll
      for (int n = 0; n < kTiles; n++) mma_bf16(S::kRowScale ? sums[n] : part[n], a, x[step][n]);
    }
    if constexpr (!S::kRowScale) {
#pragma unroll
      for (int row = 0; row < 2; row++) {
        const Scale scale = lane_scale<f, FromShared>(scale_at, super_at, group, 2 * g + row);
        const float s = scale.s * kPairUnit<f>;
#pragma unroll
        for (int n = 0; n < kTiles; n++) {
#pragma unroll
          for (int c = 2 * row; c < 2 * row + 2; c++) {
            sums[n][c] = fmaf(s, part[n][c], sums[n][c]);
            if constexpr (C::kHasMin) {
              const float total = kGroups == 2 ? ones[group][n][c] : ones[0][n][c] + ones[1][n][c];
              sums[n][c] = fmaf(scale.m, total, sums[n][c]);
            }
          }
        }
      }
    }
  }
}

// --- Float formats
// sums += W·x of one step; pairs: of k that the panel has here, the rest of the slot holds what was there before.
template <Format f, int kTiles>
__device__ __forceinline__ void add_step(const std::byte* step, int pairs, int g, int t, const uint32_t (&x)[kTiles][2],
                                         float (&sums)[kTiles][4]) {
  uint2 low = *reinterpret_cast<const uint2*>(step + 64 * t + 8 * g), high = *reinterpret_cast<const uint2*>(step + 64 * t + 8 * g + 256);
  if (t >= pairs) low = make_uint2(0, 0);
  if (t + 4 >= pairs) high = make_uint2(0, 0);
  uint32_t a[4] = {low.x, low.y, high.x, high.y};
  if constexpr (f == Format::kF16) {
    // A half is the sum of two bf16, exactly.
    uint32_t rest[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float v0 = half_of(a[i], 0), v1 = half_of(a[i], 1);
      a[i] = pack_bf16(v0, v1);
      rest[i] = pack_bf16(v0 - __uint_as_float(a[i] << 16), v1 - __uint_as_float(a[i] & 0xffff0000u));
    }
#pragma unroll
    for (int n = 0; n < kTiles; n++) mma_bf16(sums[n], rest, x[n]);
  }
#pragma unroll
  for (int n = 0; n < kTiles; n++) mma_bf16(sums[n], a, x[n]);
}

}  // namespace switchyard::cuda
