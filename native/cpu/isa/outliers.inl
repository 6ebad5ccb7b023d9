// Outliers of activations, after codes.inl and the functions of quantize.inl. A few values of a row can be far larger than
// the rest; the scale of their group would leave little of its other values. They stay apart in f32 and meet the weights
// one by one (LLM.int8, Dettmers et al. 2022, section 3.2), chosen here by the row alone, so that a row has the same bits
// in every batch.

// A chunk whose largest magnitude is more than so many times the mean of those of the row has outliers: its values above
// that limit, if these are few.
constexpr float kOutlierRatio = 2;
constexpr int kChunkOutliers = 2;

inline float magnitude_of(int32_t bits) {
  float magnitude;
  __builtin_memcpy(&magnitude, &bits, 4);
  return magnitude;
}

// What becomes of the outliers of one row of a block while its chunks are rounded in order.
class RowOutliers {
 public:
  RowOutliers(const Int8Layout& layout, const float* x, int64_t k, std::byte* block, int64_t rows, int64_t r)
      : x_(x),
        most_(layout.outliers(k)),
        list_(reinterpret_cast<Outlier*>(block + layout.list_at(k, rows, r))) {
    // NaN or infinite where a value is, or the sum: nothing lies above.
    const int64_t chunks = k / kChunk;
    largest_magnitudes(x, chunks < kKept ? chunks : kKept, tops_);
    float sum = 0;
    for (int64_t c = 0; c < chunks; c++) sum += magnitude_of(c < kKept ? tops_[c] : largest_magnitude(x + c * kChunk));
    limit_ = sum * (kOutlierRatio / static_cast<float>(k / kChunk));
  }

  // Chunk c without its outliers: as it lies where it has none, else its copy in `rest`. top: the bits of the largest
  // magnitude of what is left.
  const float* take(int64_t c, float* rest, int32_t* top) {
    const float* x = x_ + c * kChunk;
    *top = c < kKept ? tops_[c] : largest_magnitude(x);
    if (!(magnitude_of(*top) > limit_)) return x;
    int found = 0;
    for (int i = 0; i < kChunk; i++) found += __builtin_fabsf(x[i]) > limit_;
    if (found > kChunkOutliers || count_ + found > most_) return x;
    for (int i = 0; i < kChunk; i++) {
      const bool out = __builtin_fabsf(x[i]) > limit_;
      rest[i] = out ? 0.0f : x[i];
      if (out) list_[count_++] = {static_cast<int32_t>(c * kChunk + i), x[i]};
    }
    *top = largest_magnitude(rest);
    return rest;
  }

  int32_t count() const { return count_; }

 private:
  static constexpr int64_t kKept = 1024;  // chunks whose largest magnitudes are not sought twice
  const float* x_;
  int64_t most_;
  Outlier* list_;
  float limit_;
  int32_t count_ = 0;
  int32_t tops_[kKept];
};

// w[k] of the 16 outputs of a panel.
template <Format f>
inline F weight_column(const std::byte* panel, const PanelLayout& layout, int64_t k) {
  using S = Spec<f>;
  const int64_t c = k / kChunk;
  const int v = static_cast<int>(k % kChunk) / 4, half = S::kGroups == 2 ? v / 4 : 0;
  F s, m;
  load_scale_f32<f>(panel + layout.scales_at + c / S::kScaleChunks * S::kScaleBytes,
                    panel + layout.supers_at + c / kSuperChunks * S::kSuperBytes, half, &s, &m);
  return f_fma(s, code_value<f>(panel + c * S::kCodeBytes, v, static_cast<int>(k % 4)), m);
}

// Panels at once: what a list says of its place is then worked out once for all of them.
constexpr int kOutlierPanels = 4;

// One row against P panels.
template <Format f, int P>
inline void add_row_outliers(const PanelJob& job, int64_t panel, const Outlier* list, int32_t count, float* y) {
  const std::byte* panels = job.panels + panel * job.layout.bytes;
  const auto outputs = [&](int p) {
    const int64_t left = job.outputs - (panel + p) * kPanel;
    return left < kPanel ? left : kPanel;
  };
  F sum[P];
  SY_UNROLL(4)
  for (int p = 0; p < P; p++) sum[p] = f_load_n(y + p * kPanel, outputs(p));
  for (int32_t i = 0; i < count; i++) {
    const F x = f_set1(list[i].x);
    SY_UNROLL(4)
    for (int p = 0; p < P; p++) {
      sum[p] = f_fma(x, weight_column<f>(panels + p * job.layout.bytes, job.layout, list[i].k), sum[p]);
    }
  }
  SY_UNROLL(4)
  for (int p = 0; p < P; p++) f_store_n(y + p * kPanel, sum[p], outputs(p));
}

// y = fma(x[k], w[k], y) for the outliers of every row, k rising.
template <Format f>
void add_outliers(const PanelJob& job) {
  constexpr Int8Layout kLayout = int8_layout(Spec<f>::kInfo);
  const int64_t k = job.layout.columns;
  for (int64_t i = job.first_block; i < job.last_block; i++) {
    const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
    const std::byte* block = job.x + row * job.x_row_bytes;
    const int32_t* counts = reinterpret_cast<const int32_t*>(block + kLayout.counts_at(k, rows));
    for (int64_t r = 0; r < rows; r++) {
      if (counts[r] == 0) continue;
      const Outlier* list = reinterpret_cast<const Outlier*>(block + kLayout.list_at(k, rows, r));
      float* y = job.y + (row + r) * job.y_stride;
      int64_t p = 0;
      for (; p + kOutlierPanels <= job.panel_count; p += kOutlierPanels) {
        add_row_outliers<f, kOutlierPanels>(job, p, list, counts[r], y + p * kPanel);
      }
      for (; p < job.panel_count; p++) add_row_outliers<f, 1>(job, p, list, counts[r], y + p * kPanel);
    }
  }
}

inline void fill_outliers(LinearTable* table) {
  for_formats<is_integer_format>([&]<Format f>() { table->int8_outliers[static_cast<int>(f)] = add_outliers<f>; });
}
