// Packing rows of f32 in plain C++; simd_avx512.inl has its own.

// to[i·rows + r] = x[r·stride + i] for 16 values of up to 16 rows.
inline void transpose_line(const float* x, int64_t stride, int64_t rows, float* to) {
  for (int64_t r = 0; r < rows; r++)
    for (int i = 0; i < 16; i++) to[i * rows + r] = x[r * stride + i];
}
