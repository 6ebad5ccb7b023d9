// Wide int8 products in tiles: up to 32 rows (two tiles) against two panels, so that every tile loaded feeds two products,
// and one f32 step a group as in wide_int8.inl, so the bits are those of every other tier. Codes stay unsigned:
// dot = Σ q·x - zero·Σ x. Few rows take the kernel of the tier below.
//
// A group of 128 values takes 8 products of 16 cycles for 64 vectors of sums; the tile unit makes the sums of the next
// group meanwhile.
//
// Tiles: 0…3 sums [row tile][panel], 4 and 5 activations, 6 and 7 weights.

constexpr int kWideTileRows = 32;
constexpr int kWideFewRows = 6;  // the rows of a block of the tier below
constexpr int64_t kWideTileChunks = 64;  // per slab: the bytes of two panels are 64 KiB
constexpr int kWideRing = 2;             // groups whose sums are in flight between the two units

// Scratch of a task: sums in flight, the f32 chains of a block, codes as bytes, each padded to a whole tile.
struct WideTiles {
  alignas(64) std::byte ring[kWideRing][4][kSumBytes];
  alignas(64) float acc[kWideTileRows][2][kPanel];
  alignas(64) std::byte codes[2][kWideTileChunks * 512];
};
static_assert(sizeof(WideTiles) <= kSlabBytes);

static PanelFn wide_few_rows[kFormatCount];  // of the tier below; set once, before the table is read

// The codes of a slab as tiles of 64 values: where whole tiles of bytes lie as they are, else where they are unpacked to.
template <Format f>
inline const std::byte* wide_tile_codes(const std::byte* codes, int64_t chunks, std::byte* out) {
  return Spec<f>::kBits == 8 && chunks % 2 == 0 ? codes : out;
}

// Unpacks chunks [from, end) of a slab of `chunks`; an odd end is padded with zeros.
template <Format f>
inline void unpack_wide(const std::byte* codes, int64_t from, int64_t end, int64_t chunks, std::byte* out) {
  for (int64_t c = from; c < end && c < chunks; c++) {
    SY_UNROLL(8)
    for (int v = 0; v < 8; v++) i_store(out + c * 512 + v * 64, code_vector<f>(codes + c * Spec<f>::kCodeBytes, v));
  }
  if (end >= chunks && chunks % 2 != 0) {
    for (int v = 0; v < 8; v++) i_store(out + chunks * 512 + v * 64, _mm512_setzero_si512());
  }
}

// The sums of a group of `tiles` times 64 values to the ring.
template <int kRowTiles, int kPanels>
inline void wide_tile_group(int64_t tiles, const std::byte* a, const std::byte* const* b, PanelsAhead* ahead,
                            std::byte (*out)[kSumBytes]) {
  const int64_t row = tiles * 64;
  _tile_zero(0);
  if constexpr (kPanels == 2) _tile_zero(1);
  if constexpr (kRowTiles == 2) _tile_zero(2);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_zero(3);
  for (int64_t t = 0; t < tiles; t++) {
    _tile_loadd(4, a + t * 64, row);
    _tile_loadd(6, b[0] + t * 1024, 64);
    _tile_dpbsud(0, 4, 6);
    if constexpr (kPanels == 2) {
      _tile_loadd(7, b[1] + t * 1024, 64);
      _tile_dpbsud(1, 4, 7);
    }
    ahead->step();
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, a + 16 * row + t * 64, row);
      _tile_dpbsud(2, 5, 6);
      if constexpr (kPanels == 2) _tile_dpbsud(3, 5, 7);
    }
  }
  _tile_stored(0, out[0], 64);
  if constexpr (kPanels == 2) _tile_stored(1, out[1], 64);
  if constexpr (kRowTiles == 2) _tile_stored(2, out[2], 64);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_stored(3, out[3], 64);
}

// One block of rows against kPanels panels, over the chunks of a slab. codes: of each panel, from its first chunk on.
template <Format f, int kRowTiles, int kPanels>
void wide_tiles(const PanelJob& job, const WideSlab& slab, int64_t rows, const std::byte* x, const std::byte* const* codes,
                PanelsAhead* ahead, WideTiles* tiles, float* y, int64_t outputs) {
  using S = Spec<f>;
  constexpr bool kRow = S::kInfo.scales == ScaleKind::kRow;
  constexpr Int8Layout kLayout = int8_layout(S::kInfo);
  const auto valid = [&](int p) { return outputs - 16 * p < 16 ? outputs - 16 * p : 16; };
  for (int64_t r = 0; r < rows; r++) {
    for (int p = 0; p < kPanels; p++) {
      f_store(tiles->acc[r][p], slab.first ? f_zero() : f_load_n(y + r * job.y_stride + 16 * p, valid(p)));
    }
  }
  const int64_t values = slab.chunks * kChunk, groups = (values + kLayout.group - 1) / kLayout.group;
  const auto codes_of = [&](int64_t g) { return kLayout.codes(values - g * kLayout.group); };
  // The first row block unpacks the codes, two groups before they are read: the stores then wait beside the products.
  const auto unpack = [&](int64_t g) {
    constexpr int64_t kChunks = kLayout.group / kChunk;
    if (!slab.unpack || g >= groups) return;
    for (int p = 0; p < kPanels; p++) {
      if (codes[p] != tiles->codes[p]) continue;
      unpack_wide<f>(slab.codes + p * slab.stride, g * kChunks, (g + 1) * kChunks, slab.chunks, tiles->codes[p]);
    }
    memory_barrier();
  };
  const auto start = [&](int64_t g) {
    unpack(g + 2);
    const std::byte* b[kPanels];
    for (int p = 0; p < kPanels; p++) b[p] = codes[p] + g * kLayout.group * kPanel;
    wide_tile_group<kRowTiles, kPanels>(codes_of(g) / 64, x + g * rows * (kLayout.group + 8), b, ahead,
                                         tiles->ring[g % kWideRing]);
  };
  unpack(0);
  unpack(1);
  start(0);
  for (int64_t g = 0; g < groups; g++) {
    if (g + 1 < groups) start(g + 1);
    memory_barrier();
    const std::byte* words = x + g * rows * (kLayout.group + 8) + rows * codes_of(g);
    const float* scale = reinterpret_cast<const float*>(words);
    const int32_t* minus_sum = reinterpret_cast<const int32_t*>(words) + rows;
    F s[kPanels];
    for (int p = 0; p < kPanels; p++) {
      if constexpr (!kRow) {
        const int64_t chunk = g * kLayout.group / kChunk;
        s[p] = f_load_f16(slab.scales + p * slab.stride + chunk / S::kScaleChunks * S::kScaleBytes);
      }
    }
    const std::byte(*sums)[kSumBytes] = tiles->ring[g % kWideRing];
    for (int64_t r = 0; r < rows; r++) {
      const I correction = i_shl(_mm512_set1_epi32(minus_sum[r]), log2_of(S::kInfo.zero));
      const F row_scale = f_set1(scale[r]);
      SY_UNROLL(2)
      for (int p = 0; p < kPanels; p++) {
        const F dot = f_from_i32(i_add(i_load(sums[r / 16 * 2 + p] + r % 16 * 64), correction));
        float* acc = tiles->acc[r][p];
        if constexpr (kRow) f_store(acc, f_fma(row_scale, dot, f_load(acc)));
        else f_store(acc, f_fma(f_mul(s[p], row_scale), dot, f_load(acc)));
      }
    }
  }
  for (int p = 0; p < kPanels; p++) {
    const bool scaled = kRow && slab.last;
    const F s = scaled ? f_load(slab.scales + p * slab.stride) : f_zero();
    for (int64_t r = 0; r < rows; r++) {
      const F sum = f_load(tiles->acc[r][p]);
      f_store_n(y + r * job.y_stride + 16 * p, scaled ? f_mul(s, sum) : sum, valid(p));
    }
  }
}

template <Format f>
void wide_tile_panels(const PanelJob& job) {
  using S = Spec<f>;
  // Blocks are cut evenly: either all have few rows or none has.
  if (job.rows <= kWideFewRows) return wide_few_rows[static_cast<int>(f)](job);
  constexpr int64_t kGroupChunks = int8_layout(S::kInfo).group / kChunk;
  WideTiles* tiles = reinterpret_cast<WideTiles*>(job.scratch);
  TileConfig config;
  config.set(6, 16, 64);
  config.set(7, 16, 64);
  int64_t configured = 0;
  const int64_t all = job.layout.columns / kChunk;
  for (int64_t p = 0; p < job.panel_count; p += 2) {
    const int panels = job.panel_count - p < 2 ? 1 : 2;
    const std::byte* panel = job.panels + p * job.layout.bytes;
    PanelsAhead ahead(job, p + panels, 2, (all + 1) / 2 * (job.last_block - job.first_block));
    for (int64_t c = 0; c < all; c += kWideTileChunks) {
      const int64_t left = all - c;
      const std::byte* scales = panel + job.layout.scales_at + c / S::kScaleChunks * S::kScaleBytes;
      WideSlab slab{panel + c * S::kCodeBytes, scales, job.layout.bytes,
                          left < kWideTileChunks ? left : kWideTileChunks, c == 0, left <= kWideTileChunks};
      const std::byte* codes[2] = {};
      for (int i = 0; i < panels; i++) {
        codes[i] = wide_tile_codes<f>(slab.codes + i * slab.stride, slab.chunks, tiles->codes[i]);
      }
      for (int64_t i = job.first_block; i < job.last_block; i++) {
        slab.unpack = i == job.first_block;
        const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
        if (rows != configured) {
          const int64_t first = rows < 16 ? rows : 16, second = rows - first;
          for (const int tile : {0, 1, 4}) config.set(tile, first, 64);
          for (const int tile : {2, 3, 5}) config.set(tile, second, second > 0 ? 64 : 0);
          config.load();
          configured = rows;
        }
        const std::byte* x = job.x + row * job.x_row_bytes + rows * (c * kChunk + c / kGroupChunks * 8);
        const auto run = rows > 16 ? (panels == 2 ? wide_tiles<f, 2, 2> : wide_tiles<f, 2, 1>)
                                   : (panels == 2 ? wide_tiles<f, 1, 2> : wide_tiles<f, 1, 1>);
        run(job, slab, rows, x, codes, &ahead, tiles, job.y + row * job.y_stride + 16 * p, job.outputs - 16 * p);
      }
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
