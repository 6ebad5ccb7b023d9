// tail_free(z): by falling probability, tokens before the curvature of the curve has spent a share z (Bricken 2019).
//
// With p sorted falling and d_i = |(p_i - p_(i+1)) - (p_(i+1) - p_(i+2))| normalised to sum 1, token 0 stays, and token i
// while d_0 + … + d_(i-1) <= z; the last two always go.
//
// The differences of what lies behind token i sum to no more than p_i + p_(i+1). So the likeliest alone may decide; where they
// leave it open (thousands hold the mass), all are sorted: then put a top-k before.
#include <algorithm>
#include <cmath>

#include "cpu/order.h"
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

namespace {

// How many of the likeliest are tried, before all are.
constexpr int64_t kHead = 512, kLongHead = 4096;

// words[0…m) become the likeliest of scores x[0…n), falling, at least `wanted` of them; returns m.
int64_t sort_head(Row& row, const float* x, int64_t n, int64_t wanted) {
  uint64_t* words = row.memory.words;
  if (wanted >= n) {
    for (int64_t i = 0; i < n; i++) words[i] = falling_word(x[i], i);
    std::sort(words, words + n);
    return n;
  }
  const float least = find_cut(row.math, row.passes, row.memory, {x, nullptr, n}, double(n), double(wanted)).limit;
  float* scores = row.memory.order;
  int32_t* places = row.memory.counts;
  const int64_t m = row.math.keep_above(scores, places, x, nullptr, 0, n, below(least));
  for (int64_t i = 0; i < m; i++) words[i] = falling_word(scores[i], places[i]);
  std::sort(words, words + m);
  return m;
}

// How many stay by words[0…m) of n; -1 where those do not tell. p(i): of words[i].
template <class P>
int64_t count_kept(const P& p, int64_t m, int64_t n, double z) {
  // fn(i, d_i) until it is true.
  const auto curvatures = [&](const auto& fn) {
    double a = p(0), b = p(1);
    for (int64_t i = 0; i + 2 < m; i++) {
      const double c = p(i + 2);
      if (fn(i, std::fabs((a - b) - (b - c)))) return;
      a = b;
      b = c;
    }
  };
  double least = 0;
  curvatures([&](int64_t, double d) { return least += d, false; });
  if (m == n && least == 0) return n;  // a straight line has no tail
  const double most = least + (m < n ? p(m - 2) + p(m - 1) : 0);
  double spent = 0;
  int64_t kept = m == n ? n - 1 : -1;
  curvatures([&](int64_t i, double d) {
    spent += d;
    if (spent <= z * least) return false;
    kept = spent > z * most ? i + 1 : -1;
    return true;
  });
  return kept;
}

}  // namespace

void tail_free(Row& row, Record& record) {
  const double z = record.number();
  if (!(z >= 0 && z <= 1)) fail(ErrorCode::kOption, "[sample] got tail-free z %g, expected 0…1", z);
  if (z == 1) return;
  row.list_thinned();
  const double top = double(row.largest());
  const int64_t n = row.size();
  if (n < 3 || !std::isfinite(top)) return;
  const float* x = row.gather();
  const auto score = [&](int64_t i) { return x[place_of(row.memory.words[i])]; };
  const auto p = [&](int64_t i) { return std::exp((double(score(i)) - top) / double(row.divisor())); };
  int64_t kept = -1;
  for (const int64_t wanted : {kHead, kLongHead, n}) {
    kept = count_kept(p, sort_head(row, x, n, wanted), n, z);
    if (kept >= 0) break;
  }
  if (kept == n) return;
  const float last = score(kept - 1);
  int64_t equal = 0;  // of the last one's score, taken
  while (equal < kept && score(kept - 1 - equal) == last) equal++;
  row.keep_scores_above(below(last));
  if (row.size() > kept) row.keep_if([&](int64_t i) { return row.score(i) > last || equal-- > 0; });
}

}  // namespace switchyard::samplers
