// Rows: reductions in a fixed order, exponentials, norms, rotations.
template <class Term>
SY_INLINE double sum_blocks(const Term& term, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += 1024) {
    const int64_t end = n - start < 1024 ? n : start + 1024;
    F s[4] = {zero(), zero(), zero(), zero()};
    int64_t i = start;
    for (; i + 64 <= end; i += 64) {
      for (int k = 0; k < 4; k++) s[k] = s[k] + term.at(i + 16 * k);
    }
    for (; i + 16 <= end; i += 16) s[0] = s[0] + term.at(i);
    if (i < end) s[1] = s[1] + term.tail(i, int(end - i));
    total += double(reduce_add((s[0] + s[1]) + (s[2] + s[3])));
  }
  return total;
}

struct Values {
  const float* x;
  F at(int64_t i) const { return load(x + i); }
  F tail(int64_t i, int n) const { return load_n(x + i, n); }
};
struct Squares {
  const float* x;
  F minus;
  F at(int64_t i) const {
    const F d = load(x + i) - minus;
    return d * d;
  }
  F tail(int64_t i, int n) const {
    const F d = keep_n(load_n(x + i, n) - minus, n);
    return d * d;
  }
};
template <bool kStore>
struct Exponentials {
  float* y;
  const float* x;
  F max;
  F at(int64_t i) const {
    const F e = exp(load(x + i) - max);
    if constexpr (kStore) store(y + i, e);
    return e;
  }
  F tail(int64_t i, int n) const {
    const F e = exp(load_n(x + i, n) - max);
    if constexpr (kStore) store_n(y + i, e, n);
    return keep_n(e, n);
  }
};

static double row_sum(const float* x, int64_t n) { return sum_blocks(Values{x}, n); }
static double row_sum_squares(const float* x, int64_t n, float minus) {
  return sum_blocks(Squares{x, set1(minus)}, n);
}
static double exp_sum(float* y, const float* x, int64_t n, float max) {
  if (y) return sum_blocks(Exponentials<true>{y, x, set1(max)}, n);
  return sum_blocks(Exponentials<false>{nullptr, x, set1(max)}, n);
}

// max_nan costs a comparison and a blend; one pass of max2 with a separate NaN mask does not.
#define SY_EXTREME(name, op, reduce, start)                                            \
  static float name(const float* x, int64_t n) {                                       \
    F r[4] = {set1(start), set1(start), set1(start), set1(start)};                     \
    M nan = unordered(r[0], r[0]);                                                     \
    int64_t i = 0;                                                                     \
    for (; i + 64 <= n; i += 64) {                                                     \
      const F a = load(x + i), b = load(x + i + 16), c = load(x + i + 32), d = load(x + i + 48); \
      nan = nan | unordered(a, b) | unordered(c, d);                                   \
      r[0] = op(r[0], a);                                                              \
      r[1] = op(r[1], b);                                                              \
      r[2] = op(r[2], c);                                                              \
      r[3] = op(r[3], d);                                                              \
    }                                                                                  \
    for (; i < n; i += 16) {                                                           \
      const int m = n - i < 16 ? int(n - i) : 16;                                      \
      F a = m == 16 ? load(x + i) : load_n(x + i, m);                                  \
      a = select(ilt(lane_index(), iset1(m)), a, set1(start));                         \
      nan = nan | unordered(a, a);                                                     \
      r[0] = op(r[0], a);                                                              \
    }                                                                                  \
    if (any(nan)) return NAN;                                                          \
    return reduce(op(op(r[0], r[1]), op(r[2], r[3])));                                 \
  }
SY_EXTREME(row_max, max2, reduce_max, -INFINITY)
SY_EXTREME(row_min, min2, reduce_min, INFINITY)
#undef SY_EXTREME

static void row_scale(float* y, const float* x, int64_t n, float scale) {
  const F s = set1(scale);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, load(x + i) * s);
  if (i < n) store_n(y + i, load_n(x + i, int(n - i)) * s, int(n - i));
}
static void row_add(float* y, const float* x, int64_t n, float add) {
  const F s = set1(add);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, load(x + i) + s);
  if (i < n) store_n(y + i, load_n(x + i, int(n - i)) + s, int(n - i));
}
static void row_accumulate(float* y, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, load(y + i) + load(x + i));
  if (i < n) store_n(y + i, load_n(y + i, int(n - i)) + load_n(x + i, int(n - i)), int(n - i));
}

// Rounds as separate steps do: centre, scale, weight, bias.
static void row_norm(float* y, const float* x, int64_t n, float mean, float scale, const float* weight,
                     float weight_offset, const float* bias) {
  const F m = set1(mean), s = set1(scale), o = set1(weight_offset);
  for (int64_t i = 0; i < n; i += 16) {
    const int k = n - i < 16 ? int(n - i) : 16;
    F v = ((k == 16 ? load(x + i) : load_n(x + i, k)) - m) * s;
    if (weight) v = v * ((k == 16 ? load(weight + i) : load_n(weight + i, k)) + o);
    if (bias) v = v + (k == 16 ? load(bias + i) : load_n(bias + i, k));
    if (k == 16) {
      store(y + i, v);
    } else {
      store_n(y + i, v, k);
    }
  }
}

static int64_t next_above(const float* x, int64_t from, int64_t n, float limit) {
  const F l = set1(limit);
  int64_t i = from;
  for (; i + 64 <= n; i += 64) {
    const M hit =
        (lt(l, load(x + i)) | lt(l, load(x + i + 16))) | (lt(l, load(x + i + 32)) | lt(l, load(x + i + 48)));
    if (any(hit)) break;
  }
  while (i < n && !(x[i] > limit)) i++;
  return i;
}

// V vectors of columns side by side: whole cache lines of each row.
template <int V>
SY_INLINE void column_sum_strip(float* y, const float* x, int64_t rows, int64_t stride, int last) {
  double total[16 * V] = {};
  for (int64_t r = 0; r < rows; r += 64) {
    const int64_t end = rows - r < 64 ? rows : r + 64;
    F s[V];
    for (int v = 0; v < V; v++) s[v] = zero();
    for (int64_t q = r; q < end; q++) {
      for (int v = 0; v + 1 < V; v++) s[v] = s[v] + load(x + q * stride + 16 * v);
      s[V - 1] = s[V - 1] + load_n(x + q * stride + 16 * (V - 1), last);
    }
    float block[16 * V];
    for (int v = 0; v < V; v++) store(block + 16 * v, s[v]);
    for (int l = 0; l < 16 * V; l++) total[l] += double(block[l]);
  }
  for (int l = 0; l < 16 * (V - 1) + last; l++) y[l] = float(total[l]);
}
static void column_sum(float* y, const float* x, int64_t rows, int64_t stride, int64_t cols) {
  int64_t j = 0;
  for (; j + 64 <= cols; j += 64) column_sum_strip<4>(y + j, x + j, rows, stride, 16);
  for (; j < cols; j += 16)
    column_sum_strip<1>(y + j, x + j, rows, stride, cols - j < 16 ? int(cols - j) : 16);
}
#define SY_COLUMNS(name, op)                                                                       \
  static void name(float* y, const float* x, int64_t rows, int64_t stride, int64_t cols) {         \
    for (int64_t j = 0; j < cols; j += 16) {                                                       \
      const int m = cols - j < 16 ? int(cols - j) : 16;                                            \
      F r = load_n(x + j, m);                                                                      \
      for (int64_t q = 1; q < rows; q++) r = op(r, load_n(x + q * stride + j, m));                 \
      store_n(y + j, r, m);                                                                        \
    }                                                                                              \
  }
SY_COLUMNS(column_max, max_nan)
SY_COLUMNS(column_min, min_nan)
#undef SY_COLUMNS

// Products round before the sum, as in the formula written with separate operations.
static void rotate(float* y1, float* y2, const float* x1, const float* x2, const float* cos, const float* sin,
                   int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int m = n - i < 16 ? int(n - i) : 16;
    const F a = load_n(x1 + i, m), b = load_n(x2 + i, m), c = load_n(cos + i, m), s = load_n(sin + i, m);
    store_n(y1 + i, a * c - b * s, m);
    store_n(y2 + i, b * c + a * s, m);
  }
}

static void normal(uint32_t* words, int64_t pairs) {
  for (int64_t p = 0; p < pairs; p += 16) {
    const int m = pairs - p < 16 ? int(pairs - p) : 16;
    int32_t first[16] = {}, second[16] = {};
    for (int l = 0; l < m; l++) {
      first[l] = int32_t(words[2 * (p + l)] >> 8);
      second[l] = int32_t(words[2 * (p + l) + 1] >> 8);
    }
    const F u = (to_float(iload(first)) + set1(1.0f)) * set1(0x1p-24f);  // in (0, 1]
    const F radius = sqrt(log(u) * set1(-2.0f));
    const SinCos angle = sin_cos_turns(to_float(iload(second)) * set1(0x1p-24f));
    float a[16], b[16];
    store(a, radius * angle.cos);
    store(b, radius * angle.sin);
    for (int l = 0; l < m; l++) {
      memcpy(&words[2 * (p + l)], &a[l], 4);
      memcpy(&words[2 * (p + l) + 1], &b[l], 4);
    }
  }
}
