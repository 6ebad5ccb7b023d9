// The two products of attention over keys and values as they are stored; included before attention.inl.

// Stored elements: load_as gives 16 of them as f32.
struct Half { uint16_t bits; };
struct Brain { uint16_t bits; };
struct Code { int8_t code; };
SY_INLINE F load_as(const float* p) { return load(p); }
SY_INLINE F load_as(const Half* p) { return load_half(&p->bits); }
SY_INLINE F load_as(const Brain* p) { return load_bf16(&p->bits); }
SY_INLINE F load_as(const Code* p) { return load_i8(&p->code); }

// One tile takes every row of a decode step where it can, so that keys and values are read and widened once.
#if defined(SY_AVX512)
constexpr int kMostRows = 8;
constexpr int score_vectors(int rows) { return rows > 6 ? 2 : 4; }
constexpr int value_vectors(int rows) { return rows > 6 ? 2 : rows > 3 ? 4 : 8; }
#else
constexpr int kMostRows = kTileRows;
constexpr int score_vectors(int) { return 1; }
constexpr int value_vectors(int) { return 1; }
#endif

// Rows of the next tile when `left` are left: never a tail of few rows after a full tile.
SY_INLINE int attention_rows(int64_t left) {
  if (left > 2 * kTileRows) return kTileRows;
  return static_cast<int>(left > kMostRows ? (left + 1) / 2 : left);
}

// Keys and values of a block in one storage type.
template <class T>
struct Places {
  const T* k[kKeyVectors];
  const T* v[kKeyVectors];
  int64_t k_distance, v_distance;
};

// Vectors of 16 elements of a cache line.
template <class T>
constexpr int kLineVectors = 64 / (16 * static_cast<int>(sizeof(T)));

// scores[r][which[v]] = Σ_c q[r][c] · k[which[v]][c], one chain over c for each key.
template <int R, int V, class T>
static void score_tile(int64_t C, const float* const* q, const Places<T>& keys, const Places<T>* next, const int* which,
                       float (*scores)[kKeyBlock]) {
  F acc[R][V];
  const float* row[R];
  const T *from[V], *ahead[V];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
    row[i] = q[i];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) acc[i][v] = zero();
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    from[v] = keys.k[which[v]];
    ahead[v] = next != nullptr ? next->k[which[v]] : nullptr;
  }
  for (int64_t c = 0; c < C; c++) {
    const int64_t at = c * keys.k_distance;
    F column[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) column[v] = load_as(from[v] + at);
    if (next != nullptr) {
#pragma GCC unroll 4
      for (int v = 0; v < V; v += kLineVectors<T> < 2 ? 1 : 2) SY_FETCH(ahead[v] + at);
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const F x = set1(row[i][c]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) acc[i][v] = fma(x, column[v], acc[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(scores[i] + which[v] * 16, acc[i][v]);
  }
}

// out[r] += Σ_j weights[r][j] · v[j] over keys [from, to) of the block, for V vectors of columns from `column` on.
template <int R, int V, class T>
static void value_tile(int from, int to, const float* const* weights, const Places<T>& values, const Places<T>* next,
                       int64_t column, float* out, int64_t out_distance) {
  F acc[R][V];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) acc[i][v] = load(out + i * out_distance + v * 16);
  }
  for (int j = from; j < to;) {
    const int vector = j / kLanes, end = to < (vector + 1) * kLanes ? to : (vector + 1) * kLanes;
    const int64_t first = (j % kLanes) * values.v_distance + column;
    const T *p = values.v[vector] + first, *ahead = next != nullptr ? next->v[vector] + first : nullptr;
    for (; j < end; j++, p += values.v_distance) {
      F row[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) row[v] = load_as(p + v * 16);
      if (ahead != nullptr) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v += kLineVectors<T>) SY_FETCH(ahead + v * 16);
        ahead += values.v_distance;
      }
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) {
        const F x = set1(weights[i][j]);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[i][v] = fma(x, row[v], acc[i][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) store(out + i * out_distance + v * 16, acc[i][v]);
  }
}

template <int R, class T>
static void score_rows(int64_t C, const float* const* q, const Places<T>& keys, const Places<T>* next, const int* which,
                       int count, float (*scores)[kKeyBlock]) {
  constexpr int kMost = score_vectors(R);
  int v = 0;
  if constexpr (kMost >= 4) {
    for (; count - v >= 4; v += 4) score_tile<R, 4, T>(C, q, keys, next, which + v, scores);
  }
  if constexpr (kMost >= 2) {
    for (; count - v >= 2; v += 2) score_tile<R, 2, T>(C, q, keys, next, which + v, scores);
  }
  for (; v < count; v++) score_tile<R, 1, T>(C, q, keys, next, which + v, scores);
}

template <int R, class T>
static void value_rows(int from, int to, const float* const* weights, const Places<T>& values, const Places<T>* next,
                       int64_t columns, float* out) {
  constexpr int kMost = value_vectors(R);
  const int64_t vectors = columns / kLanes;
  int64_t v = 0;
  if constexpr (kMost >= 8) {
    for (; vectors - v >= 8; v += 8) value_tile<R, 8, T>(from, to, weights, values, next, v * 16, out + v * 16, columns);
  }
  if constexpr (kMost >= 4) {
    for (; vectors - v >= 4; v += 4) value_tile<R, 4, T>(from, to, weights, values, next, v * 16, out + v * 16, columns);
  }
  if constexpr (kMost >= 2) {
    for (; vectors - v >= 2; v += 2) value_tile<R, 2, T>(from, to, weights, values, next, v * 16, out + v * 16, columns);
  }
  for (; v < vectors; v++) value_tile<R, 1, T>(from, to, weights, values, next, v * 16, out + v * 16, columns);
}

// Calls fn(Count<rows>).
template <int R = 1, class Fn>
SY_INLINE void with_rows(int rows, const Fn& fn) {
  if constexpr (R < kMostRows) {
    if (rows != R) return with_rows<R + 1>(rows, fn);
  }
  fn(Count<R>());
}
