// Operations of the elementwise interpreter over n lanes: each is one expression of 16 lanes.
#define SY_TILE static void
#define SY_ARGS void *out, const void *a, const void *b, const void *c, int64_t n

// The type of the first argument picks f32 or i32 lanes.
SY_INLINE F fetch(const F*, const void* p, int64_t i) { return load(static_cast<const float*>(p) + i); }
SY_INLINE I fetch(const I*, const void* p, int64_t i) { return iload(static_cast<const int32_t*>(p) + i); }
SY_INLINE F fetch_n(const F*, const void* p, int64_t i, int m) {
  return load_n(static_cast<const float*>(p) + i, m);
}
SY_INLINE I fetch_n(const I*, const void* p, int64_t i, int m) {
  return iload_n(static_cast<const int32_t*>(p) + i, m);
}
SY_INLINE void put(void* p, int64_t i, F v) { store(static_cast<float*>(p) + i, v); }
SY_INLINE void put(void* p, int64_t i, I v) { istore(static_cast<int32_t*>(p) + i, v); }
SY_INLINE void put_n(void* p, int64_t i, F v, int m) { store_n(static_cast<float*>(p) + i, v, m); }
SY_INLINE void put_n(void* p, int64_t i, I v, int m) { istore_n(static_cast<int32_t*>(p) + i, v, m); }

template <class Op, class X>
SY_INLINE void map1(void* out, const void* a, int64_t n) {
  const X* t = nullptr;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) put(out, i, Op::apply(fetch(t, a, i)));
  const int m = int(n - i);
  if (m) put_n(out, i, Op::apply(fetch_n(t, a, i, m)), m);
}
template <class Op, class X>
SY_INLINE void map2(void* out, const void* a, const void* b, int64_t n) {
  const X* t = nullptr;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) put(out, i, Op::apply(fetch(t, a, i), fetch(t, b, i)));
  const int m = int(n - i);
  if (m) put_n(out, i, Op::apply(fetch_n(t, a, i, m), fetch_n(t, b, i, m)), m);
}

#define SY_UNARY(name, X, Y, expr)                                   \
  struct Op_##name { SY_INLINE Y apply(X x) { return expr; } };      \
  SY_TILE tile_##name(SY_ARGS) { (void)b, (void)c, map1<Op_##name, X>(out, a, n); }
#define SY_BINARY(name, X, Y, expr)                                  \
  struct Op_##name { SY_INLINE Y apply(X x, X y) { return expr; } }; \
  SY_TILE tile_##name(SY_ARGS) { (void)c, map2<Op_##name, X>(out, a, b, n); }
#define SY_F_F(name, expr) SY_UNARY(name, F, F, expr)
#define SY_FF_F(name, expr) SY_BINARY(name, F, F, expr)
#define SY_FF_I(name, expr) SY_BINARY(name, F, I, expr)
#define SY_II_I(name, expr) SY_BINARY(name, I, I, expr)

SY_FF_F(add, x + y)
SY_FF_F(sub, x - y)
SY_FF_F(mul, x * y)
SY_FF_F(div, x / y)
SY_FF_F(max, max_nan(x, y))
SY_FF_F(min, min_nan(x, y))
SY_F_F(neg, neg(x))
SY_F_F(abs, abs(x))
SY_F_F(sign, select(lt(zero(), x), set1(1.0f), select(lt(x, zero()), set1(-1.0f), x)))
SY_F_F(exp, exp(x))
SY_F_F(log, log(x))
SY_F_F(log1p, log1p(x))
SY_F_F(sqrt, sqrt(x))
SY_F_F(rsqrt, set1(1.0f) / sqrt(x))
SY_F_F(reciprocal, set1(1.0f) / x)
SY_F_F(tanh, tanh(x))
SY_F_F(erf, erf(x))
SY_F_F(sigmoid, sigmoid(x))
SY_F_F(floor, floor(x))
// Through libm, lane by lane: rare, and full range reduction matters more than speed.
SY_TILE tile_sin(SY_ARGS) {
  (void)b, (void)c;
  for (int64_t i = 0; i < n; i++) static_cast<float*>(out)[i] = lane_sin(static_cast<const float*>(a)[i]);
}
SY_TILE tile_cos(SY_ARGS) {
  (void)b, (void)c;
  for (int64_t i = 0; i < n; i++) static_cast<float*>(out)[i] = lane_cos(static_cast<const float*>(a)[i]);
}
SY_TILE tile_pow(SY_ARGS) {
  (void)c;
  for (int64_t i = 0; i < n; i++) {
    static_cast<float*>(out)[i] = lane_pow(static_cast<const float*>(a)[i], static_cast<const float*>(b)[i]);
  }
}
SY_FF_I(lt, ones(lt(x, y)))
SY_FF_I(le, ones(le(x, y)))
SY_FF_I(eq, ones(eq(x, y)))
SY_FF_I(ne, ones(!eq(x, y)))
SY_II_I(add_i32, x + y)
SY_II_I(sub_i32, x - y)
SY_II_I(mul_i32, x * y)
SY_II_I(max_i32, imax(x, y))
SY_II_I(min_i32, imin(x, y))
SY_II_I(lt_i32, ones(ilt(x, y)))
SY_II_I(le_i32, ones(!ilt(y, x)))
SY_II_I(eq_i32, ones(ieq(x, y)))
SY_II_I(ne_i32, ones(!ieq(x, y)))
SY_II_I(and_i32, x & y)
SY_II_I(or_i32, x | y)
SY_II_I(xor_i32, x ^ y)
SY_UNARY(not_i32, I, I, x ^ iset1(-1))
SY_UNARY(to_i32, F, I, to_int(x))
SY_UNARY(to_f32, I, F, to_float(x))

// Both truncate; by zero: 0; INT32_MIN / -1 wraps.
SY_TILE tile_div_i32(SY_ARGS) {
  (void)c;
  for (int64_t i = 0; i < n; i++) {
    const int64_t x = static_cast<const int32_t*>(a)[i], y = static_cast<const int32_t*>(b)[i];
    static_cast<int32_t*>(out)[i] = y == 0 ? 0 : int32_t(uint32_t(uint64_t(x / y)));
  }
}
SY_TILE tile_mod_i32(SY_ARGS) {
  (void)c;
  for (int64_t i = 0; i < n; i++) {
    const int64_t x = static_cast<const int32_t*>(a)[i], y = static_cast<const int32_t*>(b)[i];
    static_cast<int32_t*>(out)[i] = y == 0 ? 0 : int32_t(x % y);
  }
}
// Bits move unchanged, so one routine serves f32 and i32.
SY_TILE tile_select(SY_ARGS) {
  const I* t = nullptr;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    put(out, i, iselect(ieq(fetch(t, a, i), iset1(0)), fetch(t, c, i), fetch(t, b, i)));
  const int m = int(n - i);
  if (m)
    put_n(out, i, iselect(ieq(fetch_n(t, a, i, m), iset1(0)), fetch_n(t, c, i, m), fetch_n(t, b, i, m)), m);
}

SY_TILE fill_lanes(void* out, uint32_t pattern, int64_t n) {
  const I x = iset1(int32_t(pattern));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) put(out, i, x);
  if (i < n) put_n(out, i, x, int(n - i));
}
SY_TILE copy_lanes(void* out, const void* a, int64_t n) { memcpy(out, a, size_t(n) * 4); }

#define SY_SHORTS(name, to_float_one, from_float_one)                                       \
  SY_TILE load_##name##_lanes(void* out, const void* from, int64_t n) {                     \
    const uint16_t* p = static_cast<const uint16_t*>(from);                                 \
    float* y = static_cast<float*>(out);                                                    \
    int64_t i = 0;                                                                          \
    for (; i + 16 <= n; i += 16) store(y + i, load_##name(p + i));                          \
    for (; i < n; i++) y[i] = to_float_one(p[i]);                                           \
  }                                                                                         \
  SY_TILE store_##name##_lanes(void* to, const void* lanes, int64_t n) {                    \
    uint16_t* p = static_cast<uint16_t*>(to);                                               \
    const float* x = static_cast<const float*>(lanes);                                      \
    int64_t i = 0;                                                                          \
    for (; i + 16 <= n; i += 16) store_##name(p + i, load(x + i));                          \
    for (; i < n; i++) p[i] = from_float_one(x[i]);                                         \
  }
SY_SHORTS(half, f16_to_f32, f32_to_f16)
SY_SHORTS(bf16, bf16_to_f32, f32_to_bf16)
#undef SY_SHORTS

#define SY_BYTES(name, read, written)                                                       \
  SY_TILE load_##name##_lanes(void* out, const void* from, int64_t n) {                     \
    for (int64_t i = 0; i < n; i++) {                                                       \
      const uint8_t x = static_cast<const uint8_t*>(from)[i];                               \
      static_cast<int32_t*>(out)[i] = read;                                                 \
    }                                                                                       \
  }                                                                                         \
  SY_TILE store_##name##_lanes(void* to, const void* lanes, int64_t n) {                    \
    for (int64_t i = 0; i < n; i++) {                                                       \
      const int32_t x = static_cast<const int32_t*>(lanes)[i];                              \
      static_cast<uint8_t*>(to)[i] = written;                                               \
    }                                                                                       \
  }
SY_BYTES(u8, x, uint8_t(x))
SY_BYTES(bool, x != 0, x != 0)
#undef SY_BYTES
