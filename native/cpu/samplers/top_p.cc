// top_p(p): the smallest set of the likeliest tokens whose probabilities reach p (Holtzman et al. 2020), one at least.
#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

namespace {

// The margin covers the rounding of sums.
constexpr double kMargin = 1 - 1e-6;
// Fewer candidates than this are searched as they are.
constexpr int64_t kFew = 8192;

// What may go, (1 - p) of the total, less what weigh_above() has left out, is more than all candidates of no more than the n-th
// part of it: none of them is needed. A few passes of this leave little where few tokens hold the mass.
void drop_needless(Row& row, double p, double total) {
  while (row.size() > kFew) {
    const int64_t before = row.size();
    const double spare = (1 - p) * total - (total - row.math.row_sum(row.weights(), before));
    const auto needless = float(spare / double(before) * kMargin);
    if (!(needless > 0)) return;
    const float limit = std::min(needless, below(1));
    // Where nearly all are needed, the search of a cut goes another way.
    if (row.math.count_above(row.weights(), before, limit) > before - before / 8) return;
    row.keep_weights_above(limit);
  }
}

// Where thousands hold the mass: a sample tells between which weights the cut lies, and only those are searched. Returns -1
// where the sample was wrong.
int64_t cut_among_many(Row& row, double target) {
  constexpr int64_t kStride = 16;
  constexpr int kBuckets = 4096, kShift = 19;  // of a positive float: exponent and 4 bits
  constexpr double kSlack = 0.02;
  const int64_t n = row.size();
  const float* w = row.weights();
  double sums[kBuckets] = {}, total = 0;
  for (int64_t i = 0; i < n; i += kStride) {
    sums[std::bit_cast<uint32_t>(w[i]) >> kShift] += double(w[i]);
    total += double(w[i]);
  }
  const double want = target / row.total() * total;
  int high = kBuckets - 1, low;
  double above = 0;
  while (high > 0 && above + sums[high] < want - kSlack * total) above += sums[high--];
  for (low = high; low > 0 && above + sums[low] < want + kSlack * total; low--) above += sums[low];
  const auto edge = [](int bucket) { return std::bit_cast<float>(uint32_t(bucket) << kShift); };
  const float top = high + 1 < kBuckets ? below(edge(high + 1)) : INFINITY, bottom = below(edge(low));
  const double over = row.math.sum_above(w, n, top);
  auto* places = row.memory.counts;
  const int64_t between = row.math.places_between(row.memory.gathered, places, w, n, bottom, top);
  if (over >= target || between == 0) return -1;
  const float* x = row.memory.gathered;
  const int64_t place = cut_place(x, x, between, target - over, row.memory.words);
  return place < 0 ? -1 : places[place];
}

}  // namespace

void top_p(Row& row, Record& record) {
  const double p = record.number();
  if (!(p >= 0 && p <= 1)) fail(ErrorCode::kOption, "[sample] got top p %g, expected 0…1", p);
  if (p == 1 || row.size() < 2) return;
  row.weigh_above(float((1 - p) / double(row.size()) * kMargin));  // the total is at least 1
  if (row.size() == 0) return;
  const double total = row.total(), target = p * total;
  drop_needless(row, p, total);
  const float* w = row.weights();
  int64_t place = row.size() > kFew ? cut_among_many(row, target) : -1;
  if (place < 0) place = cut_place(w, w, row.size(), target, row.memory.words);
  if (place < 0) return;  // rounding: all are needed
  row.keep_weights_above(place, below(w[place]), w[place]);
}

}  // namespace switchyard::samplers
