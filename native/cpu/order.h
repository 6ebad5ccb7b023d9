// Sort keys of floats, and the k largest of a row.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>

#include "cpu/isa/math_table.h"

namespace switchyard {

// Unsigned order = order of values; -0 equals 0, NaN comes last either way. Without branches: signs are random.
inline uint32_t rising_key(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);  // -0 + 0 is 0
  const uint32_t key = bits ^ (uint32_t(int32_t(bits) >> 31) | 0x80000000);
  return x != x ? 0xffffffff : key;
}
// The value of a rising key but NaN's.
inline float value_of(uint32_t rising) {
  return std::bit_cast<float>(rising ^ (uint32_t(int32_t(~rising) >> 31) | 0x80000000));
}
inline uint32_t falling_key(float x) { return x != x ? 0xffffffff : ~rising_key(x); }

// The place decides between equal values, so that sorting whole words is stable.
inline uint64_t falling_word(float x, int64_t place) {
  return uint64_t(falling_key(x)) << 32 | uint32_t(place);
}
inline int64_t place_of(uint64_t word) { return int64_t(word & 0xffffffff); }

// A kept list of this length costs less to shift than selecting among all n words (measured at n = 150,000).
constexpr int64_t kInsertionLimit = 256;

// How many words top_words() needs.
inline int64_t top_words_size(int64_t n, int64_t k) { return k <= kInsertionLimit ? k : n; }

// words[0…k) become the k largest of x[0…n), falling, ties to the lower index; 1 <= k <= n < 2^32.
inline void top_words(const MathTable& math, const float* x, int64_t n, int64_t k, uint64_t* words) {
  if (k > kInsertionLimit) {
    for (int64_t i = 0; i < n; i++) words[i] = falling_word(x[i], i);
    if (k < n) std::nth_element(words, words + k - 1, words + n);
    std::sort(words, words + k);
    return;
  }
  for (int64_t i = 0; i < k; i++) words[i] = falling_word(x[i], i);
  std::sort(words, words + k);
  for (int64_t i = k; i < n; i++) {
    const float limit = x[place_of(words[k - 1])];
    if (limit == limit) i = math.next_above(x, i, n, limit);  // beside a NaN every number is larger
    if (i >= n) return;
    const uint64_t word = falling_word(x[i], i);
    if (word > words[k - 1]) continue;
    uint64_t* at = std::upper_bound(words, words + k, word);
    std::move_backward(at, words + k - 1, words + k);
    *at = word;
  }
}

}  // namespace switchyard
