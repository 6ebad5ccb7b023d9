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

// 2^-g for |g| <= 1/2, 1 at 0: our own weighted minimax fit, 1.1e-7 of the value.
static constexpr float kHalving[] = {1.0f,          -6.931470037e-01f, 2.402224094e-01f, -5.550734326e-02f,
                                     9.671566077e-03f, -1.326465863e-03f};

// The weight of a score: 2^((x - top)·rate), 0 below 2^-125; top >= x, rate > 0. Half the work of exp(): no NaN and no large
// x, and the power of two comes out of the bits of a rounded sum.
struct WeightOf {
  F top, rate;
  F operator()(F x) const {
    const F round = set1(12582912.0f);  // 1.5·2^23: whole numbers in the low bits
    const F d = x - top, shifted = fma(d, rate, round);
    const F g = fnma(d, rate, shifted - round);
    const F y = floats(bits(polynomial(g, kHalving)) + shl<23>(bits(shifted)));
    return select(lt(shifted, set1(12582912.0f - 125.0f)), zero(), y);
  }
};
// (x - top), where it is of use: where the weight is 0, x may be -inf, and a product must be 0.
SY_INLINE F below_top(F x, F top) { return max2(x - top, set1(-3e38f)); }

template <bool kStore, bool kProducts>
struct Weights {
  float *y, *products;
  const float* x;
  WeightOf weight;
  F at(int64_t i) const {
    const F v = load(x + i), w = weight(v);
    if constexpr (kStore) store(y + i, w);
    if constexpr (kProducts) store(products + i, w * below_top(v, weight.top));
    return w;
  }
  F tail(int64_t i, int n) const {
    const F v = load_n(x + i, n), w = weight(v);
    if constexpr (kStore) store_n(y + i, w, n);
    if constexpr (kProducts) store_n(products + i, w * below_top(v, weight.top), n);
    return keep_n(w, n);
  }
};
static double weigh(float* y, float* products, const float* x, int64_t n, float top, float rate) {
  const WeightOf weight{set1(top), set1(rate)};
  if (products) return sum_blocks(Weights<true, true>{y, products, x, weight}, n);
  if (y) return sum_blocks(Weights<true, false>{y, nullptr, x, weight}, n);
  return sum_blocks(Weights<false, false>{nullptr, nullptr, x, weight}, n);
}

struct Moments {
  const float* w;
  const float* x;
  F top;
  F at(int64_t i) const { return load(w + i) * below_top(load(x + i), top); }
  F tail(int64_t i, int n) const { return load_n(w + i, n) * below_top(load_n(x + i, n), top); }
};
static double moment(const float* w, const float* x, int64_t n, float top) { return sum_blocks(Moments{w, x, set1(top)}, n); }

// Differences of falling weights w = 2^((x - top)·rate), from the difference of scores where they are near: there the weights
// themselves have but a few bits that differ. 2^t - 1 for t < 1/2 is our own weighted minimax fit, 3e-8 of the value.
static constexpr float kDoubling[] = {6.931471905e-01f, 2.402254865e-01f, 5.552060505e-02f, 9.525771995e-03f,
                                      1.540900250e-03f};
static void drops(float* y, const float* w, const float* x, int64_t n, float rate) {
  const auto drop = [&](F w0, F w1, F x0, F x1) {
    const F t = (x0 - x1) * set1(rate);
    return select(lt(t, set1(0.5f)), w1 * (polynomial(t, kDoubling) * t), w0 - w1);
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, drop(load(w + i), load(w + i + 1), load(x + i), load(x + i + 1)));
  const int m = int(n - i);
  if (m > 0) store_n(y + i, drop(load_n(w + i, m), load_n(w + i + 1, m), load_n(x + i, m), load_n(x + i + 1, m)), m);
}

struct Bends {
  const float* x;
  F at(int64_t i) const { return abs(load(x + i) - load(x + i + 1)); }
  F tail(int64_t i, int n) const { return abs(load_n(x + i, n) - load_n(x + i + 1, n)); }
};
static double bend_sum(const float* x, int64_t n) { return sum_blocks(Bends{x}, n); }

// Orders of candidates.
struct ByScore {
  F operator()(F x) const { return x; }
};
struct ByNearness {
  F top, rate, centre;
  explicit ByNearness(const Nearness& by) : top(set1(by.top)), rate(set1(by.rate)), centre(set1(by.centre)) {}
  F operator()(F x) const { return neg(abs((x - top) * rate - centre)); }
};

// A removed weight is -0: sums do not feel it, and its sign tells it from a weight of 0.
template <class Order>
SY_INLINE double thin_blocks(float* w, const float* x, const Order& order, int64_t n, float limit, int64_t* count) {
  const F l = set1(limit), removed = set1(-0.0f);
  I kept = iset1(0);
  const auto step = [&](F v, F o) {
    const F out = select(lt(l, order(o)), v, removed);
    kept = kept + ones(ilt(iset1(-1), bits(out)));
    return out;
  };
  double total = 0;
  for (int64_t start = 0; start < n; start += 1024) {
    const int64_t end = n - start < 1024 ? n : start + 1024;
    F s[4] = {zero(), zero(), zero(), zero()};
    int64_t i = start;
    for (; i + 64 <= end; i += 64) {
      for (int k = 0; k < 4; k++) {
        const int64_t at = i + 16 * k;
        const F out = step(load(w + at), load(x + at));
        store(w + at, out);
        s[k] = s[k] + out;
      }
    }
    for (; i < end; i += 16) {
      const int m = end - i < 16 ? int(end - i) : 16;
      const M inside = ilt(lane_index(), iset1(m));
      const F out = step(select(inside, load_n(w + i, m), removed), load_n(x + i, m));
      store_n(w + i, out, m);
      s[0] = s[0] + out;
    }
    total += double(reduce_add((s[0] + s[1]) + (s[2] + s[3])));
  }
  int32_t lanes[16];
  istore(lanes, kept);
  *count = 0;
  for (const int32_t lane : lanes) *count += lane;
  return total;
}
static double thin(float* w, const float* x, const Nearness* nearness, int64_t n, float limit, int64_t* count) {
  if (nearness) return thin_blocks(w, x, ByNearness(*nearness), n, limit, count);
  return thin_blocks(w, x, ByScore(), n, limit, count);
}

// Where the weights are others than the scores, they are packed, too; where there are none, each is 1.
enum class Weighed { kByScore, kByOne, kByOthers };
template <Weighed kBy, class Order>
SY_INLINE int64_t survey_blocks(float* kept_order, float* kept_weights, const float* x, const Order& order,
                                const float* weights, int64_t n, float low, float high, double* above) {
  const F l = set1(low), h = set1(high);
  int64_t kept = 0;
  *above = 0;
  for (int64_t start = 0; start < n; start += 1024) {
    const int64_t end = n - start < 1024 ? n : start + 1024;
    F s[2] = {zero(), zero()};
    const auto step = [&](F o, F w, M inside, F& sum) {
      const M over = lt(h, o) & inside, between = lt(l, o) & !over & inside;
      sum = sum + select(over, w, zero());
      const int count = pack_floats(kept_order + kept, o, between);
      if constexpr (kBy == Weighed::kByOthers) pack_floats(kept_weights + kept, w, between);
      kept += count;
    };
    const auto weight = [&](int64_t i, F v, int m) {
      if constexpr (kBy == Weighed::kByScore) return v;
      if constexpr (kBy == Weighed::kByOne) return set1(1.0f);
      return m == 16 ? load(weights + i) : load_n(weights + i, m);
    };
    const M all = ilt(lane_index(), iset1(16));
    int64_t i = start;
    for (; i + 32 <= end; i += 32) {
      const F a = load(x + i), b = load(x + i + 16), c = weight(i, a, 16), d = weight(i + 16, b, 16);
      step(order(a), c, all, s[0]);
      step(order(b), d, all, s[1]);
    }
    for (; i < end; i += 16) {
      const int m = end - i < 16 ? int(end - i) : 16;
      const F v = load_n(x + i, m);
      step(order(v), weight(i, v, m), ilt(lane_index(), iset1(m)), s[0]);
    }
    *above += double(reduce_add(s[0] + s[1]));
  }
  return kept;
}
static int64_t survey(float* kept_order, float* kept_weights, const float* x, const Nearness* nearness,
                      const float* weights, int64_t n, float low, float high, double* above) {
  if (nearness)
    return survey_blocks<Weighed::kByOthers>(kept_order, kept_weights, x, ByNearness(*nearness), weights, n, low, high, above);
  if (weights == x)
    return survey_blocks<Weighed::kByScore>(kept_order, kept_weights, x, ByScore(), weights, n, low, high, above);
  if (weights == nullptr)
    return survey_blocks<Weighed::kByOne>(kept_order, kept_weights, x, ByScore(), weights, n, low, high, above);
  return survey_blocks<Weighed::kByOthers>(kept_order, kept_weights, x, ByScore(), weights, n, low, high, above);
}

static int64_t count_above(const float* x, int64_t n, float limit) {
  const F l = set1(limit);
  I count = iset1(0);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) count = count + ones(lt(l, load(x + i)));
  int32_t lanes[16];
  istore(lanes, count);
  int64_t total = 0;
  for (const int32_t lane : lanes) total += lane;
  for (; i < n; i++) total += x[i] > limit;
  return total;
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

static int64_t keep_present(float* values, int32_t* ids, const float* w, int32_t first, int64_t n) {
  int64_t kept = 0;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F v = load(w + i);
    kept += pack_lanes(values + kept, ids + kept, v, lane_index() + iset1(first + int32_t(i)), ilt(iset1(-1), bits(v)));
  }
  for (; i < n; i++) {
    if (std::signbit(w[i])) continue;
    values[kept] = w[i];
    ids[kept++] = first + int32_t(i);
  }
  return kept;
}
