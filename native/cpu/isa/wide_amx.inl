// Wide int8 products in tiles: up to 32 rows (two tiles) against two panels, and one f32 step a group as in
// wide_int8.inl, so the bits are those of every other tier. Codes stay unsigned: dot = Σ q·x - zero·Σ x. Few rows take the
// kernel of the tier below.
//
// A step is one group of one tile of rows. Two sets of tiles take turns: while the f32 steps of one tile of rows run, the
// tile unit makes the sums of the other and stores them. The processor takes a load for dependent on every store before
// it whose address agrees in the low 12 bits, and a tile store waits long for its product. So the sums of the two sets
// lie in the two halves of 4 KiB, and the f32 chains at the same place of other 4 KiB: what is loaded then never lies, in
// the low 12 bits, where a store is under way. With a ring of 4 KiB a group it did; that cost a third of the time at
// groups of 128 and half of it at groups of 64.
//
// Tiles: 0 and 1 sums of the first set, 2 and 3 of the second, 4 and 5 activations, 6 and 7 weights.

constexpr int kWideTileRows = 32;
constexpr int kWideFewRows = 6;  // the rows of a block of the tier below
constexpr int64_t kWideTileChunks = 64;  // per slab: the bytes of two panels are 64 KiB


// Scratch of a task: sums in flight, the f32 chains of a block, what is added to the sums of a step, codes as bytes, each
// padded to a whole tile.
struct WideTiles {
  alignas(64) std::byte sums[2][2][kSumBytes];        // [set][panel][row][lane]
  alignas(64) float acc[2][2][kTileRows * kPanel];    // [tile of rows][panel][row][lane]
  alignas(64) int32_t correction[kTileRows];
  alignas(64) std::byte codes[2][kWideTileChunks * 512];
};
static_assert(sizeof(WideTiles::sums) == 4096 && sizeof(WideTiles::acc) == 4096);
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

// The sums of a group of `tiles` times 64 values, in set kSet. kKeep: the tiles of weights are those of the step before.
template <int kSet, int kPanels, bool kKeep>
inline void wide_multiply(int64_t tiles, const std::byte* a, const std::byte* const* b) {
  const int64_t row = tiles * 64;
  // The names of tiles must be literals.
  if constexpr (kSet == 0) _tile_zero(0);
  if constexpr (kSet == 1) _tile_zero(2);
  if constexpr (kSet == 0 && kPanels == 2) _tile_zero(1);
  if constexpr (kSet == 1 && kPanels == 2) _tile_zero(3);
  for (int64_t t = 0; t < tiles; t++) {
    if constexpr (kSet == 0) _tile_loadd(4, a + t * 64, row);
    if constexpr (kSet == 1) _tile_loadd(5, a + t * 64, row);
    if constexpr (!kKeep) _tile_loadd(6, b[0] + t * 1024, 64);
    if constexpr (kSet == 0) _tile_dpbsud(0, 4, 6);
    if constexpr (kSet == 1) _tile_dpbsud(2, 5, 6);
    if constexpr (kPanels == 2) {
      if constexpr (!kKeep) _tile_loadd(7, b[1] + t * 1024, 64);
      if constexpr (kSet == 0) _tile_dpbsud(1, 4, 7);
      if constexpr (kSet == 1) _tile_dpbsud(3, 5, 7);
    }
  }
}

template <int kSet, int kPanels>
inline void wide_store(std::byte (*sums)[kSumBytes]) {
  if constexpr (kSet == 0) _tile_stored(0, sums[0], 64);
  if constexpr (kSet == 1) _tile_stored(2, sums[0], 64);
  if constexpr (kSet == 0 && kPanels == 2) _tile_stored(1, sums[1], 64);
  if constexpr (kSet == 1 && kPanels == 2) _tile_stored(3, sums[1], 64);
}

// One block of rows against kPanels panels, over the chunks of a slab. codes: of each panel, from its first chunk on.
template <Format f, int kRowTiles, int kPanels>
void wide_tiles(const PanelJob& job, const WideSlab& slab, int64_t rows, const std::byte* x, const std::byte* const* codes,
                PanelsAhead* ahead, WideTiles* tiles, float* y, int64_t outputs) {
  using S = Spec<f>;
  constexpr bool kRow = S::kInfo.scales == ScaleKind::kRow;
  static constexpr Int8Layout kLayout = int8_layout(S::kInfo);
  static_assert(128 * 127 * kLayout.group < 1 << 22);  // the largest sum, see kSumStart
  const auto valid = [&](int p) { return outputs - 16 * p < 16 ? outputs - 16 * p : 16; };
  const auto acc_at = [&](int64_t r, int p) { return tiles->acc[r / 16][p] + r % 16 * kPanel; };
  for (int64_t r = 0; r < rows; r++) {
    for (int p = 0; p < kPanels; p++) {
      f_store(acc_at(r, p), slab.first ? f_zero() : f_load_n(y + r * job.y_stride + 16 * p, valid(p)));
    }
  }
  const int64_t values = slab.chunks * kChunk, groups = (values + kLayout.group - 1) / kLayout.group;
  const int64_t steps = groups * kRowTiles;
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
  // Step q is in set q % 2.
  const auto multiply = [&]<int kSet>(int64_t q) __attribute__((always_inline)) {
    if (q >= steps) return;
    constexpr bool kSecond = kRowTiles == 2 && kSet == 1;  // tile of rows
    const int64_t g = q / kRowTiles, row = codes_of(g);
    if constexpr (!kSecond) {
      unpack(g + 2);
      for (int64_t t = 0; t < row; t += 64) ahead->step();
    }
    const std::byte* b[kPanels];
    for (int p = 0; p < kPanels; p++) b[p] = codes[p] + g * kLayout.group * kPanel;
    wide_multiply<kSet, kPanels, kSecond && kLayout.group == 64>(
        row / 64, x + g * rows * (kLayout.group + 8) + (kSecond ? 16 * row : 0), b);
  };
  const auto add = [&]<int kSet>(int64_t q) __attribute__((always_inline)) {
    constexpr int64_t kFirst = kRowTiles == 2 && kSet == 1 ? 16 : 0;
    const int64_t g = q / kRowTiles, count = kRowTiles == 2 && kSet == 0 ? 16 : rows - kFirst;
    const std::byte* words = x + g * rows * (kLayout.group + 8) + rows * codes_of(g);
    const float* scale = reinterpret_cast<const float*>(words) + kFirst;
    const int32_t* minus_sum = reinterpret_cast<const int32_t*>(words) + rows + kFirst;
    const I minus = _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << count) - 1), minus_sum);
    i_store(tiles->correction, i_add(i_shl(minus, log2_of(S::kInfo.zero)), _mm512_set1_epi32(kSumStart)));
    const F start = _mm512_castsi512_ps(_mm512_set1_epi32(kSumStart));
    F s[kPanels];
    for (int p = 0; p < kPanels; p++) {
      if constexpr (!kRow) {
        const int64_t chunk = g * kLayout.group / kChunk;
        s[p] = f_load_f16(slab.scales + p * slab.stride + chunk / S::kScaleChunks * S::kScaleBytes);
      }
    }
    const std::byte(*sums)[kSumBytes] = tiles->sums[kSet];
    float(*acc)[kTileRows * kPanel] = tiles->acc[kFirst / 16];
    SY_UNROLL(4)
    for (int64_t r = 0; r < count; r++) {
      const I correction = _mm512_set1_epi32(tiles->correction[r]);
      const F row_scale = f_set1(scale[r]);
      SY_UNROLL(2)
      for (int p = 0; p < kPanels; p++) {
        const I sum = i_add(i_load(sums[p] + r * 64), correction);
        const F dot = _mm512_sub_ps(_mm512_castsi512_ps(sum), start), before = f_load(acc[p] + r * kPanel);
        if constexpr (kRow) f_store(acc[p] + r * kPanel, f_fma(row_scale, dot, before));
        else f_store(acc[p] + r * kPanel, f_fma(f_mul(s[p], row_scale), dot, before));
      }
    }
  };
  const auto step = [&]<int kSet>(int64_t q) __attribute__((always_inline)) {
    multiply.template operator()<kSet>(q + 2);
    if (q + 1 < steps) wide_store<1 - kSet, kPanels>(tiles->sums[1 - kSet]);
    memory_barrier();
    add.template operator()<kSet>(q);
    memory_barrier();
  };
  unpack(0);
  unpack(1);
  multiply.template operator()<0>(0);
  multiply.template operator()<1>(1);
  wide_store<0, kPanels>(tiles->sums[0]);
  for (int64_t q = 0; q < steps; q += 2) {
    step.template operator()<0>(q);
    if (q + 1 < steps) step.template operator()<1>(q + 1);
  }
  for (int p = 0; p < kPanels; p++) {
    const bool scaled = kRow && slab.last;
    const F s = scaled ? f_load(slab.scales + p * slab.stride) : f_zero();
    for (int64_t r = 0; r < rows; r++) {
      const F sum = f_load(acc_at(r, p));
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
          const int64_t first = rows < 16 ? rows : 16, second = rows > 16 ? rows - 16 : rows;  // rows of either set
          for (const int tile : {0, 1, 4}) config.set(tile, first, 64);
          for (const int tile : {2, 3, 5}) config.set(tile, second, 64);
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
