// bf16 products in tiles: a block of up to 32 rows (two tiles) against two panels. Every row of a tile is computed alike,
// so one row gets the same bits alone and among others.
//
// Tiles: 0…3 sums [row tile][panel], 4 and 5 activations, 6 and 7 weights.

constexpr int kTileChunkBytes = 1024;  // 16 pairs × 16 lanes

// The panel as pairs of bf16, padded with zeros to whole chunks; bf16 panels of whole chunks are read where they are.
template <Format f>
inline const std::byte* pairs_of(const std::byte* panel, int64_t k_all, std::byte* scratch) {
  if constexpr (f == Format::kBF16) {
    if (k_all % kChunk == 0) return panel;
  }
  const int64_t pairs = (k_all + 1) / 2, padded = (k_all + kChunk - 1) / kChunk * (kChunk / 2);
  for (int64_t i = 0; i < pairs; i++) _mm512_storeu_si512(scratch + 64 * i, load_pair<f>(panel, i, k_all));
  for (int64_t i = pairs; i < padded; i++) _mm512_storeu_si512(scratch + 64 * i, _mm512_setzero_si512());
  return scratch;
}

// Sums [rows, 16] through memory, because the last panel may stand for fewer outputs.
template <int kTile>
inline void store_sums(int64_t rows, float* y, int64_t y_stride, int64_t outputs) {
  alignas(64) float sums[16 * 16];
  const bool whole = outputs >= 16;
  float* to = whole ? y : sums;
  const int64_t step = whole ? y_stride * 4 : 64;
  store_tile<kTile>(to, step);
  memory_barrier();
  if (whole) return;
  for (int64_t r = 0; r < rows; r++) f_store_n(y + r * y_stride, f_load(sums + 16 * r), outputs);
}

// kRowTiles and kPanels are 1 or 2.
template <int kRowTiles, int kPanels>
void bf16_tiles(int64_t rows, int64_t chunks, const std::byte* x, const std::byte* const* w, PanelsAhead* ahead,
                float* y, int64_t y_stride, int64_t outputs) {
  _tile_zero(0);
  if constexpr (kPanels == 2) _tile_zero(1);
  if constexpr (kRowTiles == 2) _tile_zero(2);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_zero(3);
  for (int64_t c = 0; c < chunks; c++) {
    const std::byte* a = x + c * rows * 64;
    _tile_loadd(4, a, 64);
    _tile_loadd(6, w[0] + c * kTileChunkBytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    ahead->step();
    if constexpr (kPanels == 2) {
      _tile_loadd(7, w[1] + c * kTileChunkBytes, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, a + 16 * 64, 64);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kPanels == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  store_sums<0>(rows < 16 ? rows : 16, y, y_stride, outputs);
  if constexpr (kPanels == 2) store_sums<1>(rows < 16 ? rows : 16, y + 16, y_stride, outputs - 16);
  if constexpr (kRowTiles == 2) {
    store_sums<2>(rows - 16, y + 16 * y_stride, y_stride, outputs);
    if constexpr (kPanels == 2) store_sums<3>(rows - 16, y + 16 * y_stride + 16, y_stride, outputs - 16);
  }
}

template <Format f>
void bf16_tile_panels(const PanelJob& job) {
  const int64_t chunks = (job.layout.columns + kChunk - 1) / kChunk;
  TileConfig config;
  config.set(6, 16, 64);
  config.set(7, 16, 64);
  int64_t configured = 0;
  for (int64_t p = 0; p < job.panel_count; p += 2) {
    const int panels = job.panel_count - p < 2 ? 1 : 2;
    const std::byte* w[2] = {};
    for (int i = 0; i < panels; i++) {
      w[i] = pairs_of<f>(job.panels + (p + i) * job.layout.bytes, job.layout.columns,
                         job.scratch + i * chunks * kTileChunkBytes);
    }
    memory_barrier();
    PanelsAhead ahead(job, p + panels, 2, chunks * (job.last_block - job.first_block));
    for (int64_t i = job.first_block; i < job.last_block; i++) {
      const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
      if (rows != configured) {
        const int64_t first = rows < 16 ? rows : 16, second = rows - first;
        for (const int tile : {0, 1, 4}) config.set(tile, first, 64);
        for (const int tile : {2, 3, 5}) config.set(tile, second, second > 0 ? 64 : 0);
        config.load();
        configured = rows;
      }
      const std::byte* x = job.x + row * job.x_row_bytes;
      float* y = job.y + row * job.y_stride + 16 * p;
      const int64_t outputs = job.outputs - 16 * p;
      const auto run = rows > 16 ? (panels == 2 ? bf16_tiles<2, 2> : bf16_tiles<2, 1>)
                                 : (panels == 2 ? bf16_tiles<1, 2> : bf16_tiles<1, 1>);
      run(rows, chunks, x, w, &ahead, y, job.y_stride, outputs);
    }
  }
  release_tiles();
}
