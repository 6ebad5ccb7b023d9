// i_dots with VNNI: four products per lane and instruction.

template <int kBits, int kZero, int N, int P>
inline void i_dots(const I (*codes)[N], const int8_t* x, int32_t minus_sum, I* dot) {
  SY_UNROLL(4)
  for (int p = 0; p < P; p++) {
    // The zeros are powers of two: a shift instead of a slow multiplication.
    dot[p] = kZero == 0 ? _mm512_setzero_si512() : i_shl(_mm512_set1_epi32(minus_sum), log2_of(kZero));
  }
  SY_UNROLL(8)
  for (int v = 0; v < N; v++) {
    const I b = _mm512_set1_epi32(load_dword(x + 4 * v));
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) dot[p] = _mm512_dpbusd_epi32(dot[p], codes[p][v], b);
  }
}
