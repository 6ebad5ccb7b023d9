// Wide int8 products in tiles: up to 32 rows (two tiles) against two panels, and one f32 step a group as in
// wide_int8.inl, so the bits are those of every other tier. Codes stay unsigned: dot = Σ q·x - zero·Σ x. Few rows take the
// kernel of the tier below.
//
// A step is one group: 2 × 2 tiles of sums. In its first products the sums of the group before are stored, each right
// before its tile is begun again; between the others go the f32 steps of that group, so that they run while the tile unit
// works. The loads are what bounds it, hence no start of the sums in memory, and scales read once for both panels.
//
// The processor takes a load for dependent on every store before it whose address agrees in the low 12 bits, and a tile
// store waits long for its product. So the sums of a group lie, in the low 12 bits, where the f32 chains do that wait for
// them anyway.
//
// Tiles: 0…3 sums [tile of rows][panel], 4 and 5 activations, 6 and 7 weights. One tile of rows alone: 0 and 1, 2 and 3
// the sums of every other group.

constexpr int kWideTileRows = 32;
constexpr int64_t kWideTileChunks = 64;  // per slab: the bytes of two panels are 64 KiB

// Scratch of a task: sums of two groups, the f32 chains of a block, what is added to the sums of a group, codes as bytes,
// each padded to a whole tile.
struct WideTiles {
  alignas(64) std::byte sums[2][2][2][kSumBytes];     // [group % 2][tile of rows][panel][row][lane]
  alignas(64) float acc[2][2][kTileRows * kPanel];    // [tile of rows][panel][row][lane]
  alignas(64) int32_t correction[kWideTileRows];
  alignas(64) std::byte codes[2][kWideTileChunks * 512];
};
static_assert(sizeof(WideTiles::sums[0]) == 4096 && sizeof(WideTiles::acc) == 4096);
static_assert(sizeof(WideTiles) <= kSlabBytes);

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

template <int kTile>
inline void wide_multiply() {
  if constexpr (kTile == 0) _tile_dpbsud(0, 4, 6);
  if constexpr (kTile == 1) _tile_dpbsud(1, 4, 7);
  if constexpr (kTile == 2) _tile_dpbsud(2, 5, 6);
  if constexpr (kTile == 3) _tile_dpbsud(3, 5, 7);
}

#define SY_MEMBER __attribute__((always_inline)) inline  // members stay in registers, past the memory barriers too

// The row blocks of a job against kPanels panels, over the chunks of a slab: one run of steps, so that the f32 steps of a
// block's last group go beside the first products of the next block.
template <Format f, int kRowTiles, int kPanels>
struct WideRun {
  using S = Spec<f>;
  static constexpr bool kRow = S::kInfo.scales == ScaleKind::kRow;
  static constexpr Int8Layout kLayout = int8_layout(S::kInfo);
  static_assert(128 * 127 * kLayout.group < 1 << 22);  // the largest sum, see kSumStart

  const PanelJob& job;
  const WideSlab& slab;
  int64_t chunk;                  // the first of the slab
  const std::byte* const* codes;  // of each panel, from its first chunk on
  PanelsAhead* ahead;
  WideTiles* tiles;
  float* y;                       // row 0 of the expert, at the first output
  int64_t outputs;

  struct Block {
    int64_t rows;
    const std::byte *x, *words;  // of the slab's first group
    float* y;
  };
  // A group of a block.
  struct Step {
    const float* scale = nullptr;  // nullptr: there is none
    int64_t rows = 0, group = 0;
    float* y = nullptr;            // where the block's sums belong, if this is its last group
  };

  SY_MEMBER int64_t values() const { return slab.chunks * kChunk; }
  SY_MEMBER int64_t groups() const { return (values() + kLayout.group - 1) / kLayout.group; }
  SY_MEMBER int64_t codes_of(int64_t g) const { return kLayout.codes(values() - g * kLayout.group); }  // bytes of a row

  SY_MEMBER Block block(int64_t i) const {
    const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
    const std::byte* x = job.x + row * job.x_row_bytes;
    return {rows, x + rows * chunk * kChunk, wide_words<f>(x, job.layout.columns, rows, chunk), y + row * job.y_stride};
  }

  SY_MEMBER Step step_of(const Block& b, int64_t g) const {
    const std::byte* words = b.words + g * b.rows * kWideWords;
    return {reinterpret_cast<const float*>(words), b.rows, g, g + 1 == groups() ? b.y : nullptr};
  }

  // The first row block unpacks the codes, two groups before they are read: the stores then wait beside the products.
  SY_MEMBER void unpack(int64_t g) const {
    constexpr int64_t kChunks = kLayout.group / kChunk;
    if (g >= groups()) return;
    for (int p = 0; p < kPanels; p++) {
      unpack_wide<f>(slab.codes + p * slab.stride, g * kChunks, (g + 1) * kChunks, slab.chunks, tiles->codes[p]);
    }
    memory_barrier();
  }

  // acc = fma(s·scale, dot, acc) of a group, for kRows rows from kFirst on or as many as there are.
  template <int kFirst, int kRows, int kSet>
  SY_MEMBER void add(const Step& of) const {
    F s[kPanels];
    for (int p = 0; p < kPanels; p++) {
      if constexpr (!kRow) {
        const int64_t at = of.group * kLayout.group / kChunk;
        s[p] = f_load_f16(slab.scales + p * slab.stride + at / S::kScaleChunks * S::kScaleBytes);
      }
    }
    const F start = _mm512_castsi512_ps(_mm512_set1_epi32(kSumStart));
    const auto row = [&](int64_t r) __attribute__((always_inline)) {
      const I correction = _mm512_set1_epi32(tiles->correction[r]);
      const F row_scale = f_set1(of.scale[r]);
      SY_UNROLL(2)
      for (int p = 0; p < kPanels; p++) {
        float* acc = tiles->acc[kFirst / 16][p] + (r - kFirst / 16 * 16) * kPanel;
        const I sum = i_add(i_load(tiles->sums[kSet][kFirst / 16][p] + (r - kFirst / 16 * 16) * 64), correction);
        const F dot = _mm512_sub_ps(_mm512_castsi512_ps(sum), start);
        if constexpr (kRow) f_store(acc, f_fma(row_scale, dot, f_load(acc)));
        else f_store(acc, f_fma(f_mul(s[p], row_scale), dot, f_load(acc)));
      }
    };
    memory_barrier();
    if (of.rows >= kFirst + kRows) {
      SY_UNROLL(16)
      for (int r = kFirst; r < kFirst + kRows; r++) row(r);
    } else {
      for (int64_t r = kFirst; r < of.rows; r++) row(r);
    }
    memory_barrier();
  }

  template <int kSet>
  SY_MEMBER void add_all(const Step& of) const {
    add<0, 16, kSet>(of);
    if constexpr (kRowTiles == 2) add<16, 16, kSet>(of);
  }

  // What is added to the integer sums of a group, so that they are then, read as f32, dot + 1.5·2^23.
  SY_MEMBER void correct(const Step& of) const {
    const int32_t* minus_sum = reinterpret_cast<const int32_t*>(of.scale + of.rows);
    for (int t = 0; t < kRowTiles; t++) {
      const int64_t left = of.rows - 16 * t, count = left < 16 ? left : 16;
      const I minus = _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << count) - 1), minus_sum + 16 * t);
      i_store(tiles->correction + 16 * t, i_add(i_shl(minus, log2_of(S::kInfo.zero)), _mm512_set1_epi32(kSumStart)));
    }
  }

  SY_MEMBER int64_t valid(int p) const { return outputs - 16 * p < 16 ? outputs - 16 * p : 16; }
  SY_MEMBER float* acc_at(int64_t r, int p) const { return tiles->acc[r / 16][p] + r % 16 * kPanel; }

  // The f32 chains of a block before the slab.
  SY_MEMBER void open(const Block& b) const {
    for (int p = 0; p < kPanels; p++) {
      for (int64_t r = 0; r < b.rows; r++) {
        f_store(acc_at(r, p), slab.first ? f_zero() : f_load_n(b.y + r * job.y_stride + 16 * p, valid(p)));
      }
    }
  }

  // And those after it, or the outputs.
  SY_MEMBER void close(const Step& last) const {
    for (int p = 0; p < kPanels; p++) {
      const bool scaled = kRow && slab.last;
      const F s = scaled ? f_load(slab.scales + p * slab.stride) : f_zero();
      for (int64_t r = 0; r < last.rows; r++) {
        const F sum = f_load(acc_at(r, p));
        f_store_n(last.y + r * job.y_stride + 16 * p, scaled ? f_mul(s, sum) : sum, valid(p));
      }
    }
  }

  static constexpr int sums_of(int tile_of_rows, int panel, int set) {
    return kRowTiles == 2 ? 2 * tile_of_rows + panel : 2 * set + panel;
  }

  // Stores the sums of one tile of the group before one of kSet.
  template <int kRowTile, int kPanel_, int kSet>
  SY_MEMBER void store() const {
    store_tile<sums_of(kRowTile, kPanel_, 1 - kSet)>(tiles->sums[1 - kSet][kRowTile][kPanel_], 64);
  }

  // Tile t of 64 values of group g, whose activations are at a, `row` bytes a row: one product for each tile of sums.
  // before: the step before.
  template <int kSet, int kTiles, int t, int kRowTile, int kPanel_>
  SY_MEMBER void product(int64_t g, const std::byte* a, int64_t row, const Step& before) const {
    constexpr int kSums = sums_of(kRowTile, kPanel_, kSet);
    constexpr int64_t kPanelBytes = int64_t{kPanel} * 64;
    if constexpr (t == 0) {
      if (before.scale != nullptr) store<kRowTile, kPanel_, kSet>();
      zero_tile<kSums>();
    }
    if constexpr (kPanel_ == 0) load_tile<4 + kSums / 2>(a + kRowTile * 16 * row + t * 64, row);
    if constexpr (kRowTile == 0) {
      load_tile<6 + kPanel_>(codes[kPanel_] + g * kLayout.group * kPanel + t * kPanelBytes, 64);
    }
    wide_multiply<kSums>();
    if constexpr (kPanel_ == 0 && kRowTile == 0) ahead->step();
    if (before.scale == nullptr) return;
    if constexpr (t + 1 == kTiles && kTiles == 1) {
      if constexpr (kRowTile + 1 == kRowTiles && kPanel_ + 1 == kPanels) {
        correct(before);
        add_all<1 - kSet>(before);
      }
    } else if constexpr (t == 1) {
      if constexpr (kRowTile == 0 && kPanel_ == 0) correct(before);
      constexpr int kRows = 16 / kPanels;
      add<kRowTile * 16 + kPanel_ * kRows, kRows, 1 - kSet>(before);
    }
  }

  template <int kSet, int kTiles, int t>
  SY_MEMBER void products(int64_t g, const std::byte* a, int64_t row, const Step& before) const {
    product<kSet, kTiles, t, 0, 0>(g, a, row, before);
    if constexpr (kPanels == 2) product<kSet, kTiles, t, 0, 1>(g, a, row, before);
    if constexpr (kRowTiles == 2) product<kSet, kTiles, t, 1, 0>(g, a, row, before);
    if constexpr (kRowTiles == 2 && kPanels == 2) product<kSet, kTiles, t, 1, 1>(g, a, row, before);
  }

  // Group g of a block, in set kSet: that of the step before is the other.
  template <int kSet>
  SY_MEMBER Step step(const Block& b, int64_t g, const Step& before) const {
    const std::byte* a = b.x + g * b.rows * kLayout.group;
    if (kLayout.group == 128 && codes_of(g) == 128) {
      products<kSet, 2, 0>(g, a, 128, before);
      products<kSet, 2, 1>(g, a, 128, before);
    } else {
      products<kSet, 1, 0>(g, a, 64, before);
    }
    if (before.y != nullptr) {
      close(before);
      open(b);
    }
    return step_of(b, g);
  }

  template <int kSet>
  SY_MEMBER void finish(const Step& last) const {
    store<0, 0, 1 - kSet>();
    if constexpr (kPanels == 2) store<0, 1, 1 - kSet>();
    if constexpr (kRowTiles == 2) store<1, 0, 1 - kSet>();
    if constexpr (kRowTiles == 2 && kPanels == 2) store<1, 1, 1 - kSet>();
    correct(last);
    add_all<kSet>(last);
    close(last);
  }

  SY_MEMBER void run() const {
    const int64_t all = groups(), steps = all * (job.last_block - job.first_block);
    const bool unpacks = codes[0] == tiles->codes[0];  // all panels alike
    int64_t i = job.first_block, g = 0;
    Block b = block(i);
    Step before;
    const auto next = [&]<int kSet>() __attribute__((always_inline)) {
      if (unpacks && i == job.first_block) unpack(g + 2);
      before = step<kSet>(b, g, before);
      if (++g < all) return;
      g = 0;
      if (++i < job.last_block) b = block(i);
    };
    open(b);
    if (unpacks) {
      unpack(0);
      unpack(1);
    }
    for (int64_t q = 0; q < steps; q += 2) {
      next.template operator()<0>();
      if (q + 1 < steps) next.template operator()<1>();
    }
    if (steps % 2 == 0) finish<1>(before);
    else finish<0>(before);
  }
};

template <Format f, int kRowTiles, int kPanels>
void wide_tiles(const PanelJob& job, const WideSlab& slab, int64_t chunk, const std::byte* const* codes, PanelsAhead* ahead,
                WideTiles* tiles, float* y, int64_t outputs) {
  WideRun<f, kRowTiles, kPanels>{job, slab, chunk, codes, ahead, tiles, y, outputs}.run();
}
