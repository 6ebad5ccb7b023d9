// The vector operations of the linear kernels for AVX-512 F, BW, DQ, VL.

using F = __m512;
using I = __m512i;

inline F f_zero() { return _mm512_setzero_ps(); }
inline F f_set1(float x) { return _mm512_set1_ps(x); }
inline F f_load(const void* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm512_storeu_ps(p, a); }
inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1); }
inline F f_load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline void f_store_n(float* p, F a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_from_i32(I a) { return _mm512_cvtepi32_ps(a); }
inline F f_load_f16(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
inline __m128i load_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline F f_load_i8(const void* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(p))); }
inline F f_load_u8(const void* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_bytes(p))); }
inline F f_load_u4(const void* p, int shift) {
  const I bytes = _mm512_cvtepu8_epi32(load_bytes(p));
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift)), _mm512_set1_epi32(15)));
}
// 2^(e - 128) of 16 bytes e; e = 0 and 1 give subnormal numbers.
inline F f_load_exponent(const void* p) {
  const I e = _mm512_cvtepu8_epi32(load_bytes(p)), one = _mm512_set1_epi32(1);
  const I normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23), small = _mm512_slli_epi32(_mm512_add_epi32(e, one), 21);
  return _mm512_castsi512_ps(_mm512_max_epi32(normal, small));
}
inline F f_pair_f16(I a, int odd) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(odd ? _mm512_srli_epi32(a, 16) : a));
}
inline F f_pair_bf16(I a, int odd) {
  return _mm512_castsi512_ps(odd ? _mm512_and_si512(a, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))
                                 : _mm512_slli_epi32(a, 16));
}

// Shifts by a count that is a constant once the loop around it is unrolled.
inline I i_shl(I a, int n) { return reinterpret_cast<I>(reinterpret_cast<__v16su>(a) << n); }
inline I i_shr(I a, int n) { return reinterpret_cast<I>(reinterpret_cast<__v16su>(a) >> n); }
inline I i_load(const void* p) { return _mm512_loadu_si512(p); }
inline I i_and(I a, uint32_t mask) { return _mm512_and_si512(a, _mm512_set1_epi32(static_cast<int>(mask))); }
inline void i_store(void* p, I a) { _mm512_storeu_si512(p, a); }
inline I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I i_or(I a, I b) { return _mm512_or_si512(a, b); }

inline F f_byte(I a, int i) {
  const I byte = i == 3 ? i_shr(a, 24) : i_and(i == 0 ? a : i_shr(a, 8 * i), 255);
  return _mm512_cvtepi32_ps(byte);
}
// A table of 0…15 in f32 instead of mask and convert: the permutation reads only the low four bits.
inline F f_nibble(I a, int i) {
  const F table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_ps(i == 0 ? a : i_shr(a, 4 * i), table);
}

// Byte i of every lane as float8_times_2_120th() has it: a signed shift leaves the sign where f32 has it.
inline F f_float8(I a, int i) {
  const I spread = _mm512_srai_epi32(i == 3 ? a : i_shl(a, 24 - 8 * i), 4);
  return _mm512_castsi512_ps(i_and(spread, 0x87f00000u));
}

// table[nibble i] of every lane, and table[byte] of every byte below 16.
inline F f_lookup(I a, int i, const int8_t* table) {
  const F values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(table)));
  return _mm512_permutexvar_ps(i == 0 ? a : i_shr(a, 4 * i), values);
}
inline I i_lookup(I a, const uint8_t* table) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_bytes(table)), a); }

constexpr int log2_of(int n) { return n <= 1 ? 0 : 1 + log2_of(n / 2); }
inline int load_dword(const void* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return v;
}
// Into L2: lines that are on their way to L1 hold its few miss buffers until memory answers (Zen 4: 15 to 30 % faster).
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

// The bits of the largest magnitude of a chunk. Bits of magnitudes are ordered as the magnitudes are, NaN last.
inline int32_t largest_magnitude(const float* x) {
  const __m512i sign = _mm512_set1_epi32(0x7fffffff);
  const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), sign), b = _mm512_and_si512(_mm512_loadu_si512(x + 16), sign);
  return _mm512_reduce_max_epi32(_mm512_max_epi32(a, b));
}

// The same of `chunks` chunks, which follow each other; sixteen are folded at once, each into a lane of its own.
inline void largest_magnitudes(const float* x, int64_t chunks, int32_t* out) {
  const __m512i sign = _mm512_set1_epi32(0x7fffffff);
  int64_t c = 0;
  for (; c + 16 <= chunks; c += 16, x += 16 * kChunk) {
    __m512i v[16];
    SY_UNROLL(16)
    for (int i = 0; i < 16; i++) {
      const __m512i a = _mm512_loadu_si512(x + i * kChunk), b = _mm512_loadu_si512(x + i * kChunk + 16);
      v[i] = _mm512_max_epi32(_mm512_and_si512(a, sign), _mm512_and_si512(b, sign));
    }
    // Two chunks a vector, four, eight, sixteen.
    SY_UNROLL(8)
    for (int i = 0; i < 8; i++) {
      v[i] = _mm512_max_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    }
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++) {
      v[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
    }
    SY_UNROLL(2)
    for (int level = 0; level < 2; level++) {
      for (int i = 0; i < 2 - level; i++) {
        v[i] = _mm512_max_epi32(_mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0xdd));
      }
    }
    _mm512_storeu_si512(out + c, v[0]);
  }
  for (; c < chunks; c++, x += kChunk) out[c] = largest_magnitude(x);
}

#include "cpu/isa/transpose_avx512.inl"

// to[i·rows + r] = x[r·stride + i] for 16 values of up to 16 rows.
inline void transpose_line(const float* x, int64_t stride, int64_t rows, float* to) {
  const float* row[16];
  for (int r = 0; r < 16; r++) row[r] = x + (r < rows ? r : 0) * stride;
  const __mmask16 lanes = static_cast<__mmask16>((1u << rows) - 1);
  transposed_columns(row, [&](int c, __m512 column) __attribute__((always_inline)) { _mm512_mask_storeu_ps(to + c * rows, lanes, column); });
}

// codes = x · inverse to nearest even, |x · inverse| < 128, of a half of a chunk; the codes as they are before they become
// bytes.
inline __m512i quantize_half(const float* x, __m512 inverse, int8_t* codes) {
  const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(code));
  return code;
}

// The codes of a chunk; sums over the two halves.
inline void quantize_chunk(const float* x, float inverse, int8_t* codes, int32_t* sum) {
  const __m512 scale = _mm512_set1_ps(inverse);
  sum[0] = _mm512_reduce_add_epi32(quantize_half(x, scale, codes));
  sum[1] = _mm512_reduce_add_epi32(quantize_half(x + 16, scale, codes + 16));
}

// The codes of chunks that share a scale, one after another; the sum over all.
inline int32_t quantize_chunks(const float* const* x, int64_t chunks, float inverse, int8_t* codes) {
  const __m512 scale = _mm512_set1_ps(inverse);
  __m512i sum = _mm512_setzero_si512();
  for (int64_t c = 0; c < chunks; c++, codes += kChunk) {
    const __m512i a = quantize_half(x[c], scale, codes), b = quantize_half(x[c] + 16, scale, codes + 16);
    sum = _mm512_add_epi32(sum, _mm512_add_epi32(a, b));
  }
  return _mm512_reduce_add_epi32(sum);
}
