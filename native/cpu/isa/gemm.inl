// Tiles of a matrix product: R rows by V vectors of 16 columns, kept in registers over k.
#if defined(SY_AVX512)
constexpr int kRows = 14, kVectors = 2;  // 28 accumulators of 32 zmm
#elif defined(SY_AVX2)
constexpr int kRows = 6, kVectors = 1;  // 12 of 16 ymm
#elif defined(SY_NEON)
constexpr int kRows = 6, kVectors = 1;  // 24 of 32 q
#else
constexpr int kRows = 2, kVectors = 1;
#endif

// Rows of b that lie far apart are not foreseen by the processor.
constexpr int64_t kPrefetchRows = 8;
#if defined(__GNUC__)
#define SY_PREFETCH(p) __builtin_prefetch(p)
#else
#define SY_PREFETCH(p) ((void)(p))
#endif

template <int R, int V, bool kPacked>
static void gemm_tile(int64_t k, const float* a, int64_t a_row, int64_t a_k, const float* b, int64_t b_k,
                      float* c, int64_t c_row, int cols, bool accumulate) {
  if (kPacked) a_row = 1, a_k = kRows;
  const int last = cols - 16 * (V - 1);  // columns of the last vector, 1…16
  F sum[R][V];
  for (int i = 0; i < R; i++) {
    for (int j = 0; j < V; j++) {
      if (!accumulate) {
        sum[i][j] = zero();
      } else {
        sum[i][j] = j + 1 < V ? load(c + i * c_row + 16 * j) : load_n(c + i * c_row + 16 * j, last);
      }
    }
  }
  for (int64_t step = 0; step < k; step++) {
    F row[V];
    for (int j = 0; j < V; j++) row[j] = kPacked || j + 1 < V ? load(b + 16 * j) : load_n(b + 16 * j, last);
    if (!kPacked) {
      for (int j = 0; j < V; j++) SY_PREFETCH(b + kPrefetchRows * b_k + 16 * j);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) {
      const F x = set1(a[i * a_row]);
      for (int j = 0; j < V; j++) sum[i][j] = fma(x, row[j], sum[i][j]);
    }
    a += a_k;
    b += b_k;
  }
  for (int i = 0; i < R; i++) {
    for (int j = 0; j + 1 < V; j++) store(c + i * c_row + 16 * j, sum[i][j]);
    store_n(c + i * c_row + 16 * (V - 1), sum[i][V - 1], last);
  }
}

template <int R>
static void fill_gemm(MathTable& t) {
  t.gemm_packed[R - 1][0] = gemm_tile<R, 1, true>;
  t.gemm_direct[R - 1][0] = gemm_tile<R, 1, false>;
  if constexpr (kVectors > 1) {
    t.gemm_packed[R - 1][1] = gemm_tile<R, 2, true>;
    t.gemm_direct[R - 1][1] = gemm_tile<R, 2, false>;
  }
  if constexpr (R > 1) fill_gemm<R - 1>(t);
}
