// 16 lanes of f32 (F), i32 (I) and a mask (M), the same on every tier. Included inside a namespace of the
// tier, after all standard headers and after the target pragma; the tier file defines one of SY_SCALAR,
// SY_AVX2, SY_AVX512, SY_NEON.
//
//   load load_n store store_n      f32; _n touches the first n (0…16) lanes only, others load as 0
//   iload iload_n istore istore_n  i32
//   load_half load_bf16 store_half store_bf16   16-bit floats, 16 lanes; rounding to nearest even
//   load_i8                        whole numbers of 8 bits, as f32
//   + - * /, fma(a,b,c) = a·b + c, fnma = c - a·b  (one rounding; two on the scalar tier)
//   lt le eq, unordered, select(m, a, b), max2 min2 (b where unordered), sqrt, floor, round_even, abs, neg
//   bits(F) floats(I) to_int (truncates) to_float, integer + - *, &, |, ^, shl<N> shr<N> sar<N>, ilt ieq imax
//   mask_bits(m): lane i is bit i; pack_lanes(p, q, x, y, m): the lanes of m together, returns how many (writes 16);
//   pack_floats(p, x, m) the same of x alone
//   imin scale2(x, n) = x·2^n, reduce_add/max/min by halves: lane i with i + 8, i + 4, i + 2, i + 1
#if defined(SY_SCALAR) && (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define SY_INLINE \
  static __attribute__((noinline, unused))  // loops over lanes, inlined everywhere, take minutes to compile
#elif defined(SY_SCALAR)
#define SY_INLINE static inline
#elif defined(_MSC_VER) && !defined(__clang__)
#define SY_INLINE static __forceinline
#else
#define SY_INLINE static inline __attribute__((always_inline))
#endif

#if defined(SY_AVX512)
#include "cpu/isa/vec_avx512.inl"
#elif defined(SY_AVX2)
#include "cpu/isa/vec_avx2.inl"
#elif defined(SY_NEON)
#include "cpu/isa/vec_neon.inl"
#else
#include "cpu/isa/vec_scalar.inl"
#endif

#if !defined(SY_AVX512) && !defined(SY_AVX2)
SY_INLINE int pack_floats(float* p, F x, M m) {
  float values[16];
  store(values, x);
  int n = 0;
  for (uint32_t b = mask_bits(m); b != 0; b &= b - 1) p[n++] = values[std::countr_zero(b)];
  return n;
}
SY_INLINE int pack_lanes(float* p, int32_t* q, F x, I y, M m) {
  int32_t words[16];
  istore(words, y);
  int n = 0;
  for (uint32_t b = mask_bits(m); b != 0; b &= b - 1) q[n++] = words[std::countr_zero(b)];
  return pack_floats(p, x, m);
}
#endif

SY_INLINE F abs(F a) { return floats(bits(a) & iset1(0x7fffffff)); }
SY_INLINE F neg(F a) { return floats(bits(a) ^ iset1(int32_t(0x80000000))); }
SY_INLINE F zero() { return set1(0.0f); }
// max and min that pass NaN on.
SY_INLINE F max_nan(F a, F b) { return select(unordered(a, a), a, max2(a, b)); }
SY_INLINE F min_nan(F a, F b) { return select(unordered(a, a), a, min2(a, b)); }
SY_INLINE F copy_sign(F magnitude, F sign) {
  const I mask = iset1(int32_t(0x80000000));
  return floats((bits(magnitude) & iset1(0x7fffffff)) | (bits(sign) & mask));
}
SY_INLINE I lane_index() {
  static constexpr int32_t kIndex[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return iload(kIndex);
}
// x in the first n lanes, zero in the others.
SY_INLINE F keep_n(F x, int n) { return select(ilt(lane_index(), iset1(n)), x, zero()); }
