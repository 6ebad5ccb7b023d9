// Quantising a chunk of activations in plain C++; simd_avx512.inl has its own.

// The bits of the largest magnitude of a chunk. Bits of magnitudes are ordered as the magnitudes are, NaN last.
inline int32_t largest_magnitude(const float* x) {
  int32_t bits[kChunk], top = 0;
  __builtin_memcpy(bits, x, sizeof bits);
  for (int i = 0; i < kChunk; i++) {
    const int32_t magnitude = bits[i] & 0x7fffffff;
    top = magnitude > top ? magnitude : top;
  }
  return top;
}

// The same of `chunks` chunks, which follow each other.
inline void largest_magnitudes(const float* x, int64_t chunks, int32_t* out) {
  for (int64_t c = 0; c < chunks; c++) out[c] = largest_magnitude(x + c * kChunk);
}

// codes = x · inverse to nearest even, |x · inverse| < 128; sums over the two halves.
inline void quantize_chunk(const float* x, float inverse, int8_t* codes, int32_t* sum) {
  constexpr float kRound = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
  for (int i = 0; i < kChunk; i++) {
    const int32_t code = static_cast<int32_t>(x[i] * inverse + kRound - kRound);
    codes[i] = static_cast<int8_t>(code);
    sum[i / 16] += code;
  }
}

// The same for chunks that share a scale, to codes that follow each other; the sum over all.
inline int32_t quantize_chunks(const float* const* x, int64_t chunks, float inverse, int8_t* codes) {
  int32_t sum[2] = {0, 0};
  for (int64_t c = 0; c < chunks; c++) quantize_chunk(x[c], inverse, codes + c * kChunk, sum);
  return sum[0] + sum[1];
}
