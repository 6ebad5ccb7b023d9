// wide_dots with VNNI: R·P sums in registers over the whole group, P code vectors and a broadcast of four activations.

template <Format f, int R, int P>
inline void wide_dots(const WideSlab& slab, int64_t chunk, int64_t chunks, int64_t row, const int8_t* x,
                      const int32_t* minus_sum, I (*dot)[P]) {
  using S = Spec<f>;
  // The zeros are powers of two: a shift instead of a slow multiplication.
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    const I start = i_shl(_mm512_set1_epi32(minus_sum[r]), log2_of(S::kInfo.zero));
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) dot[r][p] = start;
  }
  const std::byte* codes = slab.codes + chunk * S::kCodeBytes;
  for (int64_t c = 0; c < chunks; c++, codes += S::kCodeBytes, x += kChunk) {
    fetch_ahead<f, P>(slab, chunk + c);
    SY_UNROLL(8)
    for (int i = 0; i < 8; i++) {
      // Nibbles: the two code vectors of a packed one after another.
      const int v = S::kBits == 4 ? i / 2 + i % 2 * 4 : i;
      I code[P];
      SY_UNROLL(4)
      for (int p = 0; p < P; p++) code[p] = code_vector<f>(codes + p * slab.stride, v);
      SY_UNROLL(16)
      for (int r = 0; r < R; r++) {
        const I b = _mm512_set1_epi32(load_dword(x + r * row + 4 * v));
        SY_UNROLL(4)
        for (int p = 0; p < P; p++) dot[r][p] = _mm512_dpbusd_epi32(dot[r][p], code[p], b);
      }
    }
  }
}
