// The vector operations of the linear kernels in plain C++: 16 lanes, the oracle for every other instruction set.

struct F {
  float v[16];
};
struct I {
  uint32_t v[16];
};

#define SY_LANES for (int j = 0; j < 16; j++)

inline F f_zero() { return F{}; }
inline F f_set1(float x) {
  F r;
  SY_LANES r.v[j] = x;
  return r;
}
inline F f_load(const void* p) {
  F r;
  std::memcpy(r.v, p, 64);
  return r;
}
inline void f_store(float* p, const F& a) { std::memcpy(p, a.v, 64); }
inline F f_load_n(const float* p, int64_t n) {
  F r{};
  std::memcpy(r.v, p, static_cast<size_t>(n) * 4);
  return r;
}
inline void f_store_n(float* p, const F& a, int64_t n) { std::memcpy(p, a.v, static_cast<size_t>(n) * 4); }
inline F f_fma(const F& a, const F& b, const F& c) {
  F r;
  SY_LANES r.v[j] = std::fma(a.v[j], b.v[j], c.v[j]);
  return r;
}
inline F f_mul(const F& a, const F& b) {
  F r;
  SY_LANES r.v[j] = a.v[j] * b.v[j];
  return r;
}
inline F f_from_i32(const I& a) {
  F r;
  SY_LANES r.v[j] = static_cast<float>(static_cast<int32_t>(a.v[j]));
  return r;
}
inline F f_load_f16(const void* p) {
  uint16_t h[16];
  std::memcpy(h, p, 32);
  F r;
  SY_LANES r.v[j] = f16_to_f32(h[j]);
  return r;
}
inline F f_load_i8(const void* p) {
  F r;
  SY_LANES r.v[j] = static_cast<float>(static_cast<const int8_t*>(p)[j]);
  return r;
}
inline F f_load_u8(const void* p) {
  F r;
  SY_LANES r.v[j] = static_cast<float>(static_cast<const uint8_t*>(p)[j]);
  return r;
}
// Bits [shift, shift + 4) of 16 bytes.
inline F f_load_u4(const void* p, int shift) {
  F r;
  SY_LANES r.v[j] = static_cast<float>(static_cast<const uint8_t*>(p)[j] >> shift & 15);
  return r;
}
// 2^(e - 128) of 16 bytes e; e = 0 and 1 give subnormal numbers.
inline F f_load_exponent(const void* p) {
  F r;
  SY_LANES r.v[j] = std::ldexp(1.0f, static_cast<const uint8_t*>(p)[j] - 128);
  return r;
}
// The even or odd values of 16 pairs.
inline F f_pair_f16(const I& a, int odd) {
  F r;
  SY_LANES r.v[j] = f16_to_f32(static_cast<uint16_t>(a.v[j] >> 16 * odd));
  return r;
}
inline F f_pair_bf16(const I& a, int odd) {
  F r;
  SY_LANES r.v[j] = bf16_to_f32(static_cast<uint16_t>(a.v[j] >> 16 * odd));
  return r;
}
inline F f_byte(const I& a, int i) {
  F r;
  SY_LANES r.v[j] = static_cast<float>(a.v[j] >> 8 * i & 255);
  return r;
}
inline F f_nibble(const I& a, int i) {
  F r;
  SY_LANES r.v[j] = static_cast<float>(a.v[j] >> 4 * i & 15);
  return r;
}

// Byte i of every lane as float8_times_2_120th() has it.
inline F f_float8(const I& a, int i) {
  F r;
  SY_LANES r.v[j] = float8_times_2_120th(static_cast<uint8_t>(a.v[j] >> 8 * i));
  return r;
}

// table[nibble i] of every lane, and table[byte] of every byte below 16.
inline F f_lookup(const I& a, int i, const int8_t* table) {
  F r;
  SY_LANES r.v[j] = table[a.v[j] >> 4 * i & 15];
  return r;
}
inline I i_lookup(const I& a, const uint8_t* table) {
  I r{};
  SY_LANES {
    for (int i = 0; i < 4; i++) r.v[j] |= static_cast<uint32_t>(table[a.v[j] >> 8 * i & 15]) << 8 * i;
  }
  return r;
}

inline I i_load(const void* p) {
  I r;
  std::memcpy(r.v, p, 64);
  return r;
}
inline I i_and(const I& a, uint32_t mask) {
  I r;
  SY_LANES r.v[j] = a.v[j] & mask;
  return r;
}
inline I i_or(const I& a, const I& b) {
  I r;
  SY_LANES r.v[j] = a.v[j] | b.v[j];
  return r;
}
inline I i_add(const I& a, const I& b) {
  I r;
  SY_LANES r.v[j] = a.v[j] + b.v[j];
  return r;
}
inline I i_shl(const I& a, int n) {
  I r;
  SY_LANES r.v[j] = a.v[j] << n;
  return r;
}
inline I i_shr(const I& a, int n) {
  I r;
  SY_LANES r.v[j] = a.v[j] >> n;
  return r;
}

// Σ (code - zero)·x over N code vectors (4N values) of every lane; minus_sum = -Σ x.
template <int kBits, int kZero, int N>
inline I i_dot(const I* codes, const int8_t* x, int32_t minus_sum) {
  I r;
  SY_LANES {
    int32_t sum = kZero * minus_sum;
    for (int v = 0; v < N; v++) {
      for (int i = 0; i < 4; i++) sum += static_cast<int32_t>(codes[v].v[j] >> 8 * i & 255) * x[4 * v + i];
    }
    r.v[j] = static_cast<uint32_t>(sum);
  }
  return r;
}

template <int kBits, int kZero, int N, int P>
inline void i_dots(const I (*codes)[N], const int8_t* x, int32_t minus_sum, I* dot) {
  for (int p = 0; p < P; p++) dot[p] = i_dot<kBits, kZero, N>(codes[p], x, minus_sum);
}

inline void prefetch(const void*) {}

#undef SY_LANES
