// vec.inl for arm64 NEON: four q registers.
struct F { float32x4_t v[4]; };
struct I { int32x4_t v[4]; };
struct M { uint32x4_t v[4]; };
#define SY_EACH for (int i = 0; i < 4; i++)

SY_INLINE F set1(float x) { F r; SY_EACH r.v[i] = vdupq_n_f32(x); return r; }
SY_INLINE I iset1(int32_t x) { I r; SY_EACH r.v[i] = vdupq_n_s32(x); return r; }
SY_INLINE F load(const float* p) { F r; SY_EACH r.v[i] = vld1q_f32(p + 4 * i); return r; }
SY_INLINE void store(float* p, F a) { SY_EACH vst1q_f32(p + 4 * i, a.v[i]); }
SY_INLINE I iload(const int32_t* p) { I r; SY_EACH r.v[i] = vld1q_s32(p + 4 * i); return r; }
SY_INLINE void istore(int32_t* p, I a) { SY_EACH vst1q_s32(p + 4 * i, a.v[i]); }
SY_INLINE F load_n(const float* p, int n) { float t[16] = {}; memcpy(t, p, size_t(n) * 4); return load(t); }
SY_INLINE void store_n(float* p, F a, int n) { float t[16]; store(t, a); memcpy(p, t, size_t(n) * 4); }
SY_INLINE I iload_n(const int32_t* p, int n) {
  int32_t t[16] = {};
  memcpy(t, p, size_t(n) * 4);
  return iload(t);
}
SY_INLINE void istore_n(int32_t* p, I a, int n) { int32_t t[16]; istore(t, a); memcpy(p, t, size_t(n) * 4); }
SY_INLINE F load_half(const uint16_t* p) {
  F r;
  SY_EACH r.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
  return r;
}
SY_INLINE void store_half(uint16_t* p, F a) {
  SY_EACH vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
}
SY_INLINE F load_bf16(const uint16_t* p) {
  F r;
  SY_EACH r.v[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
  return r;
}
SY_INLINE F load_i8(const int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
SY_INLINE void store_bf16(uint16_t* p, F a) {
  float t[16];
  store(t, a);
  for (int i = 0; i < 16; i++) p[i] = f32_to_bf16(t[i]);
}

SY_INLINE F operator+(F a, F b) { SY_EACH a.v[i] = vaddq_f32(a.v[i], b.v[i]); return a; }
SY_INLINE F operator-(F a, F b) { SY_EACH a.v[i] = vsubq_f32(a.v[i], b.v[i]); return a; }
SY_INLINE F operator*(F a, F b) { SY_EACH a.v[i] = vmulq_f32(a.v[i], b.v[i]); return a; }
SY_INLINE F operator/(F a, F b) { SY_EACH a.v[i] = vdivq_f32(a.v[i], b.v[i]); return a; }
SY_INLINE F fma(F a, F b, F c) { SY_EACH c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]); return c; }
SY_INLINE F fnma(F a, F b, F c) { SY_EACH c.v[i] = vfmsq_f32(c.v[i], a.v[i], b.v[i]); return c; }
// As on x64: the second operand where the comparison is unordered.
SY_INLINE F max2(F a, F b) {
  SY_EACH b.v[i] = vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]);
  return b;
}
SY_INLINE F min2(F a, F b) {
  SY_EACH b.v[i] = vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]);
  return b;
}
SY_INLINE F sqrt(F a) { SY_EACH a.v[i] = vsqrtq_f32(a.v[i]); return a; }
SY_INLINE F floor(F a) { SY_EACH a.v[i] = vrndmq_f32(a.v[i]); return a; }
SY_INLINE F round_even(F a) { SY_EACH a.v[i] = vrndnq_f32(a.v[i]); return a; }

SY_INLINE I bits(F a) { I r; SY_EACH r.v[i] = vreinterpretq_s32_f32(a.v[i]); return r; }
SY_INLINE F floats(I a) { F r; SY_EACH r.v[i] = vreinterpretq_f32_s32(a.v[i]); return r; }
// x64 gives INT32_MIN out of range and for NaN; so does this.
SY_INLINE I to_int(F a) {
  I r;
  SY_EACH {
    const uint32x4_t fits = vandq_u32(vcgeq_f32(a.v[i], vdupq_n_f32(-2147483648.0f)),
                                      vcltq_f32(a.v[i], vdupq_n_f32(2147483648.0f)));
    r.v[i] = vbslq_s32(fits, vcvtq_s32_f32(a.v[i]), vdupq_n_s32(INT32_MIN));
  }
  return r;
}
SY_INLINE F to_float(I a) { F r; SY_EACH r.v[i] = vcvtq_f32_s32(a.v[i]); return r; }
SY_INLINE I operator+(I a, I b) { SY_EACH a.v[i] = vaddq_s32(a.v[i], b.v[i]); return a; }
SY_INLINE I operator-(I a, I b) { SY_EACH a.v[i] = vsubq_s32(a.v[i], b.v[i]); return a; }
SY_INLINE I operator*(I a, I b) { SY_EACH a.v[i] = vmulq_s32(a.v[i], b.v[i]); return a; }
SY_INLINE I operator&(I a, I b) { SY_EACH a.v[i] = vandq_s32(a.v[i], b.v[i]); return a; }
SY_INLINE I operator|(I a, I b) { SY_EACH a.v[i] = vorrq_s32(a.v[i], b.v[i]); return a; }
SY_INLINE I operator^(I a, I b) { SY_EACH a.v[i] = veorq_s32(a.v[i], b.v[i]); return a; }
template <int N> SY_INLINE I shl(I a) { SY_EACH a.v[i] = vshlq_n_s32(a.v[i], N); return a; }
template <int N> SY_INLINE I shr(I a) {
  SY_EACH a.v[i] = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v[i]), N));
  return a;
}
template <int N> SY_INLINE I sar(I a) { SY_EACH a.v[i] = vshrq_n_s32(a.v[i], N); return a; }
SY_INLINE I imax(I a, I b) { SY_EACH a.v[i] = vmaxq_s32(a.v[i], b.v[i]); return a; }
SY_INLINE I imin(I a, I b) { SY_EACH a.v[i] = vminq_s32(a.v[i], b.v[i]); return a; }

SY_INLINE M lt(F a, F b) { M r; SY_EACH r.v[i] = vcltq_f32(a.v[i], b.v[i]); return r; }
SY_INLINE M le(F a, F b) { M r; SY_EACH r.v[i] = vcleq_f32(a.v[i], b.v[i]); return r; }
SY_INLINE M eq(F a, F b) { M r; SY_EACH r.v[i] = vceqq_f32(a.v[i], b.v[i]); return r; }
SY_INLINE M unordered(F a, F b) {
  M r;
  SY_EACH r.v[i] = vmvnq_u32(vandq_u32(vceqq_f32(a.v[i], a.v[i]), vceqq_f32(b.v[i], b.v[i])));
  return r;
}
SY_INLINE M ilt(I a, I b) { M r; SY_EACH r.v[i] = vcltq_s32(a.v[i], b.v[i]); return r; }
SY_INLINE M ieq(I a, I b) { M r; SY_EACH r.v[i] = vceqq_s32(a.v[i], b.v[i]); return r; }
SY_INLINE M operator!(M a) { SY_EACH a.v[i] = vmvnq_u32(a.v[i]); return a; }
SY_INLINE M operator|(M a, M b) { SY_EACH a.v[i] = vorrq_u32(a.v[i], b.v[i]); return a; }
SY_INLINE M operator&(M a, M b) { SY_EACH a.v[i] = vandq_u32(a.v[i], b.v[i]); return a; }
SY_INLINE bool any(M a) {
  return vmaxvq_u32(vorrq_u32(vorrq_u32(a.v[0], a.v[1]), vorrq_u32(a.v[2], a.v[3]))) != 0;
}
SY_INLINE uint32_t mask_bits(M a) {
  static constexpr uint32_t kPlace[4] = {1, 2, 4, 8};
  uint32_t r = 0;
  SY_EACH r |= vaddvq_u32(vandq_u32(a.v[i], vld1q_u32(kPlace))) << (4 * i);
  return r;
}
SY_INLINE I ones(M a) { I r; SY_EACH r.v[i] = vreinterpretq_s32_u32(vshrq_n_u32(a.v[i], 31)); return r; }
SY_INLINE F select(M m, F a, F b) { SY_EACH b.v[i] = vbslq_f32(m.v[i], a.v[i], b.v[i]); return b; }
SY_INLINE I iselect(M m, I a, I b) { SY_EACH b.v[i] = vbslq_s32(m.v[i], a.v[i], b.v[i]); return b; }

SY_INLINE F scale2(F x, I n) {
  const I half = sar<1>(n), rest = n - half, bias = iset1(127);
  return x * floats(shl<23>(half + bias)) * floats(shl<23>(rest + bias));
}
#define SY_REDUCE(name, op)                                                                      \
  SY_INLINE float name(F a) {                                                                    \
    const float32x4_t q = op##q_f32(op##q_f32(a.v[0], a.v[2]), op##q_f32(a.v[1], a.v[3]));       \
    const float32x2_t h = op##_f32(vget_low_f32(q), vget_high_f32(q));                           \
    return vget_lane_f32(op##_f32(h, vdup_lane_f32(h, 1)), 0);                                   \
  }
SY_REDUCE(reduce_add, vadd)
SY_REDUCE(reduce_max, vmax)
SY_REDUCE(reduce_min, vmin)
#undef SY_REDUCE
#undef SY_EACH
