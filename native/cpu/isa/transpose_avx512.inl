// 16 rows of 16 floats to columns: fn(c, column c) for each of 16.
//
// Each row is read once, whole: rows that lie a power of two apart drive each other out of the first cache.
template <class Fn>
__attribute__((always_inline)) inline void transposed_columns(const float* const* rows, const Fn& fn) {
  __m512 t[16];  // t[8·h + i]: columns 8h to 8h + 7 of rows i and i + 4, or for i > 3 of rows i + 4 and i + 8
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    const float *low = rows[i + i / 4 * 4], *high = rows[i + i / 4 * 4 + 4];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
      const __m512d both = _mm512_castps_pd(_mm512_castps256_ps512(_mm256_loadu_ps(low + 8 * h)));
      t[8 * h + i] = _mm512_castpd_ps(
          _mm512_insertf64x4(both, _mm256_castps_pd(_mm256_loadu_ps(high + 8 * h)), 1));
    }
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; h++) {
    __m512 u[2][4];  // u[g][c]: columns 8h + c and 8h + c + 4 of rows 8g to 8g + 7
#pragma GCC unroll 2
    for (int g = 0; g < 2; g++) {
      const __m512* r = t + 8 * h + 4 * g;
      const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1])), b = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
      const __m512d e = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1])), f = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
      u[g][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      u[g][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
      u[g][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(e, f));
      u[g][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(e, f));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      fn(8 * h + c, _mm512_shuffle_f32x4(u[0][c], u[1][c], 0x88));
      fn(8 * h + c + 4, _mm512_shuffle_f32x4(u[0][c], u[1][c], 0xdd));
    }
  }
}
