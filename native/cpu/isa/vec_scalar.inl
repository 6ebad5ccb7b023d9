// vec.inl for any machine: plain loops over 16 lanes.
struct F { float v[16]; };
struct I { int32_t v[16]; };
struct M { int32_t v[16]; };  // 0 or -1
#define SY_EACH for (int i = 0; i < 16; i++)

SY_INLINE F set1(float x) { F r; SY_EACH r.v[i] = x; return r; }
SY_INLINE I iset1(int32_t x) { I r; SY_EACH r.v[i] = x; return r; }
SY_INLINE F load(const float* p) { F r; memcpy(r.v, p, 64); return r; }
SY_INLINE F load_n(const float* p, int n) { F r{}; memcpy(r.v, p, size_t(n) * 4); return r; }
SY_INLINE void store(float* p, F a) { memcpy(p, a.v, 64); }
SY_INLINE void store_n(float* p, F a, int n) { memcpy(p, a.v, size_t(n) * 4); }
SY_INLINE I iload(const int32_t* p) { I r; memcpy(r.v, p, 64); return r; }
SY_INLINE I iload_n(const int32_t* p, int n) { I r{}; memcpy(r.v, p, size_t(n) * 4); return r; }
SY_INLINE void istore(int32_t* p, I a) { memcpy(p, a.v, 64); }
SY_INLINE void istore_n(int32_t* p, I a, int n) { memcpy(p, a.v, size_t(n) * 4); }
SY_INLINE F load_half(const uint16_t* p) { F r; SY_EACH r.v[i] = f16_to_f32(p[i]); return r; }
SY_INLINE F load_bf16(const uint16_t* p) { F r; SY_EACH r.v[i] = bf16_to_f32(p[i]); return r; }
SY_INLINE F load_i8(const int8_t* p) { F r; SY_EACH r.v[i] = p[i]; return r; }
SY_INLINE void store_half(uint16_t* p, F a) { SY_EACH p[i] = f32_to_f16(a.v[i]); }
SY_INLINE void store_bf16(uint16_t* p, F a) { SY_EACH p[i] = f32_to_bf16(a.v[i]); }

SY_INLINE F operator+(F a, F b) { SY_EACH a.v[i] += b.v[i]; return a; }
SY_INLINE F operator-(F a, F b) { SY_EACH a.v[i] -= b.v[i]; return a; }
SY_INLINE F operator*(F a, F b) { SY_EACH a.v[i] *= b.v[i]; return a; }
SY_INLINE F operator/(F a, F b) { SY_EACH a.v[i] /= b.v[i]; return a; }
// Two roundings: a software fma would make this tier useless.
SY_INLINE F fma(F a, F b, F c) { SY_EACH c.v[i] = a.v[i] * b.v[i] + c.v[i]; return c; }
SY_INLINE F fnma(F a, F b, F c) { SY_EACH c.v[i] = c.v[i] - a.v[i] * b.v[i]; return c; }
SY_INLINE F max2(F a, F b) { SY_EACH b.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return b; }
SY_INLINE F min2(F a, F b) { SY_EACH b.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return b; }
SY_INLINE F sqrt(F a) { SY_EACH a.v[i] = ::sqrtf(a.v[i]); return a; }
SY_INLINE F floor(F a) { SY_EACH a.v[i] = ::floorf(a.v[i]); return a; }
// Right for |a| < 2^22, which is all the polynomials need.
SY_INLINE F round_even(F a) { SY_EACH a.v[i] = (a.v[i] + 12582912.0f) - 12582912.0f; return a; }

SY_INLINE I bits(F a) { I r; memcpy(r.v, a.v, 64); return r; }
SY_INLINE F floats(I a) { F r; memcpy(r.v, a.v, 64); return r; }
SY_INLINE I to_int(F a) {
  I r;
  SY_EACH r.v[i] = a.v[i] >= -2147483648.0f && a.v[i] < 2147483648.0f ? int32_t(a.v[i]) : INT32_MIN;
  return r;
}
SY_INLINE F to_float(I a) { F r; SY_EACH r.v[i] = float(a.v[i]); return r; }
SY_INLINE I operator+(I a, I b) { SY_EACH a.v[i] = int32_t(uint32_t(a.v[i]) + uint32_t(b.v[i])); return a; }
SY_INLINE I operator-(I a, I b) { SY_EACH a.v[i] = int32_t(uint32_t(a.v[i]) - uint32_t(b.v[i])); return a; }
SY_INLINE I operator*(I a, I b) { SY_EACH a.v[i] = int32_t(uint32_t(a.v[i]) * uint32_t(b.v[i])); return a; }
SY_INLINE I operator&(I a, I b) { SY_EACH a.v[i] &= b.v[i]; return a; }
SY_INLINE I operator|(I a, I b) { SY_EACH a.v[i] |= b.v[i]; return a; }
SY_INLINE I operator^(I a, I b) { SY_EACH a.v[i] ^= b.v[i]; return a; }
template <int N> SY_INLINE I shl(I a) { SY_EACH a.v[i] = int32_t(uint32_t(a.v[i]) << N); return a; }
template <int N> SY_INLINE I shr(I a) { SY_EACH a.v[i] = int32_t(uint32_t(a.v[i]) >> N); return a; }
template <int N> SY_INLINE I sar(I a) { SY_EACH a.v[i] = a.v[i] >> N; return a; }
SY_INLINE I imax(I a, I b) { SY_EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
SY_INLINE I imin(I a, I b) { SY_EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }

SY_INLINE M lt(F a, F b) { M r; SY_EACH r.v[i] = -int32_t(a.v[i] < b.v[i]); return r; }
SY_INLINE M le(F a, F b) { M r; SY_EACH r.v[i] = -int32_t(a.v[i] <= b.v[i]); return r; }
SY_INLINE M eq(F a, F b) { M r; SY_EACH r.v[i] = -int32_t(a.v[i] == b.v[i]); return r; }
SY_INLINE M unordered(F a, F b) {
  M r;
  SY_EACH r.v[i] = -int32_t(a.v[i] != a.v[i] || b.v[i] != b.v[i]);
  return r;
}
SY_INLINE M ilt(I a, I b) { M r; SY_EACH r.v[i] = -int32_t(a.v[i] < b.v[i]); return r; }
SY_INLINE M ieq(I a, I b) { M r; SY_EACH r.v[i] = -int32_t(a.v[i] == b.v[i]); return r; }
SY_INLINE M operator!(M a) { SY_EACH a.v[i] = ~a.v[i]; return a; }
SY_INLINE M operator|(M a, M b) { SY_EACH a.v[i] |= b.v[i]; return a; }
SY_INLINE M operator&(M a, M b) { SY_EACH a.v[i] &= b.v[i]; return a; }
SY_INLINE bool any(M a) { int32_t r = 0; SY_EACH r |= a.v[i]; return r != 0; }
SY_INLINE uint32_t mask_bits(M a) { uint32_t r = 0; SY_EACH r |= uint32_t(a.v[i] & 1) << i; return r; }
SY_INLINE I ones(M a) { I r; SY_EACH r.v[i] = a.v[i] & 1; return r; }
SY_INLINE F select(M m, F a, F b) { SY_EACH b.v[i] = m.v[i] ? a.v[i] : b.v[i]; return b; }
SY_INLINE I iselect(M m, I a, I b) { SY_EACH b.v[i] = m.v[i] ? a.v[i] : b.v[i]; return b; }

SY_INLINE F scale2(F x, I n) {
  const I half = sar<1>(n), rest = n - half, bias = iset1(127);
  return x * floats(shl<23>(half + bias)) * floats(shl<23>(rest + bias));
}
SY_INLINE float reduce_add(F a) {
  for (int h = 8; h > 0; h /= 2) for (int i = 0; i < h; i++) a.v[i] += a.v[i + h];
  return a.v[0];
}
SY_INLINE float reduce_max(F a) {
  for (int h = 8; h > 0; h /= 2)
    for (int i = 0; i < h; i++) a.v[i] = a.v[i] > a.v[i + h] ? a.v[i] : a.v[i + h];
  return a.v[0];
}
SY_INLINE float reduce_min(F a) {
  for (int h = 8; h > 0; h /= 2)
    for (int i = 0; i < h; i++) a.v[i] = a.v[i] < a.v[i + h] ? a.v[i] : a.v[i + h];
  return a.v[0];
}
#undef SY_EACH
