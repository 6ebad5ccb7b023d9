// int8 products in tiles: a block of up to 16 rows against one panel, one tile product per group of 16 or 32 values, and
// then the same f32 steps as linear_int8.inl, so the bits are those of every other tier. Few rows take the VNNI kernel.
//
// The f32 steps cost more than the products (measured per tile product: 40 cycles for the tile unit, 30 for the vector
// unit, about 70 together, against 120 with VNNI). Slabs of kTileChunks chunks bound the scratch;
// shorter ones lose more to the sums of y than they gain in the L1 cache.
//
// Tiles: 0 and 1 sums, 4 and 5 activations, 6 and 7 weights, taking turns.

constexpr int kTileChunks = 64;
constexpr int kRing = 4;  // groups whose sums are in flight between the two units
constexpr int kSumBytes = 1024;

// A slab of a panel taken apart once for all row blocks: signed codes (code - zero), and s and m in f32 per group.
struct TileSlab {
  alignas(64) std::byte codes[kTileChunks * 512];  // [chunks][8][64]
  alignas(64) float scales[kTileChunks * 4 * 16];  // [chunks][groups][1 or 2][16]
};

template <Format f>
inline void expand_slab(const std::byte* panel, const PanelLayout& layout, int64_t first, int64_t chunks,
                        TileSlab* out) {
  using S = Spec<f>;
  float* scales_out = out->scales;
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(S::kInfo.zero));
  for (int64_t i = 0; i < chunks; i++) {
    const int64_t c = first + i;
    const std::byte* codes = panel + c * S::kCodeBytes;
    SY_UNROLL(8)
    for (int v = 0; v < 8; v++) {
      I code = code_vector<f>(codes, v);
      if constexpr (S::kInfo.zero != 0) code = _mm512_sub_epi8(code, zero);
      _mm512_store_si512(out->codes + i * 512 + v * 64, code);
    }
    const std::byte* scales = panel + layout.scales_at + c * S::kScaleBytes;
    const std::byte* supers = panel + layout.supers_at + c / kSuperChunks * S::kSuperBytes;
    for (int h = 0; h < S::kGroups; h++) {
      F s, m;
      load_scale<f>(scales, supers, h, &s, &m);
      f_store(scales_out, s);
      scales_out += 16;
      if constexpr (S::kHasMin) {
        f_store(scales_out, m);
        scales_out += 16;
      }
    }
  }
}

// Products of group g into its slot of the ring.
template <int kGroups, int R>
inline void tile_group(int64_t g, const std::byte* x, const TileSlab& slab, std::byte* ring) {
  const std::byte* a = x + g / kGroups * (R * kInt8RowBytes) + g % kGroups * 16;
  const std::byte* b = slab.codes + g * (512 / kGroups);
  std::byte* out = ring + g % kRing * kSumBytes;
  if (g % 2 == 0) {
    _tile_loadd(4, a, 32);
    _tile_loadd(6, b, 64);
    _tile_zero(0);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, out, 64);
  } else {
    _tile_loadd(5, a, 32);
    _tile_loadd(7, b, 64);
    _tile_zero(1);
    _tile_dpbssd(1, 5, 7);
    _tile_stored(1, out, 64);
  }
}

// Continues the chains of y (`first`: starts them) over the groups of a slab.
template <int kGroups, bool kHasMin, int R>
void int8_tiles(int64_t groups, bool first, const std::byte* x, const TileSlab& slab, std::byte* ring, float* y,
                int64_t y_stride, int64_t outputs) {
  constexpr int kAhead = kRing - 2;
  F acc[R];
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) acc[r] = first ? f_zero() : f_load_n(y + r * y_stride, outputs);
  for (int64_t g = 0; g < kAhead && g < groups; g++) tile_group<kGroups, R>(g, x, slab, ring);
  for (int64_t g = 0; g < groups; g++) {
    if (g + kAhead < groups) tile_group<kGroups, R>(g + kAhead, x, slab, ring);
    memory_barrier();
    const std::byte* chunk = x + g / kGroups * (R * kInt8RowBytes);
    const int sums = kGroups == 2 ? static_cast<int>(g % 2) : 2;
    const float* scale = reinterpret_cast<const float*>(chunk + 32 * R);
    const float* scaled_sum = reinterpret_cast<const float*>(chunk + 48 * R) + sums * R;
    const float* scales = slab.scales + g * (kHasMin ? 32 : 16);
    const std::byte* dots = ring + g % kRing * kSumBytes;
    const F s = f_load(scales), m = kHasMin ? f_load(scales + 16) : f_zero();
    SY_UNROLL(16)
    for (int r = 0; r < R; r++) {
      acc[r] = f_fma(f_mul(s, f_set1(scale[r])), f_from_i32(i_load(dots + 64 * r)), acc[r]);
      if constexpr (kHasMin) acc[r] = f_fma(m, f_set1(scaled_sum[r]), acc[r]);
    }
  }
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) f_store_n(y + r * y_stride, acc[r], outputs);
}

template <int kGroups, bool kHasMin, int R>
void int8_tiles_from(int64_t rows, int64_t groups, bool first, const std::byte* x, const TileSlab& slab,
                     std::byte* ring, float* y, int64_t y_stride, int64_t outputs) {
  if constexpr (R > kInt8Rows + 1) {
    if (rows < R) {
      return int8_tiles_from<kGroups, kHasMin, R - 1>(rows, groups, first, x, slab, ring, y, y_stride, outputs);
    }
  }
  int8_tiles<kGroups, kHasMin, R>(groups, first, x, slab, ring, y, y_stride, outputs);
}

template <Format f>
void int8_tile_panels(const PanelJob& job) {
  using S = Spec<f>;
  // Blocks are cut evenly: either all have few rows or none has.
  if (job.rows <= kInt8Rows) return int8_panels<f>(job);
  TileConfig config;
  int64_t configured = 0;
  std::byte* ring = job.scratch;
  TileSlab& slab = *reinterpret_cast<TileSlab*>(job.scratch + kRing * kSumBytes);
  const int64_t all = job.layout.columns / kChunk;
  for (int64_t p = 0; p < job.panel_count; p++) {
    for (int64_t c = 0; c < all; c += kTileChunks) {
      const int64_t chunks = all - c < kTileChunks ? all - c : kTileChunks;
      expand_slab<f>(job.panels + p * job.layout.bytes, job.layout, c, chunks, &slab);
      memory_barrier();
      for (int64_t i = job.first_block; i < job.last_block; i++) {
        const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
        if (rows != configured) {
          for (const int tile : {0, 1}) config.set(tile, rows, 64);
          for (const int tile : {4, 5}) config.set(tile, rows, 32 / S::kGroups);
          for (const int tile : {6, 7}) config.set(tile, 8 / S::kGroups, 64);
          config.load();
          configured = rows;
        }
        int8_tiles_from<S::kGroups, S::kHasMin, kTileRows>(
            rows, chunks * S::kGroups, c == 0, job.x + row * job.x_row_bytes + c * rows * kInt8RowBytes, slab, ring,
            job.y + row * job.y_stride + 16 * p, job.y_stride, job.outputs - 16 * p);
      }
    }
  }
  release_tiles();
}
