// tile.h for one instruction set; included after vec.inl and math.inl.

// The register tile: rows of a times vectors of b. Sums, one row of b and one element of a fill the registers.
#if defined(SY_AVX512)
constexpr int kTileRows = 6, kTileVectors = 4;  // 24 + 4 + 1 of 32 zmm
#elif defined(SY_AVX2)
constexpr int kTileRows = 6, kTileVectors = 1;  // (6 + 1)·2 + 1 of 16 ymm
#elif defined(SY_NEON)
constexpr int kTileRows = 6, kTileVectors = 1;  // (6 + 1)·4 + 1 of 32 q
#else
constexpr int kTileRows = 2, kTileVectors = 1;  // (2 + 1)·4 + 1 of 16 xmm
#endif

// Past the caches: for results that are larger than those and not read again soon. 64-byte aligned.
SY_INLINE void stream(float* p, F a) {
#if defined(SY_AVX512)
  _mm512_stream_ps(p, a.v);
#elif defined(SY_AVX2)
  _mm256_stream_ps(p, a.a);
  _mm256_stream_ps(p + 8, a.b);
#else
  store(p, a);
#endif
}

// to[distance·c + r] = rows[r][c] for 16 rows and columns.
#if defined(SY_AVX512)
#include "cpu/isa/transpose_avx512.inl"

SY_INLINE void transpose_16x16(const float* const* rows, float* to, int64_t distance) {
  transposed_columns(rows, [&](int c, __m512 column) __attribute__((always_inline)) { _mm512_storeu_ps(to + c * distance, column); });
}
#elif defined(SY_AVX2)
SY_INLINE void transpose_16x16(const float* const* rows, float* to, int64_t distance) {
  for (int r = 0; r < 16; r += 8) {
    for (int c = 0; c < 16; c += 4) {
      __m256 t[4];  // t[i]: columns c to c + 3 of rows r + i and r + i + 4
      for (int i = 0; i < 4; i++) {
        t[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[r + i] + c)),
                                    _mm_loadu_ps(rows[r + i + 4] + c), 1);
      }
      const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(t[0], t[1])), b = _mm256_castps_pd(_mm256_unpacklo_ps(t[2], t[3]));
      const __m256d e = _mm256_castps_pd(_mm256_unpackhi_ps(t[0], t[1])), f = _mm256_castps_pd(_mm256_unpackhi_ps(t[2], t[3]));
      float* p = to + c * distance + r;
      _mm256_storeu_ps(p, _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)));
      _mm256_storeu_ps(p + distance, _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
      _mm256_storeu_ps(p + 2 * distance, _mm256_castpd_ps(_mm256_unpacklo_pd(e, f)));
      _mm256_storeu_ps(p + 3 * distance, _mm256_castpd_ps(_mm256_unpackhi_pd(e, f)));
    }
  }
}
#else
SY_INLINE void transpose_16x16(const float* const* rows, float* to, int64_t distance) {
  for (int c = 0; c < 16; c++) {
    for (int r = 0; r < 16; r++) to[c * distance + r] = rows[r][c];
  }
}
#endif

template <int N>
struct Count {
  static constexpr int value = N;
};

// Into the second cache: the first one has too few lines under way (measured: 16 against 25 GB/s at 8 rows an expert).
#if defined(__GNUC__)
#define SY_FETCH(p) __builtin_prefetch(p, 0, 2)
#else
#define SY_FETCH(p) ((void)(p))
#endif

struct Strided {  // rows of b at equal distance
  const float* p;
  int64_t distance;
  SY_INLINE const float* row(const Strided& b, int64_t k) { return b.p + k * b.distance; }
};
struct Fetched {  // the same in memory: far apart, so that the processor does not foresee them
  const float* p;
  int64_t distance, ahead;
  SY_INLINE const float* row(const Fetched& b, int64_t k) {
    const float* p = b.p + k * b.distance;
    for (int v = 0; v < kTileVectors; v++) SY_FETCH(p + b.ahead * b.distance + v * 16);
    return p;
  }
};
struct Listed {  // rows of b anywhere
  const float* const* p;
  int64_t offset;
  SY_INLINE const float* row(const Listed& b, int64_t k) { return b.p[k] + b.offset; }
};

// A narrow tile takes an element of a with each multiplication: 1 KiB ahead it is asked for.
constexpr int64_t kFetchAhead = 256;

// c[i] (+)= Σ_k a[i][k] · b[k] for R rows and V vectors of columns. kAdd: the chain goes on from c.
template <int R, int V, bool kAdd, class B>
static void tile(int64_t K, const float* const* a, const B& b, float* c, int64_t c_distance) {
  F acc[R][V];
  const float* row[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
    row[i] = a[i];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) acc[i][v] = kAdd ? load(c + i * c_distance + v * 16) : zero();
  }
  for (int64_t k = 0; k < K; k++) {
    if (2 * V <= kTileVectors && k % 16 == 0) {
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) SY_FETCH(row[i] + k + kFetchAhead);
    }
    const float* p = B::row(b, k);
    F column[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) column[v] = load(p + v * 16);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const F x = set1(row[i][k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) acc[i][v] = fma(x, column[v], acc[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(c + i * c_distance + v * 16, acc[i][v]);
  }
}

// The same for rows of a that are the inner dimension: c[i] (+)= Σ_r a[r][i] · b[r]. kStream: stores past the caches.
template <int R, int V, bool kAdd, bool kStream, class Rows>
static void outer_tile(int64_t count, const Rows& a, const Rows& b, const float* from, int64_t from_distance, float* to,
                       int64_t to_distance) {
  F acc[R][V];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) acc[i][v] = kAdd ? load(from + i * from_distance + v * 16) : zero();
  }
  for (int64_t r = 0; r < count; r++) {
    const float *x = Rows::row(a, r), *p = Rows::row(b, r);
    F column[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) column[v] = load(p + v * 16);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const F y = set1(x[i]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) acc[i][v] = fma(y, column[v], acc[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      kStream ? stream(to + i * to_distance + v * 16, acc[i][v]) : store(to + i * to_distance + v * 16, acc[i][v]);
    }
  }
}

// Calls fn(Count<rows>, Count<vectors>) for a tile of that size, as far as one fits the registers.
template <class Fn>
SY_INLINE void with_tile(int rows, int vectors, const Fn& fn) {
  const auto wide = [&](auto r) {
    constexpr int R = decltype(r)::value;
    if constexpr (R <= kTileRows) {
      if constexpr (kTileVectors >= 4) {
        if (vectors >= 4) return fn(r, Count<4>());
        if (vectors == 3) return fn(r, Count<3>());
        if (vectors == 2) return fn(r, Count<2>());
      }
      return fn(r, Count<1>());
    }
  };
  switch (rows) {
    case 1: return wide(Count<1>());
    case 2: return wide(Count<2>());
    case 3: return wide(Count<3>());
    case 4: return wide(Count<4>());
    case 5: return wide(Count<5>());
    default: return wide(Count<6>());
  }
}

template <bool kAdd, class B>
struct Tiles {
  using Call = void (*)(int64_t, const float* const*, const B&, float*, int64_t);
  static Call of(int rows, int vectors) {
    Call call = nullptr;
    with_tile(rows, vectors, [&](auto r, auto v) { call = tile<decltype(r)::value, decltype(v)::value, kAdd, B>; });
    return call;
  }
};

// Rows of the next tile when `left` are left: never a tail of one row after a full tile.
SY_INLINE int tile_rows(int64_t left) {
  if (left > 2 * kTileRows) return kTileRows;
  return static_cast<int>(left > kTileRows ? (left + 1) / 2 : left);
}

static void transpose(const float* const* rows, int count, int64_t K, float* panel, int64_t lanes, int64_t distance) {
  alignas(64) float edge[16][16];
  const float* block[16];
  for (int r = 0; r < lanes; r += 16) {
    if (r >= count) {
      for (int64_t k = 0; k < K; k++) store(panel + k * distance + r, zero());
      continue;
    }
    const int have = count - r < 16 ? count - r : 16;
    int64_t k = 0;
    if (have == 16) {
      for (; k + 16 <= K; k += 16) {
        for (int i = 0; i < 16; i++) block[i] = rows[r + i] + k;
        transpose_16x16(block, panel + k * distance + r, distance);
      }
    }
    for (; k < K; k += 16) {
      const int width = K - k < 16 ? static_cast<int>(K - k) : 16;
      for (int i = 0; i < 16; i++) store(edge[i], i < have ? load_n(rows[r + i] + k, width) : zero());
      for (int c = 0; c < width; c++) {
        float* to = panel + (k + c) * distance + r;
        for (int i = 0; i < 16; i++) to[i] = edge[i][c];
      }
    }
  }
}

static void multiply(int64_t M, int64_t K, int columns, const float* const* a, int64_t a_offset, const float* b,
                     int64_t b_distance, int64_t b_ahead, float* c, bool add) {
  const int vectors = (columns + 15) / 16;
  const float* rows_at[kTileRows];
  for (int64_t i = 0; i < M;) {
    const int rows = tile_rows(M - i);
    for (int r = 0; r < rows; r++) rows_at[r] = a[i + r] + a_offset;
    for (int v = 0; v < vectors;) {
      const int width = vectors - v < kTileVectors ? vectors - v : kTileVectors;
      float* to = c + i * kPanelColumns + v * 16;
      if (i == 0 && b_ahead > 0) {
        (add ? Tiles<true, Fetched>::of(rows, width) : Tiles<false, Fetched>::of(rows, width))(
            K, rows_at, {b + v * 16, b_distance, b_ahead}, to, kPanelColumns);
      } else {
        (add ? Tiles<true, Strided>::of(rows, width) : Tiles<false, Strided>::of(rows, width))(
            K, rows_at, {b + v * 16, b_distance}, to, kPanelColumns);
      }
      v += width;
    }
    i += rows;
  }
}

template <class Rows, class A, class B>
SY_INLINE void outer_tiles(int64_t M, int64_t count, int64_t columns, const A& a, const B& b, const float* from, float* to,
                           int64_t to_distance, bool past_caches) {
  const int64_t vectors = (columns + 15) / 16;
  for (int64_t i = 0; i < M;) {
    const int rows = tile_rows(M - i);
    for (int64_t v = 0; v < vectors;) {
      const int width = vectors - v < kTileVectors ? static_cast<int>(vectors - v) : kTileVectors;
      with_tile(rows, width, [&](auto r, auto w) {
        constexpr int R = decltype(r)::value, V = decltype(w)::value;
        const auto call = from == nullptr
                              ? (past_caches ? outer_tile<R, V, false, true, Rows> : outer_tile<R, V, false, false, Rows>)
                              : (past_caches ? outer_tile<R, V, true, true, Rows> : outer_tile<R, V, true, false, Rows>);
        call(count, a(i), b(v * 16), from == nullptr ? nullptr : from + i * kPanelColumns + v * 16, kPanelColumns,
             to + i * to_distance + v * 16, to_distance);
      });
      v += width;
    }
    i += rows;
  }
}

static void outer(int64_t M, int64_t count, int64_t columns, const float* const* a, int64_t a_offset,
                  const float* const* b, int64_t b_offset, const float* from, float* to, int64_t to_distance,
                  bool past_caches) {
  outer_tiles<Listed>(
      M, count, columns, [&](int64_t i) { return Listed{a, a_offset + i}; },
      [&](int64_t j) { return Listed{b, b_offset + j}; }, from, to, to_distance, past_caches);
}

static void outer_packed(int64_t M, int64_t count, int64_t columns, const float* a, int64_t a_distance, const float* b,
                         int64_t b_distance, const float* from, float* to, int64_t to_distance, bool past_caches) {
  outer_tiles<Strided>(
      M, count, columns, [&](int64_t i) { return Strided{a + i, a_distance}; },
      [&](int64_t j) { return Strided{b + j, b_distance}; }, from, to, to_distance, past_caches);
}

static void gather_sum(const float* x, const int32_t* ids, const float* weights, int64_t K, int64_t D, float* y) {
  const auto weight = [&](int64_t k) { return set1(weights == nullptr ? 1.0f : weights[k]); };
  int64_t d = 0;
  for (; d + 64 <= D; d += 64) {
    F a = zero(), b = zero(), e = zero(), f = zero();
    for (int64_t k = 0; k < K; k++) {
      if (ids[k] < 0) continue;
      const float* p = x + ids[k] * D + d;
      const F w = weight(k);
      a = fma(w, load(p), a);
      b = fma(w, load(p + 16), b);
      e = fma(w, load(p + 32), e);
      f = fma(w, load(p + 48), f);
    }
    store(y + d, a);
    store(y + d + 16, b);
    store(y + d + 32, e);
    store(y + d + 48, f);
  }
  for (; d < D; d += 16) {
    const int n = D - d < 16 ? static_cast<int>(D - d) : 16;
    F sum = zero();
    for (int64_t k = 0; k < K; k++) {
      if (ids[k] >= 0) sum = fma(weight(k), load_n(x + ids[k] * D + d, n), sum);
    }
    store_n(y + d, sum, n);
  }
}

static void gather_dot(const float* x, const int32_t* ids, const float* dy, int64_t K, int64_t D, float* y) {
  for (int64_t k = 0; k < K; k++) {
    const float* p = x + (ids[k] < 0 ? 0 : ids[k]) * D;
    F sum = zero();
    for (int64_t d = 0; d < D && ids[k] >= 0; d += 16) {
      const int n = D - d < 16 ? static_cast<int>(D - d) : 16;
      sum = fma(load_n(p + d, n), load_n(dy + d, n), sum);
    }
    y[k] = reduce_add(sum);
  }
}

SY_INLINE F activation_of(int which, F x) {
  const F one = set1(1.0f), half = set1(0.5f);
  switch (which) {
    case 0: return x * sigmoid(x);
    case 1: return x * half * (erf(x * set1(0.70710678118654752f)) + one);
    case 2: return x * half * (tanh(set1(0.79788456080286536f) * (x + set1(0.044715f) * (x * (x * x)))) + one);
    default: return max_nan(x, zero());
  }
}

template <int kWhich>
static void activate_rows(const float* gate, const float* up, int64_t n, float* h) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F y = activation_of(kWhich, load(gate + i));
    store(h + i, up == nullptr ? y : y * load(up + i));
  }
  if (i < n) {
    const int have = static_cast<int>(n - i);
    const F y = activation_of(kWhich, load_n(gate + i, have));
    store_n(h + i, up == nullptr ? y : y * load_n(up + i, have), have);
  }
}

static void activate_clamped(const HiddenRule& rule, const float* gate, const float* up, int64_t n, float* h) {
  const F limit = set1(rule.limit), lowest = set1(-rule.limit), slope = set1(rule.slope), one = set1(1.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int have = n - i < 16 ? static_cast<int>(n - i) : 16;
    const F g = min_nan(load_n(gate + i, have), limit);
    const F u = min_nan(max_nan(load_n(up + i, have), lowest), limit);
    store_n(h + i, (u + one) * (g * sigmoid(g * slope)), have);
  }
}

static void activate(const HiddenRule& rule, const float* gate, const float* up, int64_t n, float* h) {
  if (rule.limit > 0) return activate_clamped(rule, gate, up, n, h);
  switch (rule.activation) {
    case 0: return activate_rows<0>(gate, up, n, h);
    case 1: return activate_rows<1>(gate, up, n, h);
    case 2: return activate_rows<2>(gate, up, n, h);
    default: return activate_rows<3>(gate, up, n, h);
  }
}

constexpr TileKernels kTileKernels = {transpose, multiply, outer, outer_packed, gather_sum, gather_dot, activate};
