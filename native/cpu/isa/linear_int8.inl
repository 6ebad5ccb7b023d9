// The int8 kernels of one instruction set, after codes.inl; the includer has defined i_dots, the two functions of
// quantize.inl, kInt8Rows, kInt8Panels (register blocking), kInt8MostRows (of one panel at a time), kInt8StreamPanels,
// kStreamRows and kPrefetch.
//
// For every group of 16 or 32 values, in rising order:
//   dot = Σ (q - zero)·x, exact in i32;   acc = fma(s·scale, f32(dot), acc)
//   and where the format stores m:        acc = fma(m, scale·Σx, acc)
// Integers are exact, so every tier gives the same bits.

// `next`: bytes from these panels to those that the thread reads after them; 0: none.
template <Format f, int R, int P>
void int8_block(const PanelJob& job, const std::byte* panel, int64_t next, const std::byte* x, float* y,
                int64_t outputs) {
  using S = Spec<f>;
  const std::byte* words = x + kInt8Groups.words_at(job.layout.columns, R);
  constexpr int N = 8 / S::kGroups;  // code vectors per group
  F acc[R][P];
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) acc[r][p] = f_zero();
  }
  const int64_t chunks = job.layout.columns / kChunk, stride = job.layout.bytes;
  for (int64_t c = 0; c < chunks; c++, x += R * kChunk, words += R * kInt8Words) {
    const std::byte* codes = panel + c * S::kCodeBytes;
    const std::byte* scales = panel + job.layout.scales_at + c * S::kScaleBytes;
    const std::byte* supers = panel + job.layout.supers_at + c / kSuperChunks * S::kSuperBytes;
    const int8_t* values = reinterpret_cast<const int8_t*>(x);
    const float* scale = reinterpret_cast<const float*>(words);
    const int32_t* minus_sum = reinterpret_cast<const int32_t*>(words) + R;
    const float* scaled_sum = scale + 4 * R;
    if constexpr (R <= kStreamRows || R > kInt8Rows) {
      // Chunk c + kAhead, of the next panels where these end.
      constexpr int64_t kAhead = kPrefetch / S::kCodeBytes;
      const bool here = c + kAhead < chunks;
      if (here || next != 0) {
        const int64_t at = here ? c + kAhead : c + kAhead - chunks < chunks ? c + kAhead - chunks : chunks - 1;
        const std::byte* far = here ? panel : panel + next;
        for (int p = 0; p < P; p++) {
          for (int line = 0; line < S::kCodeBytes; line += 64) prefetch(far + p * stride + at * S::kCodeBytes + line);
          prefetch(far + p * stride + job.layout.scales_at + at * S::kScaleBytes);
        }
      }
    }
    SY_UNROLL(2)
    for (int h = 0; h < S::kGroups; h++) {
      const int sums = S::kGroups == 2 ? h : 2;
      I code[P][N];
      F s[P], m[P];
      SY_UNROLL(4)
      for (int p = 0; p < P; p++) {
        SY_UNROLL(8)
        for (int v = 0; v < N; v++) code[p][v] = code_vector<f>(codes + p * stride, v + h * N);
        load_scale<f>(scales + p * stride, supers + p * stride, h, &s[p], &m[p]);
      }
      SY_UNROLL(16)
      for (int r = 0; r < R; r++) {
        I dot[P];
        i_dots<S::kDotBits, S::kInfo.zero, N, P>(code, values + 32 * r + 16 * h, minus_sum[sums * R + r], dot);
        const F row_scale = f_set1(scale[r]);
        SY_UNROLL(4)
        for (int p = 0; p < P; p++) {
          acc[r][p] = f_fma(f_mul(s[p], row_scale), f_from_i32(dot[p]), acc[r][p]);
          if constexpr (S::kHasMin) acc[r][p] = f_fma(m[p], f_set1(scaled_sum[sums * R + r]), acc[r][p]);
        }
      }
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
void int8_from(int64_t rows, const PanelJob& job, const std::byte* panel, int64_t next, const std::byte* x, float* y,
               int64_t outputs) {
  if constexpr (R > 1) {
    if (rows < R) return int8_from<f, R - 1, P>(rows, job, panel, next, x, y, outputs);
  }
  int8_block<f, R, P>(job, panel, next, x, y, outputs);
}

template <Format f, int R, int P>
void int8_run(const PanelJob& job, int64_t panel) {
  const int64_t next = panel + P < job.panel_count ? P * job.layout.bytes : 0;
  for (int64_t i = job.first_block; i < job.last_block; i++) {
    const int64_t row = job.block_row(i);
    int8_from<f, R, P>(job.block_row(i + 1) - row, job, job.panels + panel * job.layout.bytes, next,
                       job.x + row * job.x_row_bytes, job.y + row * job.y_stride + 16 * panel,
                       job.outputs - 16 * panel);
  }
}

// One or two rows wait for memory: more panels at once are more streams that the processor fetches ahead on its own
// (measured on Zen 4, one thread: 20 instead of 17 GB/s of Q4_0).
constexpr int kInt8StreamRows = 2;

template <Format f>
void int8_panels(const PanelJob& job) {
  int64_t p = 0;
  if constexpr (kInt8MostRows > kInt8Rows) {
    if (job.rows > kInt8Rows) {  // in one block: AMX takes more in tiles
      for (; p < job.panel_count; p++) int8_run<f, kInt8MostRows, 1>(job, p);
      return;
    }
  }
  if constexpr (kInt8StreamPanels > kInt8Panels) {
    if (job.rows <= kInt8StreamRows) {
      for (; p + kInt8StreamPanels <= job.panel_count; p += kInt8StreamPanels) {
        int8_run<f, kInt8StreamRows, kInt8StreamPanels>(job, p);
      }
    }
  }
  for (; p + kInt8Panels <= job.panel_count; p += kInt8Panels) int8_run<f, kInt8Rows, kInt8Panels>(job, p);
  if constexpr (kInt8Panels > 1) {
    for (; p < job.panel_count; p++) int8_run<f, kInt8Rows, 1>(job, p);
  }
}

// One block of rows to the int8 form: the outliers apart, of the rest scale = max|x| / 127, codes rounded to nearest even.
// A group with a value that is not finite gets the scale NaN, which then reaches every output.
inline void pack_int8(const float* x, int64_t stride, int64_t rows, int64_t k, std::byte* out) {
  constexpr float kTiny = 0x1p-100f;  // a group below counts as zero: 127 / max would overflow
  for (int64_t r = 0; r < rows; r++) {
    RowOutliers outliers(kInt8Groups, x + r * stride, k, out, rows, r);
    std::byte* words = out + kInt8Groups.words_at(k, rows);
    for (int64_t c = 0; c < k / kChunk; c++, words += rows * kInt8Words) {
      float rest[kChunk];
      int32_t top;
      const float* from = outliers.take(c, rest, &top);
      float* scales = reinterpret_cast<float*>(words);
      int32_t* minus_sums = reinterpret_cast<int32_t*>(words) + rows;
      float* scaled_sums = scales + 4 * rows;
      int8_t* codes = reinterpret_cast<int8_t*>(out) + (c * rows + r) * kChunk;
      const float largest = magnitude_of(top);
      float scale = 0;
      int32_t sum[2] = {0, 0};
      if (largest >= kTiny && largest < __builtin_inff()) {
        scale = largest / 127.0f;
        quantize_chunk(from, 127.0f / largest, codes, sum);
      } else {
        if (!(largest < kTiny)) scale = __builtin_nanf("");
        __builtin_memset(codes, 0, kChunk);
      }
      const int32_t all = sum[0] + sum[1];
      scales[r] = scale;
      minus_sums[r] = -sum[0];
      minus_sums[rows + r] = -sum[1];
      minus_sums[2 * rows + r] = -all;
      scaled_sums[r] = scale * static_cast<float>(sum[0]);
      scaled_sums[rows + r] = scale * static_cast<float>(sum[1]);
      scaled_sums[2 * rows + r] = scale * static_cast<float>(all);
    }
    reinterpret_cast<int32_t*>(out + kInt8Groups.counts_at(k, rows))[r] = outliers.count();
  }
}

inline void fill_int8(LinearTable* table) {
  table->int8_rows = kInt8Rows;
  table->pack_int8 = pack_int8;
  for_formats<is_narrow_int8>([&]<Format f>() { table->int8[static_cast<int>(f)] = int8_panels<f>; });
}
