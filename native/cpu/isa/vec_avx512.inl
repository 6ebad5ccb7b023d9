// vec.inl for AVX-512 F, BW, DQ, VL: one zmm register.
struct F { __m512 v; };
struct I { __m512i v; };
struct M { __mmask16 v; };

SY_INLINE __mmask16 first_lanes(int n) { return __mmask16((1u << n) - 1); }
SY_INLINE F set1(float x) { return {_mm512_set1_ps(x)}; }
SY_INLINE I iset1(int32_t x) { return {_mm512_set1_epi32(x)}; }
SY_INLINE F load(const float* p) { return {_mm512_loadu_ps(p)}; }
SY_INLINE F load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
SY_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
SY_INLINE void store_n(float* p, F a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
SY_INLINE I iload(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
SY_INLINE I iload_n(const int32_t* p, int n) { return {_mm512_maskz_loadu_epi32(first_lanes(n), p)}; }
SY_INLINE void istore(int32_t* p, I a) { _mm512_storeu_si512(p, a.v); }
SY_INLINE void istore_n(int32_t* p, I a, int n) { _mm512_mask_storeu_epi32(p, first_lanes(n), a.v); }
SY_INLINE F load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
SY_INLINE void store_half(uint16_t* p, F a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
SY_INLINE F load_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
SY_INLINE F load_i8(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
SY_INLINE void store_bf16(uint16_t* p, F a) {
  const __m512i b = _mm512_castps_si512(a.v);
  const __m512i high = _mm512_srli_epi32(b, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  __m512i r = _mm512_srli_epi32(_mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  r = _mm512_mask_or_epi32(r, nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
}

SY_INLINE F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
SY_INLINE F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
SY_INLINE F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
SY_INLINE F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
SY_INLINE F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
SY_INLINE F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
SY_INLINE F max2(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
SY_INLINE F min2(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
SY_INLINE F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
SY_INLINE F floor(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
SY_INLINE F round_even(F a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

SY_INLINE I bits(F a) { return {_mm512_castps_si512(a.v)}; }
SY_INLINE F floats(I a) { return {_mm512_castsi512_ps(a.v)}; }
SY_INLINE I to_int(F a) { return {_mm512_cvttps_epi32(a.v)}; }
SY_INLINE F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
SY_INLINE I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
SY_INLINE I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
SY_INLINE I operator*(I a, I b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
SY_INLINE I operator&(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
SY_INLINE I operator|(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
SY_INLINE I operator^(I a, I b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int N> SY_INLINE I shl(I a) { return {_mm512_slli_epi32(a.v, N)}; }
template <int N> SY_INLINE I shr(I a) { return {_mm512_srli_epi32(a.v, N)}; }
template <int N> SY_INLINE I sar(I a) { return {_mm512_srai_epi32(a.v, N)}; }
SY_INLINE I imax(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
SY_INLINE I imin(I a, I b) { return {_mm512_min_epi32(a.v, b.v)}; }

SY_INLINE M lt(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
SY_INLINE M le(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
SY_INLINE M eq(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
SY_INLINE M unordered(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q)}; }
SY_INLINE M ilt(I a, I b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
SY_INLINE M ieq(I a, I b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
SY_INLINE M operator!(M a) { return {__mmask16(~a.v)}; }
SY_INLINE M operator|(M a, M b) { return {__mmask16(a.v | b.v)}; }
SY_INLINE M operator&(M a, M b) { return {__mmask16(a.v & b.v)}; }
SY_INLINE bool any(M a) { return a.v != 0; }
SY_INLINE uint32_t mask_bits(M a) { return a.v; }
SY_INLINE int pack_lanes(float* p, int32_t* q, F x, I y, M m) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m.v, x.v));  // in a register: to memory it is slow on some machines
  _mm512_storeu_si512(q, _mm512_maskz_compress_epi32(m.v, y.v));
  return _mm_popcnt_u32(m.v);
}
SY_INLINE int pack_floats(float* p, F x, M m) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m.v, x.v));
  return _mm_popcnt_u32(m.v);
}
SY_INLINE I ones(M a) { return {_mm512_maskz_set1_epi32(a.v, 1)}; }
SY_INLINE F select(M m, F a, F b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
SY_INLINE I iselect(M m, I a, I b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }

SY_INLINE F scale2(F x, I n) { return {_mm512_scalef_ps(x.v, _mm512_cvtepi32_ps(n.v))}; }
SY_INLINE float reduce_add(F a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
SY_INLINE float reduce_max(F a) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
SY_INLINE float reduce_min(F a) {
  const __m256 h = _mm256_min_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_min_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_min_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_min_ss(q, _mm_movehdup_ps(q)));
}
