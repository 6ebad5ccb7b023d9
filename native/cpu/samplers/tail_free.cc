// tail_free(z): by falling probability, tokens before the curvature of the curve has spent a share z (Bricken 2019).
//
// With p sorted falling and d_i = |(p_i - p_(i+1)) - (p_(i+1) - p_(i+2))| normalised to sum 1, token 0 stays, and token i
// while d_0 + … + d_(i-1) <= z; the last two always go. Sorts all candidates: put a top-k before it where the vocabulary is large.
#include <algorithm>
#include <cmath>

#include "cpu/order.h"
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void tail_free(Row& row, Record& record) {
  const double z = record.number();
  if (!(z >= 0 && z <= 1)) fail(ErrorCode::kOption, "[sample] got tail-free z %g, expected 0…1", z);
  if (z == 1) return;
  row.weigh();
  const int64_t n = row.size();
  if (n < 3) return;
  const float* w = row.weights();
  uint64_t* words = row.memory.words;
  for (int64_t i = 0; i < n; i++) words[i] = falling_word(w[i], i);
  std::sort(words, words + n);
  const auto p = [&](int64_t i) { return double(w[place_of(words[i])]); };
  const auto curvature = [&](int64_t i) { return std::fabs((p(i) - p(i + 1)) - (p(i + 1) - p(i + 2))); };
  double total = 0;
  for (int64_t i = 0; i + 2 < n; i++) total += curvature(i);
  if (total == 0) return;  // a straight line has no tail
  double spent = 0;
  int64_t kept = 1;
  for (; kept + 2 <= n; kept++) {
    spent += curvature(kept - 1);
    if (spent > z * total) break;
  }
  const uint64_t last = words[kept - 1];
  row.keep_if([&](int64_t i) { return falling_word(w[i], i) <= last; }, false);
}

}  // namespace switchyard::samplers
