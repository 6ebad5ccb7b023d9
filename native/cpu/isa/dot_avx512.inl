// i_dots without VNNI: vpmaddubsw adds pairs in i16 and saturates, which bounds how many sums may be added there.

template <int kBits, int kZero, int N>
inline I i_dot(const I* codes, const int8_t* x, int32_t minus_sum) {
  const I ones = _mm512_set1_epi16(1);
  if constexpr (kBits == 8) {
    // Full bytes would saturate: |w|·(±x) with w = code - 128 does not (2·128·127 < 2^15).
    static_assert(kZero == 128);
    I sum = _mm512_setzero_si512();
    const I flip = _mm512_set1_epi8(static_cast<char>(0x80));
    SY_UNROLL(8)
    for (int v = 0; v < N; v++) {
      const I w = _mm512_xor_si512(codes[v], flip), b = _mm512_set1_epi32(load_dword(x + 4 * v));
      const I signed_x = _mm512_mask_sub_epi8(b, _mm512_movepi8_mask(w), _mm512_setzero_si512(), b);
      const I pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, ones));
    }
    return sum;
  } else {
    // A pair is at most 2·(2^bits - 1)·127: 8 pairs of 4-bit codes, 4 of 5-bit and 2 of 6-bit ones fit in i16.
    constexpr int kSafe = kBits <= 4 ? 8 : kBits == 5 ? 4 : 2;
    I sum = kZero == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(minus_sum * kZero);
    SY_UNROLL(8)
    for (int v = 0; v < N; v += kSafe) {
      I pairs = _mm512_maddubs_epi16(codes[v], _mm512_set1_epi32(load_dword(x + 4 * v)));
      for (int i = 1; i < kSafe && v + i < N; i++) {
        const I more = _mm512_maddubs_epi16(codes[v + i], _mm512_set1_epi32(load_dword(x + 4 * (v + i))));
        pairs = _mm512_add_epi16(pairs, more);
      }
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, ones));
    }
    return sum;
  }
}

template <int kBits, int kZero, int N, int P>
inline void i_dots(const I (*codes)[N], const int8_t* x, int32_t minus_sum, I* dot) {
  SY_UNROLL(4)
  for (int p = 0; p < P; p++) dot[p] = i_dot<kBits, kZero, N>(codes[p], x, minus_sum);
}
