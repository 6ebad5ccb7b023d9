// vec.inl for AVX2, FMA and F16C: two ymm registers.
struct F { __m256 a, b; };
struct I { __m256i a, b; };
struct M { __m256i a, b; };

#define SY_BOTH(op, ...) {op(x.a, ##__VA_ARGS__), op(x.b, ##__VA_ARGS__)}
#define SY_PAIR(op) {op(x.a, y.a), op(x.b, y.b)}
SY_INLINE I lanes_below(int n) {  // -1 in the first n lanes
  const __m256i limit = _mm256_set1_epi32(n);
  return {_mm256_cmpgt_epi32(limit, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_cmpgt_epi32(limit, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
SY_INLINE F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
SY_INLINE I iset1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
SY_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
SY_INLINE F load_n(const float* p, int n) {
  const I m = lanes_below(n);
  return {_mm256_maskload_ps(p, m.a), _mm256_maskload_ps(p + 8, m.b)};
}
SY_INLINE void store(float* p, F x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
SY_INLINE void store_n(float* p, F x, int n) {
  const I m = lanes_below(n);
  _mm256_maskstore_ps(p, m.a, x.a);
  _mm256_maskstore_ps(p + 8, m.b, x.b);
}
SY_INLINE __m256i load_integers(const int32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
SY_INLINE I iload(const int32_t* p) { return {load_integers(p), load_integers(p + 8)}; }
SY_INLINE I iload_n(const int32_t* p, int n) {
  const I m = lanes_below(n);
  return {_mm256_maskload_epi32(p, m.a), _mm256_maskload_epi32(p + 8, m.b)};
}
SY_INLINE void istore(int32_t* p, I x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
SY_INLINE void istore_n(int32_t* p, I x, int n) {
  const I m = lanes_below(n);
  _mm256_maskstore_epi32(p, m.a, x.a);
  _mm256_maskstore_epi32(p + 8, m.b, x.b);
}
SY_INLINE __m128i load_shorts(const uint16_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
SY_INLINE F load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(load_shorts(p)), _mm256_cvtph_ps(load_shorts(p + 8))};
}
SY_INLINE void store_half(uint16_t* p, F x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
SY_INLINE F load_bf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_shorts(p)), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_shorts(p + 8)), 16))};
}
SY_INLINE F load_i8(const int8_t* p) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
SY_INLINE __m256i bf16_bits(__m256 x) {  // in the low half of each lane
  const __m256i b = _mm256_castps_si256(x), high = _mm256_srli_epi32(b, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i r =
      _mm256_srli_epi32(_mm256_add_epi32(b, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
}
SY_INLINE void store_bf16(uint16_t* p, F x) {
  const __m256i packed = _mm256_packus_epi32(bf16_bits(x.a), bf16_bits(x.b));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}

SY_INLINE F operator+(F x, F y) { return SY_PAIR(_mm256_add_ps); }
SY_INLINE F operator-(F x, F y) { return SY_PAIR(_mm256_sub_ps); }
SY_INLINE F operator*(F x, F y) { return SY_PAIR(_mm256_mul_ps); }
SY_INLINE F operator/(F x, F y) { return SY_PAIR(_mm256_div_ps); }
SY_INLINE F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
SY_INLINE F fnma(F x, F y, F z) { return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)}; }
SY_INLINE F max2(F x, F y) { return SY_PAIR(_mm256_max_ps); }
SY_INLINE F min2(F x, F y) { return SY_PAIR(_mm256_min_ps); }
SY_INLINE F sqrt(F x) { return SY_BOTH(_mm256_sqrt_ps); }
SY_INLINE F floor(F x) { return SY_BOTH(_mm256_floor_ps); }
SY_INLINE F round_even(F x) {
  return SY_BOTH(_mm256_round_ps, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

SY_INLINE I bits(F x) { return SY_BOTH(_mm256_castps_si256); }
SY_INLINE F floats(I x) { return SY_BOTH(_mm256_castsi256_ps); }
SY_INLINE I to_int(F x) { return SY_BOTH(_mm256_cvttps_epi32); }
SY_INLINE F to_float(I x) { return SY_BOTH(_mm256_cvtepi32_ps); }
SY_INLINE I operator+(I x, I y) { return SY_PAIR(_mm256_add_epi32); }
SY_INLINE I operator-(I x, I y) { return SY_PAIR(_mm256_sub_epi32); }
SY_INLINE I operator*(I x, I y) { return SY_PAIR(_mm256_mullo_epi32); }
SY_INLINE I operator&(I x, I y) { return SY_PAIR(_mm256_and_si256); }
SY_INLINE I operator|(I x, I y) { return SY_PAIR(_mm256_or_si256); }
SY_INLINE I operator^(I x, I y) { return SY_PAIR(_mm256_xor_si256); }
template <int N> SY_INLINE I shl(I x) { return SY_BOTH(_mm256_slli_epi32, N); }
template <int N> SY_INLINE I shr(I x) { return SY_BOTH(_mm256_srli_epi32, N); }
template <int N> SY_INLINE I sar(I x) { return SY_BOTH(_mm256_srai_epi32, N); }
SY_INLINE I imax(I x, I y) { return SY_PAIR(_mm256_max_epi32); }
SY_INLINE I imin(I x, I y) { return SY_PAIR(_mm256_min_epi32); }

SY_INLINE M as_mask(F x) { return SY_BOTH(_mm256_castps_si256); }
SY_INLINE M lt(F x, F y) {
  return as_mask({_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)});
}
SY_INLINE M le(F x, F y) {
  return as_mask({_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)});
}
SY_INLINE M eq(F x, F y) {
  return as_mask({_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)});
}
SY_INLINE M unordered(F x, F y) {
  return as_mask({_mm256_cmp_ps(x.a, y.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, y.b, _CMP_UNORD_Q)});
}
SY_INLINE M ilt(I x, I y) { return {_mm256_cmpgt_epi32(y.a, x.a), _mm256_cmpgt_epi32(y.b, x.b)}; }
SY_INLINE M ieq(I x, I y) { return SY_PAIR(_mm256_cmpeq_epi32); }
SY_INLINE M operator!(M x) { const __m256i o = _mm256_set1_epi32(-1); return SY_BOTH(_mm256_xor_si256, o); }
SY_INLINE M operator|(M x, M y) { return SY_PAIR(_mm256_or_si256); }
SY_INLINE M operator&(M x, M y) { return SY_PAIR(_mm256_and_si256); }
SY_INLINE bool any(M x) { return _mm256_movemask_epi8(_mm256_or_si256(x.a, x.b)) != 0; }
SY_INLINE uint32_t mask_bits(M x) {
  return uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(x.a))) |
         uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(x.b))) << 8;
}
// For each mask of 8 lanes the lanes that are set, in order.
struct LaneLists {
  uint64_t lanes[256];  // a byte each
};
static constexpr LaneLists kSetLanes = [] {
  LaneLists lists{};
  for (uint32_t mask = 0; mask < 256; mask++) {
    int n = 0;
    for (uint64_t lane = 0; lane < 8; lane++) {
      if (mask >> lane & 1) lists.lanes[mask] |= lane << (8 * n++);
    }
  }
  return lists;
}();
SY_INLINE __m256i set_lanes(uint32_t mask) { return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(kSetLanes.lanes[mask]))); }
SY_INLINE int pack_floats(float* p, F x, M m) {
  const uint32_t mask = mask_bits(m), low = mask & 255, high = mask >> 8;
  const int first = _mm_popcnt_u32(low);
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(x.a, set_lanes(low)));
  _mm256_storeu_ps(p + first, _mm256_permutevar8x32_ps(x.b, set_lanes(high)));
  return first + _mm_popcnt_u32(high);
}
SY_INLINE int pack_lanes(float* p, int32_t* q, F x, I y, M m) {
  const uint32_t mask = mask_bits(m), low = mask & 255, high = mask >> 8;
  const int first = _mm_popcnt_u32(low);
  const __m256i from_low = set_lanes(low), from_high = set_lanes(high);
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(x.a, from_low));
  _mm256_storeu_ps(p + first, _mm256_permutevar8x32_ps(x.b, from_high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), _mm256_permutevar8x32_epi32(y.a, from_low));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + first), _mm256_permutevar8x32_epi32(y.b, from_high));
  return first + _mm_popcnt_u32(high);
}
SY_INLINE I ones(M x) { return SY_BOTH(_mm256_srli_epi32, 31); }
SY_INLINE F select(M m, F x, F y) {
  return {_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(m.a)),
          _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(m.b))};
}
SY_INLINE I iselect(M m, I x, I y) {
  return {_mm256_blendv_epi8(y.a, x.a, m.a), _mm256_blendv_epi8(y.b, x.b, m.b)};
}

SY_INLINE F scale2(F x, I n) {
  const I half = sar<1>(n), rest = n - half, bias = iset1(127);
  return x * floats(shl<23>(half + bias)) * floats(shl<23>(rest + bias));
}
#define SY_REDUCE(name, op)                                                  \
  SY_INLINE float name(F x) {                                                \
    const __m256 h = _mm256_##op##_ps(x.a, x.b);                             \
    __m128 q = _mm_##op##_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)); \
    q = _mm_##op##_ps(q, _mm_movehl_ps(q, q));                               \
    return _mm_cvtss_f32(_mm_##op##_ss(q, _mm_movehdup_ps(q)));              \
  }
SY_REDUCE(reduce_add, add)
SY_REDUCE(reduce_max, max)
SY_REDUCE(reduce_min, min)
#undef SY_REDUCE
#undef SY_BOTH
#undef SY_PAIR
