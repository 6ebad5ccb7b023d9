// Wide int8 products of a job in tiles, two panels at a time (wide_tiles.inl). Few rows take the kernel of the tier below.

constexpr int kWideFewRows = 6;  // the rows of a block of the tier below
static PanelFn wide_few_rows[kFormatCount];  // of the tier below; set once, before the table is read

template <Format f>
void wide_tile_panels(const PanelJob& job) {
  using S = Spec<f>;
  // Blocks are cut evenly: either all have few rows or none has.
  if (job.rows <= kWideFewRows) return wide_few_rows[static_cast<int>(f)](job);
  WideTiles* tiles = reinterpret_cast<WideTiles*>(job.scratch);
  // Blocks differ by a row at most. One row too many reads what lies behind the codes, and its sums are left alone.
  const int64_t rows = (job.rows + job.blocks - 1) / job.blocks;
  TileConfig config;
  for (const int tile : {0, 1, 4}) config.set(tile, rows < 16 ? rows : 16, 64);
  for (const int tile : {2, 3, 5}) config.set(tile, rows > 16 ? rows - 16 : rows, 64);
  for (const int tile : {6, 7}) config.set(tile, 16, 64);
  config.load();
  const int64_t all = job.layout.columns / kChunk;
  for (int64_t p = 0; p < job.panel_count; p += 2) {
    const int panels = job.panel_count - p < 2 ? 1 : 2;
    const std::byte* panel = job.panels + p * job.layout.bytes;
    PanelsAhead ahead(job, p + panels, 2, (all + 1) / 2 * (job.last_block - job.first_block));
    for (int64_t c = 0; c < all; c += kWideTileChunks) {
      const int64_t left = all - c;
      const std::byte* scales = panel + job.layout.scales_at + c / S::kScaleChunks * S::kScaleBytes;
      const WideSlab slab{panel + c * S::kCodeBytes, scales, job.layout.bytes,
                    left < kWideTileChunks ? left : kWideTileChunks, c == 0, left <= kWideTileChunks};
      const std::byte* codes[2] = {};
      for (int i = 0; i < panels; i++) {
        codes[i] = wide_tile_codes<f>(slab.codes + i * slab.stride, slab.chunks, tiles->codes[i]);
      }
      const auto run = rows > 16 ? (panels == 2 ? wide_tiles<f, 2, 2> : wide_tiles<f, 2, 1>)
                                 : (panels == 2 ? wide_tiles<f, 1, 2> : wide_tiles<f, 1, 1>);
      run(job, slab, c, codes, &ahead, tiles, job.y + 16 * p, job.outputs - 16 * p);
    }
  }
  release_tiles();
}

inline void fill_wide_tiles(LinearTable* table) {
  for_formats<is_wide_int8>([&]<Format f>() {
    PanelFn& fn = table->int8[static_cast<int>(f)];
    wide_few_rows[static_cast<int>(f)] = fn;
    fn = wide_tile_panels<f>;
  });
  table->wide_rows = kWideTileRows;
}
