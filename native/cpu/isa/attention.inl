// attention_tile.h for one instruction set; included after vec.inl, math.inl and tile.inl.

// e^x for x ≤ 0, with 0 below e^-87: a result below the smallest normal number costs a microcode assist, and masked
// scores are all of that kind.
SY_INLINE F exp_or_zero(F x) {
  const F least = set1(-87.0f);
  return select(lt(x, least), zero(), exp(max2(least, x)));
}

static void clear(const AttentionState& s, int64_t rows, int64_t Cv) {
  for (int64_t i = 0; i < rows; i++) s.max[i] = -INFINITY;
  for (int64_t i = 0; i < rows; i++) store(s.sum + i * kLanes, zero());
  for (int64_t i = 0; i < rows * padded(Cv); i += kLanes) store(s.out + i, zero());
}

// Keys as [C, 64], so that a lane of the scores is a key.
static void pack_keys(const AttentionBlock& b, int count) {
  if (!b.half) {
    transpose(reinterpret_cast<const float* const*>(b.k), count, b.C, b.keys, kPanelColumns, kPanelColumns);
    return;
  }
  alignas(64) float wide[64][16];
  const float* rows[64];
  for (int j = 0; j < 64; j++) rows[j] = wide[j];
  for (int64_t c = 0; c < b.C; c += 16) {
    const int n = b.C - c < 16 ? static_cast<int>(b.C - c) : 16;
    for (int j = 0; j < count; j++) {
      uint16_t edge[16] = {};
      const uint16_t* p = static_cast<const uint16_t*>(b.k[j]) + c;
      if (n < 16) memcpy(edge, p, static_cast<size_t>(n) * 2), p = edge;
      store(wide[j], load_half(p));
    }
    transpose(rows, count, n, b.keys + c * kPanelColumns, kPanelColumns, kPanelColumns);
  }
}

static void pack_values(const AttentionBlock& b, int count) {
  const int64_t width = padded(b.Cv);
  for (int j = 0; j < count; j++) {
    float* to = b.values + j * width;
    for (int64_t c = 0; c < b.Cv; c += 16) {
      const int n = b.Cv - c < 16 ? static_cast<int>(b.Cv - c) : 16;
      if (!b.half) {
        const float* from = static_cast<const float*>(b.v[j]) + c;
        store(to + c, n == 16 ? load(from) : load_n(from, n));
        continue;
      }
      uint16_t edge[16] = {};
      const uint16_t* p = static_cast<const uint16_t*>(b.v[j]) + c;
      if (n < 16) memcpy(edge, p, static_cast<size_t>(n) * 2), p = edge;
      store(to + c, load_half(p));
    }
  }
}

// Scores of R rows become exp(score - max) in place; max, sum and out of the rows move to the new maximum.
static void soften(const AttentionBlock& b, int64_t first, int rows, int vectors, float (*scores)[kKeyBlock]) {
  alignas(64) static constexpr int32_t kBit[16] = {1 << 0, 1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                                                   1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
  const F scale = set1(b.scale), none = set1(-INFINITY);
  const I bit = iload(kBit);
  alignas(64) float from[16] = {}, to[16] = {}, factor[16];
  for (int i = 0; i < rows; i++) {
    const uint64_t visible = b.visible[first + i];
    F top = none;
    for (int v = 0; v < vectors; v++) {
      F s = load(scores[i] + v * 16) * scale;
      const uint32_t seen = static_cast<uint32_t>(visible >> (v * 16)) & 0xffff;
      if (seen != 0xffff) s = select(ieq(bit & iset1(static_cast<int32_t>(seen)), bit), s, none);
      store(scores[i] + v * 16, s);
      top = max2(s, top);
    }
    const float old = b.state.max[first + i], best = reduce_max(top);
    const float now = best > old ? best : old;
    b.state.max[first + i] = now;
    // A row without a score above -inf has no maximum to take off; every exp of it is 0.
    to[i] = now == -INFINITY ? 0.0f : now;
    from[i] = old;
  }
  store(factor, exp_or_zero(load(from) - load(to)));
  for (int i = 0; i < rows; i++) {
    const F top = set1(to[i]);
    float* sum_at = b.state.sum + (first + i) * kLanes;
    F sum = load(sum_at);
    // Always, even by 1: the branch would often be predicted wrongly.
    const F by = set1(factor[i]);
    sum = sum * by;
    float* out = b.state.out + (first + i) * padded(b.Cv);
    for (int64_t c = 0; c < b.Cv; c += 16) store(out + c, load(out + c) * by);
    for (int v = 0; v < vectors; v++) {
      const F p = exp_or_zero(load(scores[i] + v * 16) - top);
      store(scores[i] + v * 16, p);
      sum = sum + p;
    }
    store(sum_at, sum);
  }
}

// out[rows] += scores · values, over keys [from, to) of the block.
static void add_values(const AttentionBlock& b, int rows, const float* const* scores, const float* const* values, int from,
                       int to, float* out) {
  const float* a[kTileRows];
  for (int i = 0; i < rows; i++) a[i] = scores[i] + from;
  const int vectors = static_cast<int>(padded(b.Cv) / 16);
  for (int v = 0; v < vectors;) {
    const int width = vectors - v < kTileVectors ? vectors - v : kTileVectors;
    Tiles<true, Listed>::of(rows, width)(to - from, a, {values + from, v * 16}, out + v * 16, padded(b.Cv));
    v += width;
  }
}

SY_INLINE int run_end(uint64_t bits, int from) {  // first clear bit from `from` on
  const uint64_t clear_bits = ~bits >> from;
  return clear_bits == 0 ? 64 : from + std::countr_zero(clear_bits);
}

static void block(const AttentionBlock& b) {
  uint64_t any = 0;
  for (int64_t i = 0; i < b.rows; i++) any |= b.visible[i];
  const int count = (64 - std::countl_zero(any) + 15) / 16 * 16;  // whole vectors; all 64 pointers are good
  pack_keys(b, count);
  // Few rows read each value once; many read them from a copy that lies close together.
  const float* packed[kKeyBlock];
  const float* const* values = reinterpret_cast<const float* const*>(b.v);
  if (b.half || b.Cv % 16 != 0 || b.rows > 2 * kTileRows) {
    pack_values(b, count);
    for (int j = 0; j < kKeyBlock; j++) packed[j] = b.values + j * padded(b.Cv);
    values = packed;
  }
  alignas(64) float scores[kTileRows][kKeyBlock];
  const float* score_rows[kTileRows];
  for (int i = 0; i < kTileRows; i++) score_rows[i] = scores[i];

  for (int64_t first = 0; first < b.rows;) {
    const int rows = tile_rows(b.rows - first);
    uint64_t common = ~uint64_t{0}, seen = 0;
    for (int i = 0; i < rows; i++) {
      common &= b.visible[first + i];
      seen |= b.visible[first + i];
    }
    if (seen == 0) {
      first += rows;
      continue;
    }
    const int last = 64 - std::countl_zero(seen), vectors = (last + 15) / 16;
    for (int v = 0; v < vectors;) {
      const int width = vectors - v < kTileVectors ? vectors - v : kTileVectors;
      Tiles<false, Strided>::of(rows, width)(b.C, b.q + first, {b.keys + v * 16, kPanelColumns}, scores[0] + v * 16,
                                             kKeyBlock);
      v += width;
    }
    soften(b, first, rows, vectors, scores);

    // Keys that all rows see go together, the others row by row, each row in order of keys. A masked value is
    // never multiplied: 0·inf would not be 0.
    float* out = b.state.out + first * padded(b.Cv);
    for (int j = 0; j < last;) {
      if (common >> j & 1) {
        const int end = run_end(common, j);
        add_values(b, rows, score_rows, values, j, end, out);
        j = end;
        continue;
      }
      const int end = run_end(~common, j) < last ? run_end(~common, j) : last;
      for (int i = 0; i < rows; i++) {
        const uint64_t own = b.visible[first + i];
        for (int from = j; from < end;) {
          if (!(own >> from & 1)) {
            from++;
            continue;
          }
          const int to = run_end(own, from) < end ? run_end(own, from) : end;
          add_values(b, 1, score_rows + i, values, from, to, out + i * padded(b.Cv));
          from = to;
        }
      }
      j = end;
    }
    first += rows;
  }
}

static void merge(const AttentionState& total, const AttentionState& part, int64_t rows, int64_t Cv) {
  for (int64_t i = 0; i < rows; i++) {
    if (part.max[i] == -INFINITY) continue;
    float *sum = total.sum + i * kLanes, *out = total.out + i * padded(Cv);
    const float *part_sum = part.sum + i * kLanes, *part_out = part.out + i * padded(Cv);
    if (total.max[i] == -INFINITY) {
      total.max[i] = part.max[i];
      store(sum, load(part_sum));
      for (int64_t c = 0; c < Cv; c += 16) store(out + c, load(part_out + c));
      continue;
    }
    const float top = part.max[i] > total.max[i] ? part.max[i] : total.max[i];
    const F a = exp_or_zero(set1(total.max[i] - top)), b = exp_or_zero(set1(part.max[i] - top));
    total.max[i] = top;
    store(sum, fma(load(part_sum), b, load(sum) * a));
    for (int64_t c = 0; c < Cv; c += 16) store(out + c, fma(load(part_out + c), b, load(out + c) * a));
  }
}

static void finish(const AttentionState& s, int64_t rows, int64_t Cv, float* const* y) {
  for (int64_t i = 0; i < rows; i++) {
    const float sum = reduce_add(load(s.sum + i * kLanes));
    const F by = set1(sum == 0.0f ? 0.0f : 1.0f / sum);
    for (int64_t c = 0; c < Cv; c += 16) {
      const int n = Cv - c < 16 ? static_cast<int>(Cv - c) : 16;
      store_n(y[i] + c, load(s.out + i * padded(Cv) + c) * by, n);
    }
  }
}

constexpr AttentionKernels kAttentionKernels = {clear, block, merge, finish};
