// The vector operations of the linear kernels for AVX2 with FMA and F16C: 16 lanes in two registers.

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};

inline F f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F f_set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F f_load(const void* p) {
  const float* f = static_cast<const float*>(p);
  return {_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}
inline void f_store(float* p, const F& x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline F f_load_n(const float* p, int64_t n) {
  if (n >= 16) return f_load(p);
  alignas(32) float part[16] = {};
  __builtin_memcpy(part, p, static_cast<size_t>(n) * 4);
  return f_load(part);
}
inline void f_store_n(float* p, const F& x, int64_t n) {
  if (n >= 16) return f_store(p, x);
  alignas(32) float part[16];
  f_store(part, x);
  __builtin_memcpy(p, part, static_cast<size_t>(n) * 4);
}
inline F f_fma(const F& x, const F& y, const F& z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline F f_mul(const F& x, const F& y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F f_from_i32(const I& x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline __m128i load_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline F f_load_f16(const void* p) {
  const char* h = static_cast<const char*>(p);
  return {_mm256_cvtph_ps(load_bytes(h)), _mm256_cvtph_ps(load_bytes(h + 16))};
}
inline F f_load_i8(const void* p) {
  const __m128i x = load_bytes(p);
  return f_from_i32({_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))});
}
inline F bytes_to_f32(__m128i x) {
  return f_from_i32({_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))});
}
inline F f_load_u8(const void* p) { return bytes_to_f32(load_bytes(p)); }
inline F f_load_u4(const void* p, int shift) {
  return bytes_to_f32(_mm_and_si128(_mm_srl_epi16(load_bytes(p), _mm_cvtsi32_si128(shift)), _mm_set1_epi8(15)));
}

// 2^(e - 128) of 16 bytes e; e = 0 and 1 give subnormal numbers.
inline __m256 power_of(__m256i e) {
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23), small = _mm256_slli_epi32(_mm256_add_epi32(e, one), 21);
  return _mm256_castsi256_ps(_mm256_max_epi32(normal, small));
}
inline F f_load_exponent(const void* p) {
  const __m128i e = load_bytes(p);
  return {power_of(_mm256_cvtepu8_epi32(e)), power_of(_mm256_cvtepu8_epi32(_mm_srli_si128(e, 8)))};
}

// Shifts by a count that is a constant once the loop around it is unrolled.
inline __m256i shl(__m256i x, int n) { return reinterpret_cast<__m256i>(reinterpret_cast<__v8su>(x) << n); }
inline __m256i shr(__m256i x, int n) { return reinterpret_cast<__m256i>(reinterpret_cast<__v8su>(x) >> n); }
inline I i_shl(const I& x, int n) { return {shl(x.a, n), shl(x.b, n)}; }
inline I i_shr(const I& x, int n) { return {shr(x.a, n), shr(x.b, n)}; }
inline I i_load(const void* p) {
  const __m256i* v = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
inline I i_and(const I& x, uint32_t mask) {
  const __m256i m = _mm256_set1_epi32(static_cast<int>(mask));
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
inline I i_add(const I& x, const I& y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I i_or(const I& x, const I& y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }

inline __m256 pairs_f16(__m256i x) {
  // The low halves of 8 dwords to 8 neighbouring f16: dwords hold at most 16 bits, so nothing saturates.
  const __m256i packed = _mm256_packus_epi32(x, x);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}
inline F f_pair_f16(const I& x, int odd) {
  const I low = odd ? i_shr(x, 16) : i_and(x, 0xffff);
  return {pairs_f16(low.a), pairs_f16(low.b)};
}
inline F f_pair_bf16(const I& x, int odd) {
  const I bits = odd ? i_and(x, 0xffff0000u) : i_shl(x, 16);
  return {_mm256_castsi256_ps(bits.a), _mm256_castsi256_ps(bits.b)};
}
inline F f_byte(const I& x, int i) { return f_from_i32(i == 3 ? i_shr(x, 24) : i_and(i == 0 ? x : i_shr(x, 8 * i), 255)); }
inline F f_nibble(const I& x, int i) { return f_from_i32(i == 7 ? i_shr(x, 28) : i_and(i == 0 ? x : i_shr(x, 4 * i), 15)); }

// Byte i of every lane as float8_times_2_120th() has it: a signed shift leaves the sign where f32 has it.
inline F f_float8(const I& x, int i) {
  const I top = i == 3 ? x : i_shl(x, 24 - 8 * i);
  const I bits = i_and({_mm256_srai_epi32(top.a, 4), _mm256_srai_epi32(top.b, 4)}, 0x87f00000u);
  return {_mm256_castsi256_ps(bits.a), _mm256_castsi256_ps(bits.b)};
}

// table[nibble i] of every lane, and table[byte] of every byte below 16.
inline __m256 table_values(__m256i at, const F& table) {
  const __m256 low = _mm256_permutevar8x32_ps(table.a, at), high = _mm256_permutevar8x32_ps(table.b, at);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));  // by bit 3
}
inline F f_lookup(const I& x, int i, const int8_t* table) {
  const F values = f_load_i8(table);
  const I at = i == 0 ? x : i_shr(x, 4 * i);
  return {table_values(at.a, values), table_values(at.b, values)};
}
inline I i_lookup(const I& x, const uint8_t* table) {
  const __m256i bytes = _mm256_broadcastsi128_si256(load_bytes(table));
  return {_mm256_shuffle_epi8(bytes, x.a), _mm256_shuffle_epi8(bytes, x.b)};
}

inline int load_dword(const void* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return v;
}
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// See dot_avx512.inl for what fits in i16.
template <int kBits, int kZero, int N>
inline __m256i half_dot(const __m256i* codes, const __m256i* x, int32_t minus_sum) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kBits == 8) {
    static_assert(kZero == 128);
    __m256i sum = _mm256_setzero_si256();
    const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80));
    for (int v = 0; v < N; v++) {
      const __m256i w = _mm256_xor_si256(codes[v], flip);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x[v], w));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
  } else {
    constexpr int kSafe = kBits <= 4 ? 8 : kBits == 5 ? 4 : 2;
    __m256i sum = kZero == 0 ? _mm256_setzero_si256() : _mm256_set1_epi32(minus_sum * kZero);
    for (int v = 0; v < N; v += kSafe) {
      __m256i pairs = _mm256_maddubs_epi16(codes[v], x[v]);
      for (int i = 1; i < kSafe && v + i < N; i++) {
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes[v + i], x[v + i]));
      }
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
  }
}

template <int kBits, int kZero, int N, int P>
inline void i_dots(const I (*codes)[N], const int8_t* x, int32_t minus_sum, I* dot) {
  static_assert(P == 1);
  __m256i b[N], low[N], high[N];
  for (int v = 0; v < N; v++) {
    b[v] = _mm256_set1_epi32(load_dword(x + 4 * v));
    low[v] = codes[0][v].a;
    high[v] = codes[0][v].b;
  }
  dot[0] = {half_dot<kBits, kZero, N>(low, b, minus_sum), half_dot<kBits, kZero, N>(high, b, minus_sum)};
}
