#include "cpu/samplers/select.h"

#include <algorithm>
#include <functional>

#include "cpu/order.h"

namespace switchyard::samplers {

namespace {

// Exponent and 3 bits of mantissa of a value's key.
constexpr int kBuckets = 4096, kShift = 20;

// Where the sum of words[0…n), taken by falling order after `sum`, reaches the target: the place of that word, with all
// before it in order. By halving, so that only what lies around the place is ordered.
int64_t reach(const float* weights, uint64_t* words, int64_t n, double sum, double target) {
  int64_t low = 0, high = n;
  while (high - low > 32) {
    const int64_t middle = low + (high - low) / 2;
    std::nth_element(words + low, words + middle, words + high);
    double part = 0;
    for (int64_t i = low; i < middle; i++) part += double(weights[place_of(words[i])]);
    if (sum + part >= target) {
      high = middle;
    } else {
      sum += part;
      low = middle;
    }
  }
  std::sort(words + low, words + high);
  for (; low + 1 < high; low++) {
    sum += double(weights[place_of(words[low])]);
    if (sum >= target) break;
  }
  return low;
}

}  // namespace

// 1. Sums by bucket of the order's key find the bucket of the cut. 2. Only that bucket is ordered.
int64_t cut_place(const float* order, const float* weights, int64_t n, double target, uint64_t* words) {
  double sums[kBuckets] = {};
  const auto bucket_of = [&](int64_t i) { return int(rising_key(order[i]) >> kShift); };
  for (int64_t i = 0; i < n; i++) sums[bucket_of(i)] += double(weights[i]);
  double above = 0;
  int cut = kBuckets - 1;
  while (cut > 0 && (sums[cut] == 0 || above + sums[cut] < target)) above += sums[cut--];
  int64_t inside = 0;
  for (int64_t i = 0; i < n; i++) {
    if (bucket_of(i) == cut) words[inside++] = falling_word(order[i], i);
  }
  return inside == 0 ? -1 : place_of(words[reach(weights, words, inside, above, target)]);
}

float kth_largest(const float* x, int64_t n, int64_t k, uint64_t* words) {
  int64_t counts[kBuckets] = {};
  for (int64_t i = 0; i < n; i++) counts[rising_key(x[i]) >> kShift]++;
  int64_t above = 0;
  int cut = kBuckets - 1;
  while (above + counts[cut] < k) above += counts[cut--];
  auto* values = reinterpret_cast<float*>(words);
  int64_t inside = 0;
  for (int64_t i = 0; i < n; i++) {
    if (int(rising_key(x[i]) >> kShift) == cut) values[inside++] = x[i];
  }
  std::nth_element(values, values + (k - above - 1), values + inside, std::greater<float>());
  return values[k - above - 1];
}

}  // namespace switchyard::samplers
