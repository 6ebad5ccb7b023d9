// The f32 kernels of one instruction set; the includer has opened its namespace, included codes.inl and defined
// kMicroRows (rows of the blocked kernel), kMicroPanels (its panels), kDirectRows, kDirectChains and kPrefetch.
//
// Every output element is one chain acc = fma(x[k], w[k], acc) from k = 0 upwards, with w = fma(s, q, m): the same bits
// for every number of rows, threads and lanes, and in every tier.

template <Format f>
inline F pair_value(const I& pair, int odd) {
  return f == Format::kF16 ? f_pair_f16(pair, odd) : f_pair_bf16(pair, odd);
}

// Rows as they are, weights dequantised in registers: for few rows, where reading the panels is the time.
template <Format f, int R, int P>
void direct(const PanelJob& job, const std::byte* panel, float* y, int64_t outputs) {
  using S = Spec<f>;
  const int64_t k_all = job.layout.columns, stride = job.layout.bytes, ahead = prefetch_distance(stride * P);
  const float* x = reinterpret_cast<const float*>(job.x);
  F acc[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) acc[r][p] = f_zero();
  const auto step = [&](int64_t k, int p, const F& w) __attribute__((always_inline)) {
    SY_UNROLL(8)
    for (int r = 0; r < R; r++) acc[r][p] = f_fma(f_set1(x[r * k_all + k]), w, acc[r][p]);
  };
  if constexpr (f == Format::kF32) {
    for (int64_t k = 0; k < k_all; k++) {
      SY_UNROLL(8)
      for (int p = 0; p < P; p++) {
        prefetch(panel + p * stride + k * 64 + ahead);
        step(k, p, f_load(panel + p * stride + k * 64));
      }
    }
  } else if constexpr (is_float_format(f)) {
    for (int64_t k = 0; k + 1 < k_all; k += 2) {
      SY_UNROLL(8)
      for (int p = 0; p < P; p++) {
        const std::byte* at = panel + p * stride + k * 32;
        prefetch(at + ahead);
        const I pair = i_load(at);
        step(k, p, pair_value<f>(pair, 0));
        step(k + 1, p, pair_value<f>(pair, 1));
      }
    }
    if (k_all % 2 != 0) {
      for (int p = 0; p < P; p++) step(k_all - 1, p, pair_value<f>(i_load(panel + p * stride + k_all / 2 * 64), 0));
    }
  } else {
    for (int64_t c = 0; c < k_all / kChunk; c++) {
      const std::byte* codes = panel + c * S::kCodeBytes;
      const std::byte* scales = panel + job.layout.scales_at + c / S::kScaleChunks * S::kScaleBytes;
      const std::byte* supers = panel + job.layout.supers_at + c / kSuperChunks * S::kSuperBytes;
      for (int p = 0; p < P; p++) {
        for (int line = 0; line < S::kCodeBytes; line += 64) prefetch(codes + p * stride + line + ahead);
      }
      for (int h = 0; h < S::kGroups; h++) {
        F s[P], m[P];
        for (int p = 0; p < P; p++) load_scale_f32<f>(scales + p * stride, supers + p * stride, h, &s[p], &m[p]);
        SY_UNROLL(8)
        for (int v = 0; v < 8 / S::kGroups; v++) {
          const int at = v + h * 4;
          SY_UNROLL(4)
          for (int i = 0; i < 4; i++) {
            SY_UNROLL(8)
            for (int p = 0; p < P; p++) {
              step(c * kChunk + 4 * at + i, p, f_fma(s[p], code_value<f>(codes + p * stride, at, i), m[p]));
            }
          }
        }
      }
    }
    if constexpr (S::kFloat8) {  // other formats have whole chunks
      const std::byte* codes = panel + k_all / kChunk * S::kCodeBytes;
      const std::byte* scales = panel + job.layout.scales_at + k_all / kChunk / S::kScaleChunks * S::kScaleBytes;
      for (int64_t k = k_all / kChunk * kChunk; k < k_all; k++) {
        const int at = static_cast<int>(k % kChunk);
        for (int p = 0; p < P; p++) {
          F s, m;
          load_scale_f32<f>(scales + p * stride, nullptr, 0, &s, &m);
          step(k, p, f_fma(s, code_value<f>(codes + p * stride, at / 4, at % 4), m));
        }
      }
    }
  }
  for (int p = 0; p < P; p++) {
    const int64_t n = outputs - 16 * p < 16 ? outputs - 16 * p : 16;
    for (int r = 0; r < R; r++) f_store_n(y + r * job.y_stride + 16 * p, acc[r][p], n);
  }
}

// Panels at once by rows: enough chains to hide the latency of a multiply-add, few enough to stay in registers.
constexpr int direct_panels(int rows) {
  const int panels = kDirectChains / rows;
  return panels < 1 ? 1 : panels > 4 ? 4 : panels;
}

template <Format f, int R>
void direct_rows(const PanelJob& job) {
  constexpr int P = direct_panels(R);
  int64_t p = 0;
  for (; p + P <= job.panel_count; p += P) {
    direct<f, R, P>(job, job.panels + p * job.layout.bytes, job.y + 16 * p, job.outputs - 16 * p);
  }
  for (; p < job.panel_count; p++) {
    direct<f, R, 1>(job, job.panels + p * job.layout.bytes, job.y + 16 * p, job.outputs - 16 * p);
  }
}

template <Format f, int R>
void f32_direct_from(const PanelJob& job) {
  if constexpr (R > 1) {
    if (job.rows < R) return f32_direct_from<f, R - 1>(job);
  }
  direct_rows<f, R>(job);
}

template <Format f>
void f32_direct(const PanelJob& job) {
  f32_direct_from<f, kDirectRows>(job);
}

// Values k0 … k0 + n - 1 of a panel to out [n][16]. k0 is a multiple of 32, and n too, but for the end of float formats and
// of f8_e4m3, of which whole chunks are written: out has room for n rounded up.
template <Format f>
void expand(const std::byte* panel, const PanelLayout& layout, int64_t k0, int64_t n, float* out) {
  using S = Spec<f>;
  if constexpr (f == Format::kF32) {
    for (int64_t k = 0; k < n; k++) f_store(out + 16 * k, f_load(panel + (k0 + k) * 64));
  } else if constexpr (is_float_format(f)) {
    for (int64_t k = 0; k < n; k += 2) {
      const I pair = i_load(panel + (k0 + k) * 32);
      f_store(out + 16 * k, pair_value<f>(pair, 0));
      if (k + 1 < n) f_store(out + 16 * k + 16, pair_value<f>(pair, 1));
    }
  } else {
    for (int64_t c = k0 / kChunk; c < (k0 + n + kChunk - 1) / kChunk; c++) {
      const std::byte* codes = panel + c * S::kCodeBytes;
      const std::byte* scales = panel + layout.scales_at + c / S::kScaleChunks * S::kScaleBytes;
      const std::byte* supers = panel + layout.supers_at + c / kSuperChunks * S::kSuperBytes;
      for (int h = 0; h < S::kGroups; h++) {
        F s, m;
        load_scale_f32<f>(scales, supers, h, &s, &m);
        SY_UNROLL(8)
        for (int v = 0; v < 8 / S::kGroups; v++) {
          const int at = v + h * 4;
          SY_UNROLL(4)
          for (int i = 0; i < 4; i++) {
            f_store(out + (c * kChunk - k0 + 4 * at + i) * 16, f_fma(s, code_value<f>(codes, at, i), m));
          }
        }
      }
    }
  }
}

// y [R, 16·P] (+)= a [n][R] times b: P slabs [n][16], b_stride floats apart. `first`: the chains start at zero.
template <int R, int P>
void micro(const float* a, int64_t n, const float* b, int64_t b_stride, float* y, int64_t y_stride, int64_t outputs,
           bool first) {
  F acc[R][P];
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      const int64_t valid = outputs - 16 * p < 16 ? outputs - 16 * p : 16;
      acc[r][p] = first ? f_zero() : f_load_n(y + r * y_stride + 16 * p, valid);
    }
  }
  for (int64_t k = 0; k < n; k++) {
    F w[P];
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      w[p] = f_load(b + p * b_stride + 16 * k);
      prefetch(b + p * b_stride + 16 * (k + kMicroAhead));
    }
    SY_UNROLL(16)
    for (int r = 0; r < R; r++) {
      const F x = f_set1(a[k * R + r]);
      SY_UNROLL(4)
      for (int p = 0; p < P; p++) acc[r][p] = f_fma(x, w[p], acc[r][p]);
    }
  }
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      const int64_t valid = outputs - 16 * p < 16 ? outputs - 16 * p : 16;
      f_store_n(y + r * y_stride + 16 * p, acc[r][p], valid);
    }
  }
}

template <int R, int P>
void micro_from(int64_t rows, const float* a, int64_t n, const float* b, int64_t b_stride, float* y, int64_t y_stride,
                int64_t outputs, bool first) {
  if constexpr (R > 1) {
    if (rows < R) return micro_from<R - 1, P>(rows, a, n, b, b_stride, y, y_stride, outputs, first);
  }
  micro<R, P>(a, n, b, b_stride, y, y_stride, outputs, first);
}

// All row blocks of a job against `panels` slabs of n values that start at value `at` of the chain.
inline void multiply_slab(const PanelJob& job, int64_t at, int64_t n, const float* b, int64_t b_stride, int64_t panels,
                          float* y, int64_t outputs) {
  for (int64_t i = job.first_block; i < job.last_block; i++) {
    const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
    const float* a = reinterpret_cast<const float*>(job.x + row * job.x_row_bytes) + at * rows;
    float* out = y + row * job.y_stride;
    for (int64_t p = 0; p < panels;) {
      const float* slab = b + p * b_stride;
      if (p + kMicroPanels <= panels) {
        micro_from<kMicroRows, kMicroPanels>(rows, a, n, slab, b_stride, out + 16 * p, job.y_stride, outputs - 16 * p,
                                             at == 0);
        p += kMicroPanels;
      } else {
        micro_from<kMicroRows, 1>(rows, a, n, slab, b_stride, out + 16 * p, job.y_stride, outputs - 16 * p, at == 0);
        p++;
      }
    }
  }
}

template <Format f>
void f32_blocks(const PanelJob& job) {
  float* slab = reinterpret_cast<float*>(job.scratch);
  constexpr int64_t kSlab = int64_t{kSlabColumns} * kPanel;
  const int64_t k_all = job.layout.columns;
  for (int64_t p = 0; p < job.panel_count; p += kSlabPanels) {
    const int64_t panels = job.panel_count - p < kSlabPanels ? job.panel_count - p : kSlabPanels;
    const std::byte* panel = job.panels + p * job.layout.bytes;
    for (int64_t k = 0; k < k_all; k += kSlabColumns) {
      const int64_t n = k_all - k < kSlabColumns ? k_all - k : kSlabColumns;
      if constexpr (f == Format::kF32) {
        multiply_slab(job, k, n, reinterpret_cast<const float*>(panel + k * 64), job.layout.bytes / 4, panels,
                      job.y + 16 * p, job.outputs - 16 * p);
      } else {
        for (int64_t i = 0; i < panels; i++) {
          expand<f>(panel + i * job.layout.bytes, job.layout, k, n, slab + i * kSlab);
        }
        multiply_slab(job, k, n, slab, kSlab, panels, job.y + 16 * p, job.outputs - 16 * p);
      }
    }
  }
}

// Chains over n: slabs [n][16] hold 16 neighbouring columns k, so the transposed product is the same kernel.
template <Format f>
void f32_transposed(const PanelJob& job) {
  alignas(64) float values[kChunk * kPanel];
  float* slab = reinterpret_cast<float*>(job.scratch);
  constexpr int64_t kSlab = int64_t{kSlabColumns} * kPanel;
  for (int64_t column = 0; column < job.outputs; column += kChunk) {
    const int64_t k = job.first_column + column;
    const int64_t n = job.outputs - column < kChunk ? job.outputs - column : kChunk;
    for (int64_t p = 0; p < job.panel_count; p += kSlabColumns / kPanel) {
      const int64_t panels = job.panel_count - p < kSlabColumns / kPanel ? job.panel_count - p : kSlabColumns / kPanel;
      for (int64_t i = 0; i < panels; i++) {
        expand<f>(job.panels + (p + i) * job.layout.bytes, job.layout, k, n, values);
        for (int64_t v = 0; v < n; v++) {
          float* to = slab + v / kPanel * kSlab + i * kPanel * kPanel + v % kPanel;
          for (int lane = 0; lane < kPanel; lane++) to[lane * kPanel] = values[v * kPanel + lane];
        }
      }
      const int64_t first = p * kPanel, all = job.transposed_rows;
      const int64_t chain = all - first < panels * kPanel ? all - first : panels * kPanel;
      multiply_slab(job, first, chain, slab, kSlab, (n + kPanel - 1) / kPanel, job.y + column, n);
    }
  }
}

// One block of rows to f32 [k][rows]. A cache line of each row at a time: rows that lie a power of two apart share the
// same few places of the cache, and would drive each other out before the rest of the line is read.
inline void pack_f32(const float* x, int64_t stride, int64_t rows, int64_t k, std::byte* out) {
  static_assert(kMicroRows <= kMostF32Rows);
  float* to = reinterpret_cast<float*>(out);
  int64_t line = 0;
  for (; line + 16 <= k; line += 16) transpose_line(x + line, stride, rows, to + line * rows);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = line; i < k; i++) to[i * rows + r] = x[r * stride + i];
}

inline void fill_f32(LinearTable* table) {
  table->f32_rows = kMicroRows;
  table->direct_rows = kDirectRows;
  table->pack_f32 = pack_f32;
  for_formats<any_format>([&]<Format f>() {
    table->f32_direct[static_cast<int>(f)] = f32_direct<f>;
    table->f32_blocks[static_cast<int>(f)] = f32_blocks<f>;
    table->f32_transposed[static_cast<int>(f)] = f32_transposed<f>;
  });
}
