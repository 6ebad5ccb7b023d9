// int8 products in tiles: a block of up to 16 rows against one panel, one tile product per group of 16 or 32 values, and
// then the same f32 steps as linear_int8.inl, so the bits are those of every other tier. Few rows take the VNNI kernel.
//
// While tiles are in use the processor does one 512-bit multiplication or conversion a cycle instead of two, but still
// two additions. So sums start from an integer that, read as f32, is 1.5·2^23: each is then a number in f32 that one
// subtraction frees of where it started, and nothing is converted.
//
// A tile is not renamed: an instruction that overwrites one stops the processor until all have read it. So products run
// three groups ahead of the f32 steps, stores two, and four tiles of sums and two of either operand take turns.
//
// Tiles: 0…3 sums, 4 and 5 activations, 6 and 7 weights.

constexpr int kTileChunks = 64;
constexpr int kSumTiles = 4;
constexpr int kSumBytes = 1024;
constexpr int kSumStart = 0x4b400000;  // 1.5·2^23 in f32
static_assert(32 * 127 * 128 < 1 << 22);  // the largest sum

// A slab of a panel taken apart once for all row blocks: signed codes (code - zero), and s and m in f32 per group.
struct TileSlab {
  alignas(64) std::byte codes[kTileChunks * 512];  // [chunks][8][64]
  alignas(64) float scales[kTileChunks * 4 * 16];  // [chunks][groups][1 or 2][16]
};

// Chunks [from, end) of the slab that starts at chunk `first` of a panel.
template <Format f>
void expand_slab(const std::byte* panel, const PanelLayout& layout, int64_t first, int64_t from, int64_t end,
                 TileSlab* out) {
  using S = Spec<f>;
  float* scales_out = out->scales + from * S::kGroups * (S::kHasMin ? 32 : 16);
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(S::kInfo.zero));
  for (int64_t i = from; i < end; i++) {
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

// Scratch of a task.
struct Int8Tiles {
  alignas(64) int32_t start[16 * 16];
  alignas(64) std::byte sums[kSumTiles][kSumBytes];
  TileSlab slab;
};
static_assert(sizeof(Int8Tiles) <= kSlabBytes);

// A slab and what is done to it while a row block meets it.
struct SlabWork {
  const std::byte* panel;
  const PanelLayout& layout;
  int64_t first, chunks;  // of the panel
  // The first row block takes the slab apart, a few chunks at a time: the stores then wait beside the products.
  void (*expand)(const std::byte* panel, const PanelLayout& layout, int64_t first, int64_t from, int64_t end,
                 TileSlab* out);  // null: done before
  PanelsAhead* ahead;
};
constexpr int kBurst = 8;  // chunks

inline void expand_burst(const SlabWork& work, int64_t from, TileSlab* slab) {
  if (work.expand == nullptr || from >= work.chunks) return;
  const int64_t end = from + kBurst < work.chunks ? from + kBurst : work.chunks;
  work.expand(work.panel, work.layout, work.first, from, end, slab);
  memory_barrier();
}

template <int kTile>
inline void tile_start(const Int8Tiles& t) {
  load_tile<kTile>(t.start, 64);
}

// The operands of group g into the set of tiles that is its own.
template <int kGroups, int R, int kTile>
inline void tile_load(int64_t g, const std::byte* x, const Int8Tiles& t) {
  const std::byte* a = x + g / kGroups * (R * kChunk) + g % kGroups * 16;
  const std::byte* b = t.slab.codes + g * (512 / kGroups);
  load_tile<4 + kTile % 2>(a, 32);
  load_tile<6 + kTile % 2>(b, 64);
}

template <int kTile>
inline void tile_multiply() {
  if constexpr (kTile == 0) _tile_dpbssd(0, 4, 6);
  if constexpr (kTile == 1) _tile_dpbssd(1, 5, 7);
  if constexpr (kTile == 2) _tile_dpbssd(2, 4, 6);
  if constexpr (kTile == 3) _tile_dpbssd(3, 5, 7);
}

template <int kTile>
inline void tile_store(Int8Tiles* t) {
  store_tile<kTile>(t->sums[kTile], 64);
}

// The tile instructions beside the f32 steps of group g, for which g % 4 == kTile.
template <int kGroups, int R, int kTile>
inline void tile_step(int64_t g, int64_t groups, const std::byte* x, Int8Tiles* t) {
  if (g + 2 < groups) tile_store<(kTile + 2) % 4>(t);
  if (g + 3 < groups) tile_multiply<(kTile + 3) % 4>();
  if (g + 4 < groups) {
    tile_start<kTile>(*t);
    tile_load<kGroups, R, kTile>(g + 4, x, *t);
  }
  memory_barrier();
}

template <int kGroups, bool kHasMin, int R>
inline void scale_sums(int64_t g, const std::byte* words, const TileSlab& slab, const std::byte* sums, F* acc) {
  const F start = _mm512_castsi512_ps(_mm512_set1_epi32(kSumStart));
  const int which = kGroups == 2 ? static_cast<int>(g % 2) : 2;
  const float* scale = reinterpret_cast<const float*>(words + g / kGroups * (R * kInt8Words));
  const float* scaled_sum = scale + (4 + which) * R;
  const float* scales = slab.scales + g * (kHasMin ? 32 : 16);
  const F s = f_load(scales), m = kHasMin ? f_load(scales + 16) : f_zero();
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) {
    acc[r] = f_fma(f_mul(s, f_set1(scale[r])), _mm512_sub_ps(f_load(sums + 64 * r), start), acc[r]);
    if constexpr (kHasMin) acc[r] = f_fma(m, f_set1(scaled_sum[r]), acc[r]);
  }
}

// Continues the chains of y (`first`: starts them) over the groups of a slab. x: the row block.
template <int kGroups, bool kHasMin, int R>
void int8_tiles(const SlabWork& work, const std::byte* x, Int8Tiles* t, float* y, int64_t y_stride, int64_t outputs) {
  const std::byte* words = x + kInt8Groups.words_at(work.layout.columns, R) + work.first * R * kInt8Words;
  x += work.first * R * kChunk;
  const int64_t groups = work.chunks * kGroups;
  expand_burst(work, 0, &t->slab);
  F acc[R];
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) acc[r] = work.first == 0 ? f_zero() : f_load_n(y + r * y_stride, outputs);
  tile_start<0>(*t);
  tile_start<1>(*t);
  tile_start<2>(*t);
  tile_start<3>(*t);
  tile_load<kGroups, R, 0>(0, x, *t);
  tile_multiply<0>();
  if (groups > 1) {
    tile_load<kGroups, R, 1>(1, x, *t);
    tile_multiply<1>();
  }
  tile_store<0>(t);
  if (groups > 2) {
    tile_load<kGroups, R, 2>(2, x, *t);
    tile_multiply<2>();
  }
  if (groups > 1) tile_store<1>(t);
  if (groups > 3) tile_load<kGroups, R, 3>(3, x, *t);
  const auto step = [&]<int kTile>(int64_t g) __attribute__((always_inline)) {
    if (g % kGroups == 0) work.ahead->step();
    tile_step<kGroups, R, kTile>(g, groups, x, t);
    scale_sums<kGroups, kHasMin, R>(g, words, t->slab, t->sums[kTile], acc);
  };
  for (int64_t g = 0;; g += 4) {
    if (g % (kBurst * kGroups) == 0) expand_burst(work, g / kGroups + kBurst, &t->slab);
    step.template operator()<0>(g);
    if (g + 1 >= groups) break;
    step.template operator()<1>(g + 1);
    if (g + 2 >= groups) break;
    step.template operator()<2>(g + 2);
    if (g + 3 >= groups) break;
    step.template operator()<3>(g + 3);
    if (g + 4 >= groups) break;
  }
  SY_UNROLL(16)
  for (int r = 0; r < R; r++) f_store_n(y + r * y_stride, acc[r], outputs);
}

// The fewest rows of a block in tiles: 17 are cut in 8 and 9.
constexpr int kFewestTileRows = kTileRows / 2;
static_assert(kInt8MostRows + 1 >= kFewestTileRows);

template <int kGroups, bool kHasMin, int R>
void int8_tiles_from(int64_t rows, const SlabWork& work, const std::byte* x, Int8Tiles* t, float* y, int64_t y_stride,
                     int64_t outputs) {
  if constexpr (R > kFewestTileRows) {
    if (rows < R) return int8_tiles_from<kGroups, kHasMin, R - 1>(rows, work, x, t, y, y_stride, outputs);
  }
  int8_tiles<kGroups, kHasMin, R>(work, x, t, y, y_stride, outputs);
}

template <Format f>
void int8_tile_panels(const PanelJob& job) {
  using S = Spec<f>;
  if (job.rows <= kInt8MostRows) return int8_panels<f>(job);
  TileConfig config;
  int64_t configured = 0;
  Int8Tiles* t = reinterpret_cast<Int8Tiles*>(job.scratch);
  for (int32_t& start : t->start) start = kSumStart;
  const int64_t all = job.layout.columns / kChunk;
  for (int64_t p = 0; p < job.panel_count; p++) {
    const std::byte* panel = job.panels + p * job.layout.bytes;
    PanelsAhead ahead(job, p + 1, 1, all * (job.last_block - job.first_block));
    for (int64_t c = 0; c < all; c += kTileChunks) {
      const int64_t chunks = all - c < kTileChunks ? all - c : kTileChunks;
      SlabWork work{panel, job.layout, c, chunks, expand_slab<f>, &ahead};
      for (int64_t i = job.first_block; i < job.last_block; i++) {
        const int64_t row = job.block_row(i), rows = job.block_row(i + 1) - row;
        if (rows != configured) {
          for (const int tile : {0, 1, 2, 3}) config.set(tile, rows, 64);
          for (const int tile : {4, 5}) config.set(tile, rows, 32 / S::kGroups);
          for (const int tile : {6, 7}) config.set(tile, 8 / S::kGroups, 64);
          config.load();
          configured = rows;
        }
        int8_tiles_from<S::kGroups, S::kHasMin, kTileRows>(
            rows, work, job.x + row * job.x_row_bytes, t,
            job.y + row * job.y_stride + 16 * p, job.y_stride, job.outputs - 16 * p);
        work.expand = nullptr;
      }
    }
  }
  release_tiles();
}
