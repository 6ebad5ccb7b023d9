// Passes over the scores of a row of the vocabulary; included after rows.inl.

// Maxima of blocks of kMaximumBlock, and the largest of them (NaN passes).
static float block_maxima(float* maxima, const float* x, int64_t n) {
  F all = set1(-INFINITY);
  M nan = unordered(all, all);
  for (int64_t b = 0; b < n; b += kMaximumBlock) {
    const int64_t end = n - b < kMaximumBlock ? n : b + kMaximumBlock;
    F r[4] = {set1(-INFINITY), set1(-INFINITY), set1(-INFINITY), set1(-INFINITY)};
    int64_t i = b;
    for (; i + 64 <= end; i += 64) {
      const F p = load(x + i), q = load(x + i + 16), s = load(x + i + 32), t = load(x + i + 48);
      nan = nan | unordered(p, q) | unordered(s, t);
      r[0] = max2(r[0], p);
      r[1] = max2(r[1], q);
      r[2] = max2(r[2], s);
      r[3] = max2(r[3], t);
    }
    for (; i < end; i += 16) {
      const int m = end - i < 16 ? int(end - i) : 16;
      const F p = select(ilt(lane_index(), iset1(m)), load_n(x + i, m), set1(-INFINITY));
      nan = nan | unordered(p, p);
      r[0] = max2(r[0], p);
    }
    const F block = max2(max2(r[0], r[1]), max2(r[2], r[3]));
    maxima[b / kMaximumBlock] = reduce_max(block);
    all = max2(all, block);
  }
  return any(nan) ? NAN : reduce_max(all);
}

template <bool kStore>
struct DividedExponentials {
  float* y;
  const float* x;
  F divisor, max;
  F at(int64_t i) const {
    const F e = exp(load(x + i) / divisor - max);
    if constexpr (kStore) store(y + i, e);
    return e;
  }
  F tail(int64_t i, int n) const {
    const F e = exp(load_n(x + i, n) / divisor - max);
    if constexpr (kStore) store_n(y + i, e, n);
    return keep_n(e, n);
  }
};
static double exp_sum_divided(float* y, const float* x, int64_t n, float divisor, float max) {
  if (divisor == 1) return exp_sum(y, x, n, max);
  if (y) return sum_blocks(DividedExponentials<true>{y, x, set1(divisor), set1(max)}, n);
  return sum_blocks(DividedExponentials<false>{nullptr, x, set1(divisor), set1(max)}, n);
}

// w·(x / divisor - max); where w is 0 (x may be -inf) the term is 0.
struct Moments {
  const float* w;
  const float* x;
  F divisor, max;
  static F term(F w, F x, F divisor, F max) {
    return select(eq(w, zero()), zero(), w * (x / divisor - max));
  }
  F at(int64_t i) const { return term(load(w + i), load(x + i), divisor, max); }
  F tail(int64_t i, int n) const { return term(load_n(w + i, n), load_n(x + i, n), divisor, max); }
};
static double moment(const float* w, const float* x, int64_t n, float divisor, float max) {
  return sum_blocks(Moments{w, x, set1(divisor), set1(max)}, n);
}

struct ValuesAbove {
  const float* x;
  F limit;
  F at(int64_t i) const {
    const F v = load(x + i);
    return select(lt(limit, v), v, zero());
  }
  F tail(int64_t i, int n) const {
    const F v = load_n(x + i, n);
    return keep_n(select(lt(limit, v), v, zero()), n);
  }
};
static double sum_above(const float* x, int64_t n, float limit) {
  return sum_blocks(ValuesAbove{x, set1(limit)}, n);
}

static int64_t count_above(const float* x, int64_t n, float limit) {
  const F l = set1(limit);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const int m = n - i < 16 ? int(n - i) : 16;
    count += std::popcount(mask_bits(lt(l, load_n(x + i, m))) & ((1u << m) - 1));
  }
  return count;
}

static int64_t places_between(float* values, int32_t* places, const float* x, int64_t n, float low, float high) {
  const F l = set1(low), h = set1(high);
  int64_t kept = 0;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F v = load(x + i);
    const M m = lt(l, v) & le(v, h);
    if (!any(m)) continue;
    kept += pack_lanes(values + kept, places + kept, v, lane_index() + iset1(int32_t(i)), m);
  }
  for (; i < n; i++) {
    if (!(x[i] > low && x[i] <= high)) continue;
    values[kept] = x[i];
    places[kept++] = int32_t(i);
  }
  return kept;
}

static int64_t keep_above(float* values, int32_t* ids, const float* x, const int32_t* from, int32_t first,
                          int64_t n, float limit) {
  const F l = set1(limit);
  int64_t kept = 0;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F v = load(x + i);
    const M m = lt(l, v);
    if (!any(m)) continue;
    kept += pack_lanes(values + kept, ids + kept, v,
                       from ? iload(from + i) : lane_index() + iset1(first + int32_t(i)), m);
  }
  for (; i < n; i++) {
    if (!(x[i] > limit)) continue;
    values[kept] = x[i];
    ids[kept++] = from ? from[i] : first + int32_t(i);
  }
  return kept;
}
