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
template <bool kStore>
struct Weights {
  float* y;
  const float* x;
  WeightOf weight;
  F at(int64_t i) const {
    const F w = weight(load(x + i));
    if constexpr (kStore) store(y + i, w);
    return w;
  }
  F tail(int64_t i, int n) const {
    const F w = weight(load_n(x + i, n));
    if constexpr (kStore) store_n(y + i, w, n);
    return keep_n(w, n);
  }
};
static double weigh(float* y, const float* x, int64_t n, float top, float rate) {
  const WeightOf weight{set1(top), set1(rate)};
  return y ? sum_blocks(Weights<true>{y, x, weight}, n) : sum_blocks(Weights<false>{nullptr, x, weight}, n);
}

// w·(x - top)·rate; where w is 0 (x may be -inf) the term is 0.
struct Moments {
  const float* w;
  const float* x;
  F top, rate;
  F term(F v, F s) const { return select(eq(v, zero()), zero(), v * ((s - top) * rate)); }
  F at(int64_t i) const { return term(load(w + i), load(x + i)); }
  F tail(int64_t i, int n) const { return term(load_n(w + i, n), load_n(x + i, n)); }
};
static double moment(const float* w, const float* x, int64_t n, float top, float rate) {
  return sum_blocks(Moments{w, x, set1(top), set1(rate)}, n);
}

static void nearness(float* y, const float* x, int64_t n, float top, float rate, float centre) {
  const F t = set1(top), r = set1(rate), c = set1(centre);
  for (int64_t i = 0; i < n; i += 16) {
    const int m = n - i < 16 ? int(n - i) : 16;
    store_n(y + i, neg(abs((load_n(x + i, m) - t) * r - c)), m);
  }
}

// A removed weight is -0: sums do not feel it, and its sign tells it from a weight of 0.
static double thin(float* w, const float* order, int64_t n, float limit, int64_t* count) {
  const F l = set1(limit), removed = set1(-0.0f);
  I kept = iset1(0);
  const auto step = [&](F v, F o) {
    const F out = select(lt(l, o), v, removed);
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
        const F out = step(load(w + at), load(order + at));
        store(w + at, out);
        s[k] = s[k] + out;
      }
    }
    for (; i < end; i += 16) {
      const int m = end - i < 16 ? int(end - i) : 16;
      const M inside = ilt(lane_index(), iset1(m));
      const F out = step(select(inside, load_n(w + i, m), removed), load_n(order + i, m));
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

// Where the weights are others than the order, they are packed, too; where there are none, each is 1.
enum class Weighed { kByOrder, kByOne, kByOthers };
template <Weighed kBy>
SY_INLINE int64_t survey_blocks(float* kept_order, float* kept_weights, const float* order, const float* weights,
                                int64_t n, float low, float high, double* above) {
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
    const auto weight = [&](int64_t i, F o, int m) {
      if constexpr (kBy == Weighed::kByOrder) return o;
      if constexpr (kBy == Weighed::kByOne) return set1(1.0f);
      return m == 16 ? load(weights + i) : load_n(weights + i, m);
    };
    const M all = ilt(lane_index(), iset1(16));
    int64_t i = start;
    for (; i + 32 <= end; i += 32) {
      const F a = load(order + i), b = load(order + i + 16);
      step(a, weight(i, a, 16), all, s[0]);
      step(b, weight(i + 16, b, 16), all, s[1]);
    }
    for (; i < end; i += 16) {
      const int m = end - i < 16 ? int(end - i) : 16;
      const F o = load_n(order + i, m);
      step(o, weight(i, o, m), ilt(lane_index(), iset1(m)), s[0]);
    }
    *above += double(reduce_add(s[0] + s[1]));
  }
  return kept;
}
static int64_t survey(float* kept_order, float* kept_weights, const float* order, const float* weights, int64_t n,
                      float low, float high, double* above) {
  if (weights == order)
    return survey_blocks<Weighed::kByOrder>(kept_order, kept_weights, order, weights, n, low, high, above);
  if (weights == nullptr)
    return survey_blocks<Weighed::kByOne>(kept_order, kept_weights, order, weights, n, low, high, above);
  return survey_blocks<Weighed::kByOthers>(kept_order, kept_weights, order, weights, n, low, high, above);
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
