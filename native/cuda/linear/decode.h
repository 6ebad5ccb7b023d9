// Panels of packed weights (formats/pack.h) as kernels read them. A unit is one 16-byte vector of a panel's low plane, the share
// of one thread: lanes 4·quad … 4·quad + 3 of one to four runs of consecutive k, of which a run has kRun.
//   load_unit()   the raw words of a unit: its codes, and with load_scales() what scales them
//   decode()      a run as floats, fma(s, q, m) by the CPU's rule, bit for bit
//   code_word()   a run of one lane as four unsigned codes in the bytes of a word; code_pairs(): the same centred, as exact bf16
//                 for tensor cores, to be scaled afterwards
// Four neighbouring threads take the quads of a unit: a warp reads 512 consecutive bytes of a plane.
#pragma once
#include "cuda/device/float16.h"
#include "formats/format_table.h"
#include "formats/pack.h"

namespace switchyard::cuda {

// The formats that kernels are built for: one of those that differ in numbers alone, which Places tells apart.
__host__ __device__ constexpr Format codec_of(Format f) {
  switch (f) {
    case Format::kInt8G64:
    case Format::kInt8G128: return Format::kQ8_0;
    case Format::kInt4G64:
    case Format::kInt4G128: return Format::kQ4_0;
    case Format::kTQ1_0: return Format::kTQ2_0;
    default: return f;
  }
}

// fn.template operator()<codec>() for the codec of a format.
template <int kFrom = 0, class Fn>
void with_codec(Format f, const Fn& fn) {
  if constexpr (kFrom < kFormatCount) {
    constexpr Format kCodec = static_cast<Format>(kFrom);
    if constexpr (codec_of(kCodec) == kCodec) {
      if (codec_of(f) == kCodec) return fn.template operator()<kCodec>();
    }
    with_codec<kFrom + 1>(f, fn);
  }
}

template <Format f>
struct Codec {
  static constexpr int kBits = kFormatTable[static_cast<int>(f)].code_bits;
  static constexpr ScaleKind kScales = kFormatTable[static_cast<int>(f)].scales;
  static constexpr int kZero = kFormatTable[static_cast<int>(f)].zero;
  static constexpr bool kFloats = is_float_format(f);
  static constexpr bool kTable = kFormatTable[static_cast<int>(f)].values != nullptr;
  static constexpr bool kFloat8 = kScales == ScaleKind::kFloat;
  // m is stored; else it is -kZero·s, and code_pairs() are centred.
  static constexpr bool kHasMin = kScales == ScaleKind::kScaleMin || kScales == ScaleKind::kSuperMin;
  static constexpr int kHalves = kFormatTable[static_cast<int>(f)].group == 16 ? 2 : 1;  // scales of a chunk

  static constexpr int kLowBits = kFloats ? 8 : kBits == 3 ? 2 : kBits == 5 || kBits == 6 ? 4 : kBits;
  static constexpr int kHighBits = kFloats ? 0 : kBits - kLowBits;
  static constexpr int kHighVectors = kHighBits;            // of 64 bytes, in a chunk
  static constexpr int kRuns = 8 / kLowBits;                // of a unit
  static constexpr int kRun = f == Format::kF32 ? 1 : kFloats ? 2 : 4;
  static constexpr int kUnits = kFloats ? kChunk / kRun : 8 / kRuns;  // of a panel, in 32 values
  static constexpr int kChunkBytes = kFloats ? 64 * kUnits : chunk_code_bytes(kBits);
  static constexpr int kScaleBytes = scale_bytes(kScales);
  static constexpr int kSuperBytes = super_bytes(kScales);
  static constexpr int kScaleWords = kFloats                            ? 0
                                     : kScales == ScaleKind::kExponent  ? 1
                                     : kScales == ScaleKind::kScale     ? 2
                                     : kScales == ScaleKind::kSuperMin  ? 6
                                                                        : 4;
  // Of what code_word() gives, and the word that means 0.
  static constexpr int kDotBits = !kTable ? kBits : kZero == 128 ? 8 : 5;
};

// Where things lie in a panel.
struct Places {
  int64_t scales_at = 0, supers_at = 0, bytes = 0;
  int64_t columns = 0;
  int scale_shift = 0;  // chunks of an entry of the scales, as a power of two

  static Places of(Format f, const PanelLayout& layout) {
    Places p{layout.scales_at, layout.supers_at, layout.bytes, layout.columns};
    const int64_t chunks = chunks_per_scale(kFormatTable[static_cast<int>(f)]);
    while (int64_t{1} << p.scale_shift < chunks) p.scale_shift++;
    return p;
  }
};
// Units of a panel, the last ones of float formats and of f8_e4m3 perhaps past the end of K in part.
template <Format f>
__host__ __device__ constexpr int64_t units_of(int64_t columns) {
  return Codec<f>::kFloats ? (columns + Codec<f>::kRun - 1) / Codec<f>::kRun : (columns + kChunk - 1) / kChunk * Codec<f>::kUnits;
}

// --- Reading
struct FromMemory {  // of the device, never written by the kernel
  template <class T>
  __device__ static T load(const std::byte* p) {
    return __ldg(reinterpret_cast<const T*>(p));
  }
};
struct FromShared {
  template <class T>
  __device__ static T load(const std::byte* p) {
    return *reinterpret_cast<const T*>(p);
  }
};

template <Format f>
struct Unit {
  uint32_t low[4];                                        // a word for each lane
  uint32_t high[Codec<f>::kHighBits == 2 ? 8 : Codec<f>::kHighBits == 1 ? 4 : 1];
};
// What scales lanes 4·quad … in one chunk.
template <Format f>
struct ScaleWords {
  uint32_t at[Codec<f>::kScaleWords > 0 ? Codec<f>::kScaleWords : 1];
};
struct Scale {
  float s, m;
};

__device__ inline void split(uint4 v, uint32_t* to) { to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w; }
__device__ inline void split(uint2 v, uint32_t* to) { to[0] = v.x, to[1] = v.y; }

// Unit `unit` of a chunk; `chunk` points to its codes (float formats: to the vectors of 32 values).
template <Format f, class From = FromMemory>
__device__ __forceinline__ Unit<f> load_unit(const std::byte* chunk, int unit, int quad) {
  using C = Codec<f>;
  Unit<f> u;
  split(From::template load<uint4>(chunk + 64 * unit + 16 * quad), u.low);
  // Both vectors of a plane of 2 bits that belongs to one of 4: the runs of a unit lie in different halves of the chunk.
  const std::byte* high = chunk + 64 * C::kLowBits + 16 * quad;
#pragma unroll
  for (int i = 0; i < C::kHighVectors; i++) split(From::template load<uint4>(high + 64 * i), u.high + 4 * i);
  return u;
}

// scales: the entry of the chunk; supers: that of its 256 values.
template <Format f, class From = FromMemory>
__device__ __forceinline__ ScaleWords<f> load_scales(const std::byte* scales, const std::byte* supers, int quad) {
  using C = Codec<f>;
  ScaleWords<f> w;
  if constexpr (C::kFloats) {
    w.at[0] = 0;
  } else if constexpr (C::kScales == ScaleKind::kScale) {
    split(From::template load<uint2>(scales + 8 * quad), w.at);
  } else if constexpr (C::kScales == ScaleKind::kRow || C::kFloat8) {
    split(From::template load<uint4>(scales + 16 * quad), w.at);
  } else if constexpr (C::kScales == ScaleKind::kExponent) {
    w.at[0] = From::template load<uint32_t>(scales + 4 * quad);
  } else if constexpr (C::kScales == ScaleKind::kScaleMin) {
    split(From::template load<uint2>(scales + 8 * quad), w.at);
    split(From::template load<uint2>(scales + 32 + 8 * quad), w.at + 2);
  } else {
    w.at[0] = From::template load<uint32_t>(scales + 4 * quad);
    w.at[1] = From::template load<uint32_t>(scales + 16 + 4 * quad);
    split(From::template load<uint2>(supers + 8 * quad), w.at + 2);
    if constexpr (C::kScales == ScaleKind::kSuperMin) split(From::template load<uint2>(supers + 32 + 8 * quad), w.at + 4);
  }
  return w;
}
template <Format f, class From = FromMemory>
__device__ __forceinline__ ScaleWords<f> load_scales(const std::byte* panel, const Places& at, int64_t chunk, int quad) {
  return load_scales<f, From>(panel + at.scales_at + (chunk >> at.scale_shift) * Codec<f>::kScaleBytes,
                              panel + at.supers_at + chunk / kSuperChunks * Codec<f>::kSuperBytes, quad);
}

// --- Scales
__device__ inline float half_of(uint32_t word, int i) { return to_float(Half{static_cast<uint16_t>(word >> 16 * i)}); }

// From the parts of one lane: d and dmin, or what the format has in the place of d, and c and n of the group.
template <Format f>
__device__ __forceinline__ Scale make_scale(float d, float dmin, int c, int n) {
  using C = Codec<f>;
  if constexpr (C::kScales == ScaleKind::kSuperMin) return {d * static_cast<float>(c), -(dmin * static_cast<float>(n))};
  if constexpr (C::kScales == ScaleKind::kScaleMin) return {d, dmin};
  if constexpr (C::kScales == ScaleKind::kSuper) d *= static_cast<float>(c);
  return {d, d * (C::kTable ? -0.0f : static_cast<float>(-C::kZero))};
}
// 2^(e - 128); e = 0 and 1 give subnormal numbers.
__device__ inline float power_of(uint32_t e) { return __uint_as_float(e < 2 ? (e + 1) << 21 : (e - 1) << 23); }

// s and m of lane 4·quad + lane in group `half` of the chunk.
template <Format f>
__device__ __forceinline__ Scale scale_of(const ScaleWords<f>& w, int half, int lane) {
  using C = Codec<f>;
  const auto byte = [lane](uint32_t word) { return static_cast<int>(word >> 8 * lane & 0xff); };
  const auto f16 = [&](int first) { return half_of(w.at[first + lane / 2], lane % 2); };
  if constexpr (C::kFloats) {
    return {1, 0};
  } else if constexpr (C::kScales == ScaleKind::kScale) {
    return make_scale<f>(f16(0), 0, 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kRow || C::kFloat8) {
    return make_scale<f>(__uint_as_float(w.at[lane]), 0, 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kExponent) {
    return make_scale<f>(power_of(static_cast<uint32_t>(byte(w.at[0]))), 0, 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kScaleMin) {
    return make_scale<f>(f16(0), f16(2), 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kSuper) {
    return make_scale<f>(f16(2), 0, static_cast<int8_t>(byte(half == 0 ? w.at[0] : w.at[1])), 0);
  } else if constexpr (C::kHalves == 2) {
    const int c = byte(half == 0 ? w.at[0] : w.at[1]);
    return make_scale<f>(f16(2), f16(4), c & 15, c >> 4);
  } else {
    return make_scale<f>(f16(2), f16(4), byte(w.at[0]), byte(w.at[1]));
  }
}

// The same for one lane (0 to 15) of a panel, read on its own: for fragments of tensor cores.
template <Format f, class From = FromMemory>
__device__ __forceinline__ Scale lane_scale(const std::byte* scales, const std::byte* supers, int half, int lane) {
  using C = Codec<f>;
  const auto f16 = [lane](const std::byte* at) { return to_float(Half{From::template load<uint16_t>(at + 2 * lane)}); };
  const auto u8 = [&](int at) { return static_cast<int>(From::template load<uint8_t>(scales + at + lane)); };
  if constexpr (C::kFloats) {
    return {1, 0};
  } else if constexpr (C::kScales == ScaleKind::kScale) {
    return make_scale<f>(f16(scales), 0, 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kRow || C::kFloat8) {
    return make_scale<f>(From::template load<float>(scales + 4 * lane), 0, 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kExponent) {
    return make_scale<f>(power_of(static_cast<uint32_t>(u8(0))), 0, 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kScaleMin) {
    return make_scale<f>(f16(scales), f16(scales + 32), 0, 0);
  } else if constexpr (C::kScales == ScaleKind::kSuper) {
    return make_scale<f>(f16(supers), 0, static_cast<int8_t>(u8(16 * half)), 0);
  } else if constexpr (C::kHalves == 2) {
    const int c = u8(16 * half);
    return make_scale<f>(f16(supers), f16(supers + 32), c & 15, c >> 4);
  } else {
    return make_scale<f>(f16(supers), f16(supers + 32), u8(0), u8(16));
  }
}

// --- Codes
// The code vector (0 to 7) of a chunk that run `run` of unit `unit` is: its values are k = 4·vector … of the chunk.
template <Format f>
__device__ __forceinline__ constexpr int vector_of(int unit, int run) {
  return Codec<f>::kLowBits == 8 ? unit : Codec<f>::kLowBits == 4 ? unit + 4 * run : 4 * unit + run;
}
// The first k of a run, of the chunk's 32.
template <Format f>
__device__ __forceinline__ constexpr int first_k(int unit, int run) {
  return Codec<f>::kRun * (Codec<f>::kFloats ? unit : vector_of<f>(unit, run));
}

// values + zero of a format with a table, four to a word.
constexpr uint32_t table_word(const FormatInfo& info, int i) {
  uint32_t word = 0;
  for (int b = 0; b < 4; b++) word |= static_cast<uint32_t>(static_cast<uint8_t>(info.values[4 * i + b] + info.zero)) << 8 * b;
  return word;
}
template <Format f, int i>
constexpr uint32_t kTableWord = table_word(kFormatTable[static_cast<int>(f)], i);
// What stands at the four indices in the bytes of a word.
template <Format f>
__device__ __forceinline__ uint32_t look_up(uint32_t word) {
  constexpr uint32_t k0 = kTableWord<f, 0>, k1 = kTableWord<f, 1>, k2 = kTableWord<f, 2>, k3 = kTableWord<f, 3>;
  const uint32_t at = __byte_perm(word | word >> 4, 0, 0x4420);  // the indices as the four low nibbles
  const uint32_t low = __byte_perm(k0, k1, at & 0x7777), high = __byte_perm(k2, k3, at & 0x7777);
  return __byte_perm(low, high, 0x3210 | (at & 0x8888) >> 1);
}

// Run `run` of a unit, lane 4·quad + lane: byte i belongs to the run's k + i. Unsigned codes of kDotBits, of which kZero means 0
// where the format has no m; f8_e4m3: its codes. Not for float formats.
template <Format f>
__device__ __forceinline__ uint32_t code_word(const Unit<f>& u, int unit, int run, int lane) {
  using C = Codec<f>;
  uint32_t word = u.low[lane];
  if constexpr (C::kLowBits == 4) word = word >> 4 * run & 0x0f0f0f0fu;
  if constexpr (C::kLowBits == 2) word = word >> 2 * run & 0x03030303u;
  if constexpr (C::kHighBits == 1) word |= (u.high[lane] >> vector_of<f>(unit, run) & 0x01010101u) << C::kLowBits;
  if constexpr (C::kHighBits == 2) word |= (u.high[4 * run + lane] >> 2 * unit & 0x03030303u) << C::kLowBits;
  if constexpr (C::kTable) return look_up<f>(word);
  return word;
}

// Byte i of code_word() before scaling, in f32.
template <Format f>
__device__ __forceinline__ float code_value(uint32_t word, int i) {
  using C = Codec<f>;
  if constexpr (C::kFloat8) {  // float8.h
    const uint32_t at = word << (24 - 8 * i);
    return __uint_as_float((at & 0x80000000u) | (at & 0x7f000000u) >> 4);
  } else {
    constexpr float kBase = 8388608.0f + (C::kTable ? C::kZero : 0);  // 2^23: the code is its last bits
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | static_cast<unsigned>(i))) - kBase;
  }
}

// A run in f32: w[lane][i]. `scales` of the run's chunk.
template <Format f>
__device__ __forceinline__ void decode(const Unit<f>& u, const ScaleWords<f>& scales, int unit, int run,
                                       float (&w)[4][Codec<f>::kRun]) {
  using C = Codec<f>;
#pragma unroll
  for (int lane = 0; lane < 4; lane++) {
    if constexpr (f == Format::kF32) {
      w[lane][0] = __uint_as_float(u.low[lane]);
    } else if constexpr (f == Format::kBF16) {
      w[lane][0] = __uint_as_float(u.low[lane] << 16), w[lane][1] = __uint_as_float(u.low[lane] & 0xffff0000u);
    } else if constexpr (f == Format::kF16) {
      w[lane][0] = half_of(u.low[lane], 0), w[lane][1] = half_of(u.low[lane], 1);
    } else {
      const Scale scale = scale_of<f>(scales, C::kHalves == 2 ? vector_of<f>(unit, run) / 4 : 0, lane);
      const uint32_t word = code_word<f>(u, unit, run, lane);
#pragma unroll
      for (int i = 0; i < 4; i++) w[lane][i] = __fmaf_rn(scale.s, code_value<f>(word, i), scale.m);
    }
  }
}

// What pairs are worth: the weight is s·kPairUnit·pair + (kHasMin ? m : 0).
template <Format f>
constexpr float kPairUnit = Codec<f>::kFloat8 ? 0x1p-120f : 1.0f;

// The four codes of code_word() in bf16, exactly: k and k + 1 in x, the first in the low half; k + 2 and k + 3 in y. Without
// kHasMin they are centred, code - kZero. f8_e4m3: what the codes stand for. Not for float formats.
template <Format f>
__device__ __forceinline__ uint2 code_pairs(uint32_t word) {
  using C = Codec<f>;
  constexpr uint32_t kOne = 0x3f803f80u;
  if constexpr (C::kFloat8) {
    constexpr uint32_t kUp = 0x7b807b80u, kMinusZero = 0x80008000u;  // 2^120
    const auto pair = [](uint32_t two) { return fma_bf16x2((two & 0x80008000u) | (two & 0x7f007f00u) >> 4, kUp, kMinusZero); };
    return make_uint2(pair(__byte_perm(word, 0, 0x1404)), pair(__byte_perm(word, 0, 0x3424)));
  } else {
    // 0x43xx is 128 + x for x of 7 bits.
    const uint32_t low = __byte_perm(word, 0x43434343u, 0x4140), high = __byte_perm(word, 0x43434343u, 0x4342);
    if constexpr (C::kDotBits < 8) {
      constexpr uint32_t kMinus = 0x8000u | (0x4300u + (C::kHasMin ? 0 : C::kZero));  // -(128 + zero)
      constexpr uint32_t kBoth = kMinus << 16 | kMinus;
      return make_uint2(fma_bf16x2(low, kOne, kBoth), fma_bf16x2(high, kOne, kBoth));
    } else {
      // 128 + the low 7 bits, less 128 where the highest bit is set and less 256 where it is not.
      static_assert(C::kZero == 128);
      const auto pair = [](uint32_t two) { return fma_bf16x2(two & 0xff7fff7fu, kOne, (~two & 0x00800080u) | 0xc300c300u); };
      return make_uint2(pair(low), pair(high));
    }
  }
}

}  // namespace switchyard::cuda
