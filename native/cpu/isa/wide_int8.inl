// int8 products with a scale for 64 or 128 values or for a whole row (int8, int8_g64 … int4_g128), after codes.inl; the
// includer has defined the functions of quantize.inl, wide_dots (wide_chunks.inl or wide_vnni.inl), kWideRows, kWidePanels
// (register blocking) and kPrefetch.
//
// For every group, in rising order:
//   dot = Σ (q - zero)·x, exact in i32;   acc = fma(s·scale, f32(dot), acc)
// int8: groups of 128 with acc = fma(scale, f32(dot), acc), and y = s·acc in the end.
// The sums of a group stay in registers as integers, so the f32 steps cost less the wider the group is. Nibbles are
// unpacked in registers for every row block: a copy in bytes made once for all blocks was slower up to 128 rows and not
// faster at 512 (376 GOP/s a core against 319 at 48 rows, 334 at 64, 357 at 128, 373 at 510).

// Row blocks go over so many chunks at a time: four panels of them in bytes are 128 KiB, which an L2 cache holds while
// the blocks pass; one block alone goes over all.
constexpr int64_t kWideSlabChunks = 64;

template <Format f>
struct WideSpec : Spec<f> {
  static constexpr bool kRow = Spec<f>::kInfo.scales == ScaleKind::kRow;
  static constexpr int kGroupChunks = int8_layout(Spec<f>::kInfo).group / kChunk;
};

// The sums of one group of `chunks` chunks; a row's codes lie `row` bytes apart. words: of the group.
template <Format f, int R, int P>
inline void wide_group(const WideSlab& slab, int64_t chunk, int64_t chunks, int64_t row, const std::byte* x,
                       const std::byte* words, float* acc) {
  using S = WideSpec<f>;
  const float* scale = reinterpret_cast<const float*>(words);
  const int32_t* minus_sum = reinterpret_cast<const int32_t*>(scale + R);
  I dot[R][P] = {};
  wide_dots<f, R, P>(slab, chunk, chunks, row, reinterpret_cast<const int8_t*>(x), minus_sum, dot);
  F s[P];
  SY_UNROLL(4)
  for (int p = 0; p < P; p++) {
    if constexpr (!S::kRow) {
      s[p] = f_load_f16(slab.scales + p * slab.stride + chunk / S::kScaleChunks * S::kScaleBytes);
    }
  }
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    const F row_scale = f_set1(scale[r]);
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      float* at = acc + (r * P + p) * kPanel;
      if constexpr (S::kRow) f_store(at, f_fma(row_scale, f_from_i32(dot[r][p]), f_load(at)));
      else f_store(at, f_fma(f_mul(s[p], row_scale), f_from_i32(dot[r][p]), f_load(at)));
    }
  }
}

template <Format f, int R, int P>
void wide_block(const PanelJob& job, const WideSlab& slab, const std::byte* x, const std::byte* words, float* y,
                int64_t outputs) {
  using S = WideSpec<f>;
  constexpr int64_t kGroup = S::kGroupChunks;
  alignas(64) float acc[R * P * kPanel];  // in the L1 cache: the registers hold integer sums
  const auto valid = [&](int p) { return outputs - 16 * p < 16 ? outputs - 16 * p : 16; };
  for (int r = 0; r < R; r++) {
    for (int p = 0; p < P; p++) {
      f_store(acc + (r * P + p) * kPanel, slab.first ? f_zero() : f_load_n(y + r * job.y_stride + 16 * p, valid(p)));
    }
  }
  int64_t c = 0;
  for (; c + kGroup <= slab.chunks; c += kGroup, x += R * kGroup * kChunk, words += R * kWideWords) {
    wide_group<f, R, P>(slab, c, kGroup, kGroup * kChunk, x, words, acc);
  }
  if (c < slab.chunks) {
    const int64_t rest = slab.chunks - c;
    wide_group<f, R, P>(slab, c, rest, int8_layout(S::kInfo).codes(rest * kChunk), x, words, acc);
  }
  for (int p = 0; p < P; p++) {
    const F s = S::kRow && slab.last ? f_load(slab.scales + p * slab.stride) : f_zero();
    for (int r = 0; r < R; r++) {
      F sum = f_load(acc + (r * P + p) * kPanel);
      if (S::kRow && slab.last) sum = f_mul(s, sum);
      f_store_n(y + r * job.y_stride + 16 * p, sum, valid(p));
    }
  }
}

template <Format f, int R, int P>
void wide_from(int64_t rows, const PanelJob& job, const WideSlab& slab, const std::byte* x, const std::byte* words, float* y,
               int64_t outputs) {
  if constexpr (R > 1) {
    if (rows < R) return wide_from<f, R - 1, P>(rows, job, slab, x, words, y, outputs);
  }
  wide_block<f, R, P>(job, slab, x, words, y, outputs);
}

template <Format f, int P>
void wide_run(const PanelJob& job, int64_t panel) {
  using S = WideSpec<f>;
  const std::byte* panels = job.panels + panel * job.layout.bytes;
  const int64_t all = job.layout.columns / kChunk;
  const int64_t blocks = job.last_block - job.first_block;
  const int64_t step = blocks == 1 ? all : kWideSlabChunks;
  for (int64_t c = 0; c < all; c += step) {
    WideSlab slab{panels + c * S::kCodeBytes, panels + job.layout.scales_at + c / S::kScaleChunks * S::kScaleBytes,
                  job.layout.bytes, all - c < step ? all - c : step, c == 0, all - c <= step};
    slab.turns = blocks;
    if (blocks == 1) slab.ahead = slab.codes + prefetch_distance(job.layout.bytes * P);
    else slab.ahead = slab.last ? panels + P * job.layout.bytes : slab.codes + step * S::kCodeBytes;
    for (int64_t i = job.first_block; i < job.last_block; i++) {
      slab.turn = i - job.first_block;
      const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
      const std::byte* x = job.x + row * job.x_row_bytes;
      wide_from<f, kWideRows, P>(rows, job, slab, x + rows * c * kChunk, wide_words<f>(x, job.layout.columns, rows, c), job.y + row * job.y_stride + 16 * panel,
                                            job.outputs - 16 * panel);
    }
  }
}
static_assert(kWideSlabChunks % 4 == 0);  // whole groups

template <Format f>
void wide_panels(const PanelJob& job) {
  int64_t p = 0;
  for (; p + kWidePanels <= job.panel_count; p += kWidePanels) wide_run<f, kWidePanels>(job, p);
  if constexpr (kWidePanels > 2) {
    for (; p + 2 <= job.panel_count; p += 2) wide_run<f, 2>(job, p);
  }
  if constexpr (kWidePanels > 1) {
    for (; p < job.panel_count; p++) wide_run<f, 1>(job, p);
  }
}

// One block of rows to the wide int8 form: the outliers apart, of the rest scale = max|x| / 127 over a group, codes rounded
// to nearest even. A group with a value that is not finite gets the scale NaN, which then reaches every output.
template <int kGroup>
void pack_wide(const float* x, int64_t stride, int64_t rows, int64_t k, std::byte* out) {
  constexpr float kTiny = 0x1p-100f;  // a group below counts as zero: 127 / max would overflow
  constexpr Int8Layout kLayout = kGroup == 64 ? kInt8G64 : kInt8G128;
  for (int64_t r = 0; r < rows; r++) {
    RowOutliers outliers(kLayout, x + r * stride, k, out, rows, r);
    std::byte *group = out, *words = out + kLayout.words_at(k, rows);
    for (int64_t first = 0; first < k; first += kGroup) {
      const int64_t n = k - first < kGroup ? k - first : kGroup, row = kLayout.codes(k - first);
      float* scales = reinterpret_cast<float*>(words);
      int32_t* minus_sums = reinterpret_cast<int32_t*>(scales + rows);
      int8_t* codes = reinterpret_cast<int8_t*>(group) + row * r;
      float rest[kGroup];
      const float* from[kGroup / kChunk];
      int32_t top = 0;  // magnitudes as bits, for NaN
      for (int64_t i = 0; i < n; i += kChunk) {
        int32_t largest;
        from[i / kChunk] = outliers.take((first + i) / kChunk, rest + i, &largest);
        top = largest > top ? largest : top;
      }
      const float largest = magnitude_of(top);
      float scale = 0;
      int32_t sum = 0;
      if (top < 0x7f800000 && largest >= kTiny) {
        scale = largest / 127.0f;
        sum = quantize_chunks(from, n / kChunk, 127.0f / largest, codes);
        __builtin_memset(codes + n, 0, static_cast<size_t>(row - n));
      } else {
        if (top >= 0x7f800000) scale = __builtin_nanf("");
        __builtin_memset(codes, 0, static_cast<size_t>(row));
      }
      scales[r] = scale;
      minus_sums[r] = -sum;
      group += rows * row;
      words += rows * kWideWords;
    }
    reinterpret_cast<int32_t*>(out + kLayout.counts_at(k, rows))[r] = outliers.count();
  }
}

inline void fill_wide(LinearTable* table) {
  table->wide_rows = kWideRows;
  table->pack_g64 = pack_wide<64>;
  table->pack_g128 = pack_wide<128>;
  for_formats<is_wide_int8>([&]<Format f>() { table->int8[static_cast<int>(f)] = wide_panels<f>; });
}
