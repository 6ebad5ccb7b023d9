// i_dot with VNNI: four products per lane and instruction.

template <int kBits, int kZero, int N>
inline I i_dot(const I* codes, const int8_t* x, int32_t minus_sum) {
  I sum = kZero == 0 ? _mm512_setzero_si512() : _mm512_mullo_epi32(_mm512_set1_epi32(minus_sum), _mm512_set1_epi32(kZero));
  SY_UNROLL(8)
  for (int v = 0; v < N; v++) sum = _mm512_dpbusd_epi32(sum, codes[v], _mm512_set1_epi32(load_dword(x + 4 * v)));
  return sum;
}
