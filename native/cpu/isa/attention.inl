// attention_tile.h for one instruction set; included after vec.inl, math.inl, tile.inl and attention_tiles.inl.

// e^x for x ≤ 0, with 0 below e^-87: a result below the smallest normal number costs a microcode assist, and masked
// scores are all of that kind. As exp() of math.inl without the cases that cannot occur.
SY_INLINE F exp_or_zero(F x) {
  static constexpr float kC[] = {4.999999404e-01f, 1.666651666e-01f, 4.166828468e-02f, 8.369250223e-03f,
                                 1.382046845e-03f};
  const F least = set1(-87.0f), clamped = max2(least, x);  // NaN stays
  const F n = round_even(clamped * set1(1.442695041f));
  F r = fnma(n, set1(0.693359375f), clamped);
  r = fnma(n, set1(-2.12194440e-4f), r);
  const F p = fma(polynomial(r, kC), r * r, r) + set1(1.0f);
#if defined(SY_AVX512)
  return {_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x.v, least.v, _CMP_NLT_UQ), p.v, n.v)};
#else
  return select(lt(x, least), zero(), p * floats(shl<23>(to_int(n) + iset1(127))));
#endif
}

static void clear(const AttentionState& s, int64_t rows, int64_t Cv) {
  for (int64_t i = 0; i < rows; i++) s.max[i] = -INFINITY;
  for (int64_t i = 0; i < rows; i++) store(s.sum + i * kLanes, zero());
  for (int64_t i = 0; i < rows * padded(Cv); i += kLanes) store(s.out + i, zero());
}

// Keys as f32 [C, 64] in the scratch, so that a lane of the scores is a key.
template <class T>
static void unpack_keys(const AttentionBlock& b, Places<T> from, uint64_t any, Places<float>* to) {
  for (int v = 0; v < kKeyVectors; v++) {
    to->k[v] = b.keys + v * kLanes;
    if ((any >> (v * kLanes) & 0xffff) == 0) continue;
    for (int64_t c = 0; c < b.C; c++) store(b.keys + c * kKeyBlock + v * 16, load_as(from.k[v] + c * from.k_distance));
  }
  to->k_distance = kKeyBlock;
}

// Values as f32 [64, padded(Cv)] in the scratch, those that a row sees.
template <class T>
static void unpack_values(const AttentionBlock& b, Places<T> from, uint64_t any, Places<float>* to) {
  const int64_t width = padded(b.Cv), whole = b.Cv / 16 * 16;
  for (uint64_t rest = any; rest != 0; rest &= rest - 1) {
    const int j = std::countr_zero(rest);
    const T* row = from.v[j / kLanes] + (j % kLanes) * from.v_distance;
    float* copy = b.values + j * width;
    for (int64_t c = 0; c < whole; c += 16) store(copy + c, load_as(row + c));
    if (whole < b.Cv) {
      T edge[16] = {};
      memcpy(edge, row + whole, static_cast<size_t>(b.Cv - whole) * sizeof(T));
      store(copy + whole, load_as(edge));
    }
  }
  for (int v = 0; v < kKeyVectors; v++) to->v[v] = b.values + v * kLanes * width;
  to->v_distance = width;
}

// One vector of scores of a row, from key `from` of the block on.
static F changed(const ScoreTerms& t, int64_t row, int from, F s) {
  if (t.cap > 0) s = tanh(s / set1(t.cap)) * set1(t.cap);
  const int64_t head = row % t.heads, distance = t.base + from - (t.first + row / t.heads);
  if (t.slopes != nullptr) {
    s = fma(set1(t.slopes[head]), to_float(iset1(static_cast<int32_t>(distance)) + lane_index()), s);
  }
  if (t.bias != nullptr) {
    const float* bias = t.bias + head * t.bias_size;
    const int64_t at = distance + t.left;
    if (at >= 0 && at + kLanes <= t.bias_size) return s + load(bias + at);
    alignas(64) float entries[kLanes];
    for (int64_t i = 0; i < kLanes; i++) {
      entries[i] = bias[at + i < 0 ? 0 : at + i < t.bias_size ? at + i : t.bias_size - 1];
    }
    s = s + load(entries);
  }
  return s;
}

// Scores of some rows, in the vectors listed in `which`, become the weights of the values in place: exp(score - max),
// times the scale of the value where there is one. max, sum and out of the rows move to the new maximum.
template <bool kScaled, bool kTerms>
static void soften(const AttentionBlock& b, int64_t first, int rows, const int* which, int count,
                   float (*scores)[kKeyBlock]) {
  alignas(64) static constexpr int32_t kBit[16] = {1 << 0, 1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                                                   1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
  const F scale = set1(b.scale), none = set1(-INFINITY);
  const I bit = iload(kBit);
  static_assert(kMostRows <= 16);
  alignas(64) float from[16] = {}, to[16] = {}, factor[16];
  for (int i = 0; i < rows; i++) {
    const uint64_t visible = b.visible[first + i];
    F top = none;
    for (int at = 0; at < count; at++) {
      const int v = which[at];
      F s = load(scores[i] + v * 16);
      if constexpr (kScaled) s = s * load(b.at->k_scale[v]);
      s = s * scale;
      if constexpr (kTerms) s = changed(*b.terms, first + i, v * kLanes, s);
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
    for (int at = 0; at < count; at++) {
      const int v = which[at];
      const F p = exp_or_zero(load(scores[i] + v * 16) - top);
      store(scores[i] + v * 16, kScaled ? p * load(b.at->v_scale[v]) : p);
      sum = sum + p;
    }
    store(sum_at, sum);
  }
}

SY_INLINE int run_end(uint64_t bits, int from) {  // first clear bit from `from` on
  const uint64_t clear_bits = ~bits >> from;
  return clear_bits == 0 ? 64 : from + std::countr_zero(clear_bits);
}

template <bool kScaled, class T>
static void attend(const AttentionBlock& b, const Places<T>& places, const Places<T>* next) {
  const int64_t width = padded(b.Cv);
  alignas(64) float scores[kMostRows][kKeyBlock];
  const float* score_at[kMostRows];
  for (int i = 0; i < kMostRows; i++) score_at[i] = scores[i];

  for (int64_t first = 0; first < b.rows;) {
    const int rows = attention_rows(b.rows - first);
    uint64_t common = ~uint64_t{0}, seen = 0;
    for (int i = 0; i < rows; i++) {
      common &= b.visible[first + i];
      seen |= b.visible[first + i];
    }
    if (seen == 0) {
      first += rows;
      continue;
    }
    int which[kKeyVectors], count = 0;
    for (int v = 0; v < kKeyVectors; v++) {
      if ((seen >> (v * kLanes) & 0xffff) != 0) which[count++] = v;
    }
    with_rows(rows, [&](auto r) {
      score_rows<decltype(r)::value, T>(b.C, b.q + first, places, next, which, count, scores);
    });
    b.terms == nullptr ? soften<kScaled, false>(b, first, rows, which, count, scores)
                       : soften<kScaled, true>(b, first, rows, which, count, scores);

    // Keys that all rows see go together, the others row by row, each row in order of keys. A masked value is
    // never multiplied: 0·inf would not be 0.
    float* out = b.state.out + first * width;
    const int last = 64 - std::countl_zero(seen);
    for (int j = 0; j < last;) {
      if (common >> j & 1) {
        const int end = run_end(common, j);
        with_rows(rows, [&](auto r) {
          value_rows<decltype(r)::value, T>(j, end, score_at, places, next, width, out);
        });
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
          value_rows<1, T>(from, to, score_at + i, places, nullptr, width, out + i * width);
          from = to;
        }
      }
      j = end;
    }
    next = nullptr;  // the first rows have asked for it
    first += rows;
  }
}

// Few rows read keys and values as they are stored; for many it pays to widen them once.
constexpr int64_t kDirectRows = 2 * kTileRows;

template <class T>
SY_INLINE Places<T> places_of(const AttentionBlock& b, const KeyBlock& at) {
  Places<T> places;
  for (int v = 0; v < kKeyVectors; v++) {
    places.k[v] = reinterpret_cast<const T*>(at.k[v]);
    places.v[v] = reinterpret_cast<const T*>(at.v[v]);
  }
  places.k_distance = b.k_distance, places.v_distance = b.v_distance;
  return places;
}

// Values as f32 [64, padded(Cv)] in the scratch, from the first channels of the keys [C, 64] there.
static void values_of_keys(const AttentionBlock& b, uint64_t any, Places<float>* to) {
  const int64_t width = padded(b.Cv), keys = padded(64 - std::countl_zero(any));
  const float* channels[kKeyBlock];
  for (int64_t c = 0; c < b.Cv; c += kKeyBlock) {
    const int count = static_cast<int>(b.Cv - c < kKeyBlock ? b.Cv - c : kKeyBlock);
    for (int i = 0; i < count; i++) channels[i] = b.keys + (c + i) * kKeyBlock;
    transpose(channels, count, keys, b.values + c, padded(count), width);
  }
  for (int v = 0; v < kKeyVectors; v++) to->v[v] = b.values + v * kLanes * width;
  to->v_distance = width;
}

template <bool kScaled, class T>
static void block_of(const AttentionBlock& b, uint64_t any) {
  const Places<T> places = places_of<T>(b, *b.at);
  if (b.values_in_keys) {
    Places<float> wide;
    unpack_keys(b, places, any, &wide);
    values_of_keys(b, any, &wide);
    return attend<kScaled, float>(b, wide, nullptr);
  }
  const bool widen = !std::is_same_v<T, float> && b.rows > kDirectRows;
  if (widen || b.Cv % kLanes != 0) {
    Places<float> wide;
    unpack_keys(b, places, any, &wide);
    unpack_values(b, places, any, &wide);
    return attend<kScaled, float>(b, wide, nullptr);
  }
  if (b.next == nullptr) return attend<kScaled, T>(b, places, nullptr);
  const Places<T> next = places_of<T>(b, *b.next);
  attend<kScaled, T>(b, places, &next);
}

// Keys that lie as rows. Many rows of queries read the values from a copy: those of one head lie so far apart that they
// drive each other out of the first cache.
static void block_of_rows(const AttentionBlock& b, uint64_t any) {
  Places<float> places = places_of<float>(b, *b.at);
  if (b.Cv % kLanes != 0 || b.rows > kDirectRows) unpack_values(b, places, any, &places);
  const int count = static_cast<int>(padded(64 - std::countl_zero(any)));  // whole vectors; all 64 pointers are good
  transpose(b.key_rows, count, b.C, b.keys, kKeyBlock, kKeyBlock);
  for (int v = 0; v < kKeyVectors; v++) places.k[v] = b.keys + v * kLanes;
  places.k_distance = kKeyBlock;
  attend<false, float>(b, places, nullptr);
}

static void block(const AttentionBlock& b) {
  uint64_t any = 0;
  for (int64_t i = 0; i < b.rows; i++) any |= b.visible[i];
  if (b.key_rows != nullptr) return block_of_rows(b, any);
  switch (b.type) {
    case KvType::kF32: return block_of<false, float>(b, any);
    case KvType::kF16: return block_of<false, Half>(b, any);
    case KvType::kBf16: return block_of<false, Brain>(b, any);
    case KvType::kInt8: return block_of<true, Code>(b, any);
  }
}

// Whether a row met no key; a row that met only NaN has no maximum either.
SY_INLINE bool is_empty(const AttentionState& s, int64_t row) {
  if (s.max[row] != -INFINITY) return false;
  const F sum = load(s.sum + row * kLanes);
  return !any(unordered(sum, sum));
}

static void merge(const AttentionState& total, const AttentionState& part, int64_t rows, int64_t Cv) {
  for (int64_t i = 0; i < rows; i++) {
    if (is_empty(part, i)) continue;
    float *sum = total.sum + i * kLanes, *out = total.out + i * padded(Cv);
    const float *part_sum = part.sum + i * kLanes, *part_out = part.out + i * padded(Cv);
    if (is_empty(total, i)) {
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

static void finish(const AttentionState& s, int64_t rows, int64_t Cv, const float* sinks, int64_t heads,
                   float* const* y) {
  for (int64_t i = 0; i < rows; i++) {
    F part = load(s.sum + i * kLanes), factor = set1(1.0f);
    float more = 0.0f;
    if (sinks != nullptr) {
      const float sink = sinks[i % heads], top = s.max[i] > sink ? s.max[i] : sink;
      const F away = set1(top == -INFINITY ? 0.0f : top);
      factor = exp_or_zero(set1(s.max[i]) - away);
      part = part * factor;
      more = reduce_max(exp_or_zero(set1(sink) - away));
    }
    const float sum = reduce_add(part) + more;
    const F by = sum == 0.0f ? zero() : factor * set1(1.0f / sum);
    for (int64_t c = 0; c < Cv; c += 16) {
      const int n = Cv - c < 16 ? static_cast<int>(Cv - c) : 16;
      store_n(y[i] + c, load(s.out + i * padded(Cv) + c) * by, n);
    }
  }
}

constexpr AttentionKernels kAttentionKernels = {clear, block, merge, finish};
