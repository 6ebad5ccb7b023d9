// Pairs of bf16 from the float formats and f8_e4m3, and the bf16 form of activations; needs AVX-512 BF16.

inline __m512i bf16_words(__m512 x) { return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x))); }
inline __m512i bf16_pair(__m512 even, __m512 odd) {
  return _mm512_or_si512(bf16_words(even), _mm512_slli_epi32(bf16_words(odd), 16));
}

// The values 2i and 2i + 1 of a panel with k_all values; the one past an odd end is zero.
template <Format f>
inline __m512i load_pair(const std::byte* panel, int64_t i, int64_t k_all) {
  if constexpr (f == Format::kF32) {
    const std::byte* at = panel + i * 128;
    return bf16_pair(f_load(at), 2 * i + 1 < k_all ? f_load(at + 64) : f_zero());
  } else if constexpr (f == Format::kF8E4M3) {
    constexpr int64_t kPerScale = kFormatTable[static_cast<int>(f)].group / 2;
    const std::byte* scales = panel + (k_all + kChunk - 1) / kChunk * chunk_code_bytes(8);
    const I codes = i_load(panel + i / 2 * 64);
    const F s = f_load(scales + i / kPerScale * scale_bytes(ScaleKind::kFloat));
    const int at = static_cast<int>(i % 2 * 2);
    return bf16_pair(f_mul(s, f_float8(codes, at)), f_mul(s, f_float8(codes, at + 1)));
  } else {
    const I pair = i_load(panel + i * 64);
    if constexpr (f == Format::kBF16) return pair;
    return bf16_pair(f_pair_f16(pair, 0), f_pair_f16(pair, 1));
  }
}

// One block of rows to [ceil(k / 32)][rows][32]; values past k are zero.
inline void pack_bf16(const float* x, int64_t stride, int64_t rows, int64_t k, std::byte* out) {
  for (int64_t c = 0; c < k; c += kChunk) {
    const int64_t n = k - c < kChunk ? k - c : kChunk;
    for (int64_t r = 0; r < rows; r++, out += 2 * kChunk) {
      const float* from = x + r * stride + c;
      const __m512 low = f_load_n(from, n), high = n > 16 ? f_load_n(from + 16, n - 16) : f_zero();
      const __m512bh packed = _mm512_cvtne2ps_pbh(high, low);
      _mm512_storeu_si512(out, reinterpret_cast<__m512i>(packed));
    }
  }
}
