// The bf16 kernels with vdpbf16ps: two products per lane and instruction, in rising order of k.

template <Format f, int R, int P>
void bf16_block(const PanelJob& job, const std::byte* panel, const std::byte* x, float* y, int64_t outputs) {
  const int64_t k_all = job.layout.columns, stride = job.layout.bytes;
  F acc[R][P];
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) acc[r][p] = f_zero();
  }
  for (int64_t i = 0; 2 * i < k_all; i++) {
    const std::byte* pairs = x + i / 16 * R * 64 + i % 16 * 4;  // [R] rows, 64 bytes apart
    I w[P];
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      w[p] = load_pair<f>(panel + p * stride, i, k_all);
      constexpr int kPairBytes = f == Format::kF32 ? 128 : f == Format::kF8E4M3 ? 32 : 64;
      if constexpr (R <= kStreamRows) prefetch(panel + p * stride + i * kPairBytes + kPrefetch);
    }
    SY_UNROLL(16)
    for (int r = 0; r < R; r++) {
      const __m512bh b = reinterpret_cast<__m512bh>(_mm512_set1_epi32(load_dword(pairs + 64 * r)));
      SY_UNROLL(4)
      for (int p = 0; p < P; p++) acc[r][p] = _mm512_dpbf16_ps(acc[r][p], reinterpret_cast<__m512bh>(w[p]), b);
    }
  }
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      f_store_n(y + r * job.y_stride + 16 * p, acc[r][p], outputs - 16 * p < 16 ? outputs - 16 * p : 16);
    }
  }
}

template <Format f, int R, int P>
void bf16_from(int64_t rows, const PanelJob& job, const std::byte* panel, const std::byte* x, float* y,
               int64_t outputs) {
  if constexpr (R > 1) {
    if (rows < R) return bf16_from<f, R - 1, P>(rows, job, panel, x, y, outputs);
  }
  bf16_block<f, R, P>(job, panel, x, y, outputs);
}

template <Format f, int P>
void bf16_run(const PanelJob& job, int64_t panel) {
  for (int64_t i = job.first_block; i < job.last_block; i++) {
    const int64_t row = job.block_row(i);
    bf16_from<f, kBf16Rows, P>(job.block_row(i + 1) - row, job, job.panels + panel * job.layout.bytes,
                               job.x + row * job.x_row_bytes, job.y + row * job.y_stride + 16 * panel,
                               job.outputs - 16 * panel);
  }
}

template <Format f>
void bf16_panels(const PanelJob& job) {
  int64_t p = 0;
  for (; p + kBf16Panels <= job.panel_count; p += kBf16Panels) bf16_run<f, kBf16Panels>(job, p);
  for (; p < job.panel_count; p++) bf16_run<f, 1>(job, p);
}
