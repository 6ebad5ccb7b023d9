// route_tile.h for one instruction set; included after vec.inl and math.inl.

static void route_softmax(float* x, int64_t n) {
  F top = set1(-INFINITY);
  for (int64_t i = 0; i < n; i += 16) {
    const int have = n - i < 16 ? static_cast<int>(n - i) : 16;
    F v = load_n(x + i, have);
    if (have < 16) v = select(lt(load(kLane), set1(static_cast<float>(have))), v, top);
    top = max2(v, top);
  }
  const F max = set1(reduce_max(top));
  F sum = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const int have = n - i < 16 ? static_cast<int>(n - i) : 16;
    F v = exp(load_n(x + i, have) - max);
    v = select(lt(set1(-INFINITY), max), v, zero());
    v = select(lt(load(kLane), set1(static_cast<float>(have))), v, zero());
    sum = sum + v;
    store_n(x + i, v, have);
  }
  const float total = reduce_add(sum);
  const F by = set1(total > 0 ? total : 1.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int have = n - i < 16 ? static_cast<int>(n - i) : 16;
    store_n(x + i, load_n(x + i, have) / by, have);
  }
}

static void route_sigmoid(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int have = n - i < 16 ? static_cast<int>(n - i) : 16;
    store_n(x + i, sigmoid(load_n(x + i, have)), have);
  }
}

// k rounds: the largest value left, then its first place, which becomes NaN: no maximum or comparison takes it again.
static void route_top_k(float* x, int64_t n, int64_t k, int32_t* ids) {
  const int64_t end = (n + 15) / 16 * 16;
  for (int64_t i = n; i < end; i++) x[i] = NAN;
  const F lane = load(kLane), none = set1(INFINITY);
  for (int64_t round = 0; round < k; round++) {
    F top = set1(-INFINITY);
    for (int64_t i = 0; i < end; i += 16) top = max2(load(x + i), top);
    const F best = set1(reduce_max(top));
    F place = none;  // places up to 2^24 are exact
    for (int64_t i = 0; i < end; i += 16) {
      const F here = lane + set1(static_cast<float>(i));
      place = min2(select(eq(load(x + i), best), here, none), place);
    }
    const float first = reduce_min(place);
    ids[round] = static_cast<int32_t>(first);
    float* block = x + (ids[round] & ~15);
    // A store of the whole vector: the next round loads it without waiting.
    store(block, select(eq(lane, set1(static_cast<float>(ids[round] & 15))), set1(NAN), load(block)));
  }
}

// Each lane keeps its two largest values; the second of all is then in the lane of the first, or the first of another.
static void route_group_scores(const float* x, int64_t groups, int64_t size, bool two, float* scores) {
  const F lane = load(kLane), least = set1(-INFINITY);
  for (int64_t g = 0; g < groups; g++, x += size) {
    F first = least, second = least;
    for (int64_t i = 0; i < size; i += 16) {
      const int have = size - i < 16 ? static_cast<int>(size - i) : 16;
      F v = load_n(x + i, have);
      if (have < 16) v = select(lt(lane, set1(static_cast<float>(have))), v, least);
      second = max2(min2(first, v), second);
      first = max2(v, first);
    }
    scores[g] = reduce_max(first);
    if (!two || size == 1) continue;
    const F place = set1(reduce_min(select(eq(first, set1(scores[g])), lane, set1(INFINITY))));
    scores[g] += reduce_max(select(eq(lane, place), second, first));
  }
}

// In the order of doubles. The compiler makes vectors of a minimum of integers, not of one of doubles.
SY_INLINE int64_t ordered_bits(double x) {
  const int64_t b = std::bit_cast<int64_t>(x);
  return b ^ ((b >> 63) & INT64_MAX);
}

static int64_t route_relax(double base, double from, const double* __restrict price, const double* __restrict gain,
                           int64_t n, double* __restrict distance, double* __restrict origin) {
  int64_t low = INT64_MAX;
  for (int64_t i = 0; i < n; i++) {
    const double reach = base + (price[i] - gain[i]), known = distance[i];
    const double least = reach < known ? reach : known;
    origin[i] = reach < known ? from : origin[i];
    distance[i] = least;
    const int64_t bits = ordered_bits(least);
    low = bits < low ? bits : low;
  }
  int64_t first = n;
  for (int64_t i = 0; i < n; i++) {
    const int64_t here = ordered_bits(distance[i]) == low ? i : n;
    first = here < first ? here : first;
  }
  return first;
}

constexpr RouteKernels kRouteKernels = {route_softmax, route_sigmoid, route_top_k, route_group_scores, route_relax};
