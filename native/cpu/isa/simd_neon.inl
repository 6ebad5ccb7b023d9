// The vector operations of the linear kernels for arm64: 16 lanes in four registers.

struct F {
  float32x4_t v[4];
};
struct I {
  uint32x4_t v[4];
};

#define SY_LANES for (int j = 0; j < 4; j++)

inline F f_set1(float x) {
  F r;
  SY_LANES r.v[j] = vdupq_n_f32(x);
  return r;
}
inline F f_zero() { return f_set1(0); }
inline F f_load(const void* p) {
  F r;
  SY_LANES r.v[j] = vld1q_f32(static_cast<const float*>(p) + 4 * j);
  return r;
}
inline void f_store(float* p, const F& a) { SY_LANES vst1q_f32(p + 4 * j, a.v[j]); }
inline F f_load_n(const float* p, int64_t n) {
  if (n >= 16) return f_load(p);
  float part[16] = {};
  __builtin_memcpy(part, p, static_cast<size_t>(n) * 4);
  return f_load(part);
}
inline void f_store_n(float* p, const F& a, int64_t n) {
  if (n >= 16) return f_store(p, a);
  float part[16];
  f_store(part, a);
  __builtin_memcpy(p, part, static_cast<size_t>(n) * 4);
}
inline F f_fma(const F& a, const F& b, const F& c) {
  F r;
  SY_LANES r.v[j] = vfmaq_f32(c.v[j], a.v[j], b.v[j]);
  return r;
}
inline F f_mul(const F& a, const F& b) {
  F r;
  SY_LANES r.v[j] = vmulq_f32(a.v[j], b.v[j]);
  return r;
}
inline F f_from_i32(const I& a) {
  F r;
  SY_LANES r.v[j] = vcvtq_f32_s32(vreinterpretq_s32_u32(a.v[j]));
  return r;
}
inline F f_load_f16(const void* p) {
  F r;
  SY_LANES r.v[j] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const uint16_t*>(p) + 4 * j)));
  return r;
}
inline I widen_u8(uint8x16_t bytes) {
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
  return {{vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)}};
}
inline F f_load_i8(const void* p) {
  const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}
inline F f_load_u8(const void* p) { return f_from_i32(widen_u8(vld1q_u8(static_cast<const uint8_t*>(p)))); }
inline F f_load_u4(const void* p, int shift) {
  const uint8x16_t bytes = vld1q_u8(static_cast<const uint8_t*>(p));
  return f_from_i32(widen_u8(vandq_u8(vshlq_u8(bytes, vdupq_n_s8(static_cast<int8_t>(-shift))), vdupq_n_u8(15))));
}

// 2^(e - 128) of 16 bytes e; e = 0 and 1 give subnormal numbers.
inline F f_load_exponent(const void* p) {
  const I e = widen_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
  F r;
  SY_LANES {
    const int32x4_t x = vreinterpretq_s32_u32(e.v[j]), one = vdupq_n_s32(1);
    r.v[j] = vreinterpretq_f32_s32(vmaxq_s32(vshlq_n_s32(vsubq_s32(x, one), 23), vshlq_n_s32(vaddq_s32(x, one), 21)));
  }
  return r;
}

inline I i_load(const void* p) {
  I r;
  SY_LANES r.v[j] = vreinterpretq_u32_u8(vld1q_u8(static_cast<const uint8_t*>(p) + 16 * j));
  return r;
}
inline I i_and(const I& a, uint32_t mask) {
  I r;
  SY_LANES r.v[j] = vandq_u32(a.v[j], vdupq_n_u32(mask));
  return r;
}
inline I i_or(const I& a, const I& b) {
  I r;
  SY_LANES r.v[j] = vorrq_u32(a.v[j], b.v[j]);
  return r;
}
inline I i_add(const I& a, const I& b) {
  I r;
  SY_LANES r.v[j] = vaddq_u32(a.v[j], b.v[j]);
  return r;
}
inline I i_shl(const I& a, int n) {
  I r;
  SY_LANES r.v[j] = vshlq_u32(a.v[j], vdupq_n_s32(n));
  return r;
}
inline I i_shr(const I& a, int n) { return i_shl(a, -n); }

inline F f_pair_f16(const I& a, int odd) {
  F r;
  SY_LANES {
    const uint16x4_t half = odd ? vshrn_n_u32(a.v[j], 16) : vmovn_u32(a.v[j]);
    r.v[j] = vcvt_f32_f16(vreinterpret_f16_u16(half));
  }
  return r;
}
inline F f_pair_bf16(const I& a, int odd) {
  const I bits = odd ? i_and(a, 0xffff0000u) : i_shl(a, 16);
  F r;
  SY_LANES r.v[j] = vreinterpretq_f32_u32(bits.v[j]);
  return r;
}
inline F f_byte(const I& a, int i) { return f_from_i32(i_and(i_shr(a, 8 * i), 255)); }
inline F f_nibble(const I& a, int i) { return f_from_i32(i_and(i_shr(a, 4 * i), 15)); }

// Byte i of every lane as float8_times_2_120th() has it: a signed shift leaves the sign where f32 has it.
inline F f_float8(const I& a, int i) {
  const I top = i_shl(a, 24 - 8 * i);
  F r;
  SY_LANES {
    const int32x4_t spread = vshrq_n_s32(vreinterpretq_s32_u32(top.v[j]), 4);
    r.v[j] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_s32(spread), vdupq_n_u32(0x87f00000u)));
  }
  return r;
}

// table[nibble i] of every lane, and table[byte] of every byte below 16.
inline F f_lookup(const I& a, int i, const int8_t* table) {
  const int8x16_t values = vld1q_s8(table);
  const I at = i_and(i_shr(a, 4 * i), 15);
  F r;
  SY_LANES {
    const int32x4_t found = vreinterpretq_s32_s8(vqtbl1q_s8(values, vreinterpretq_u8_u32(at.v[j])));
    r.v[j] = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(found, 24), 24));
  }
  return r;
}
inline I i_lookup(const I& a, const uint8_t* table) {
  const uint8x16_t values = vld1q_u8(table);
  I r;
  SY_LANES r.v[j] = vreinterpretq_u32_u8(vqtbl1q_u8(values, vreinterpretq_u8_u32(a.v[j])));
  return r;
}

inline void prefetch(const void* p) { __builtin_prefetch(p); }

// Σ (code - zero)·x: full bytes become signed, the others are so already; products fit in i16, their sums are widened.
template <int kBits, int kZero, int N, int P>
inline void i_dots(const I (*codes)[N], const int8_t* x, int32_t minus_sum, I* dot) {
  static_assert(P == 1);
  SY_LANES {
    int32x4_t sum = vdupq_n_s32(kBits == 8 ? 0 : minus_sum * kZero);
    for (int v = 0; v < N; v++) {
      int32_t four;
      __builtin_memcpy(&four, x + 4 * v, 4);
      const int8x16_t b = vreinterpretq_s8_s32(vdupq_n_s32(four));
      int8x16_t w = vreinterpretq_s8_u32(codes[0][v].v[j]);
      if (kBits == 8) w = veorq_s8(w, vdupq_n_s8(-128));  // code - 128
      const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(b)), high = vmull_high_s8(w, b);
      sum = vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
    }
    dot[0].v[j] = vreinterpretq_u32_s32(sum);
  }
}

#undef SY_LANES
