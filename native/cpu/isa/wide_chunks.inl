// wide_dots from the i_dots of an instruction set, which sum a chunk of 32 values. `dot` comes in as zeros.

template <Format f, int R, int P>
inline void wide_dots(const WideSlab& slab, int64_t chunk, int64_t chunks, int64_t row, const int8_t* x,
                      const int32_t* minus_sum, I (*dot)[P]) {
  using S = Spec<f>;
  for (int64_t c = 0; c < chunks; c++) {
    const std::byte* codes = slab.codes + (chunk + c) * S::kCodeBytes;
    I code[P][8];
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      SY_UNROLL(8)
      for (int v = 0; v < 8; v++) code[p][v] = code_vector<f>(codes + p * slab.stride, v);
    }
    fetch_ahead<f, P>(slab, chunk + c);
    SY_UNROLL(16)
    for (int r = 0; r < R; r++) {
      I part[P];
      i_dots<S::kBits, S::kInfo.zero, 8, P>(code, x + r * row + c * kChunk, c == 0 ? minus_sum[r] : 0, part);
      SY_UNROLL(4)
      for (int p = 0; p < P; p++) dot[r][p] = i_add(dot[r][p], part[p]);
    }
  }
}
