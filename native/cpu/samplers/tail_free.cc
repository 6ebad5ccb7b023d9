// tail_free(z): by falling probability, tokens before the curvature of the curve has spent a share z (Bricken 2019).
//
// With p sorted falling and d_i = |(p_i - p_(i+1)) - (p_(i+1) - p_(i+2))| normalised to sum 1, token 0 stays, and token i
// while d_0 + … + d_(i-1) <= z; the last two always go.
//
// The d of what lies behind token i sum to no more than p_i + p_(i+1). So the likeliest alone may decide: 1. a thousand or so;
// 2. where they leave it open, all that are likely enough to count beside the steps at the cut; 3. all.
#include <algorithm>
#include <cmath>
#include <functional>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/sort_falling.h"

namespace switchyard::samplers {

namespace {

// Up to this many are sorted at once.
constexpr int64_t kFew = 1024;
// How much less than a step at the cut those behind the second head weigh: what they sum to moves the cut onto another token
// once in so many times.
constexpr float kBesideStep = 1.0f / 16;
// Beside the likeliest of 1; what f64 would not see.
constexpr double kStraight = 1e-16;

// The likeliest candidates: their scores, falling, and the curve of their probabilities, but for a factor.
struct Head {
  int64_t n;
  bool all;              // nothing lies behind but what has no probability
  const float* scores;   // [n]
  const float* weights;  // [n]
  const float* drops;    // [n - 1], from one weight to the next

  double bend(int64_t i) const { return double(std::fabs(drops[i] - drops[i + 1])); }
};

// A score that a thousand or so are above, unless a few blocks have all of those; -inf, where there are not many more.
float first_limit(const Row& row, const float* x, int64_t n) {
  if (n <= kFew) return -INFINITY;
  const int64_t blocks = parts(n, kMaximumBlock);
  float* maxima = row.memory.order;
  if (row.dense()) {
    std::copy_n(row.memory.maxima, blocks, maxima);
  } else {
    row.math.block_maxima(maxima, x, n);
  }
  float* nth = maxima + (blocks - 1 - blocks / 8);
  std::nth_element(maxima, nth, maxima + blocks, std::greater<float>());
  return below(*nth);
}

// Of scores x[0…n), those above `limit`.
Head take_head(Row& row, const float* x, int64_t n, float limit) {
  const RowMemory& memory = row.memory;
  float* scores = memory.order;
  const auto above = [&] { return row.math.keep_above(scores, memory.counts, x, nullptr, 0, n, limit); };
  int64_t m = above();
  if (m > n / 2) {  // then all cost little more
    limit = -INFINITY;
    if (m < n) m = above();
  }
  sort_falling(scores, m, reinterpret_cast<uint32_t*>(memory.spare));
  float* weights = memory.spare;
  row.math.weigh(weights, nullptr, scores, m, row.largest(), row.rate());
  if (m > 1) row.math.drops(weights + m, weights, scores, m - 1, row.rate());
  return {m, limit == -INFINITY, scores, weights, weights + m};
}

struct Verdict {
  int64_t kept;  // -1 where the head leaves it open
  float step;    // of the weights at the cut
};

Verdict judge(const Row& row, const Head& head, double z) {
  const int64_t bends = head.n - 2;
  if (bends < 1) return {head.all ? head.n : -1, 0};
  double* sums = row.memory.moments;
  double least = 0;
  for (int64_t i = 0; i < bends; i += kSumBlock) {
    least += sums[i / kSumBlock] = row.math.bend_sum(head.drops + i, std::min(kSumBlock, bends - i));
  }
  if (least < kStraight) return {head.all ? head.n : -1, 0};  // a straight line has no tail
  const double behind = head.all ? 0 : double(head.weights[head.n - 2]) + double(head.weights[head.n - 1]);
  double spent = 0;
  for (int64_t begin = 0; begin < bends; begin += kSumBlock) {
    const int64_t end = std::min(bends, begin + kSumBlock);
    double within = spent;
    spent += sums[begin / kSumBlock];
    if (spent <= z * least) continue;
    for (int64_t i = begin; i < end; i++) {
      within += head.bend(i);
      if (within > z * least) return {within > z * (least + behind) ? i + 1 : -1, std::max(head.drops[i], head.drops[i + 1])};
    }
  }
  return {head.all ? head.n - 1 : -1, 0};
}

}  // namespace

void tail_free(Row& row, Record& record) {
  const double z = record.number();
  if (!(z >= 0 && z <= 1)) fail(ErrorCode::kOption, "[sample] got tail-free z %g, expected 0…1", z);
  if (z == 1) return;
  row.list_thinned();
  const float top = row.largest();
  if (!std::isfinite(top)) return;
  const float* x = row.gather();
  const int64_t n = row.size();
  Head head = take_head(row, x, n, first_limit(row, x, n));
  Verdict verdict = judge(row, head, z);
  if (verdict.kept < 0) {
    const float limit = top + std::log2(verdict.step * kBesideStep) / row.rate();
    head = take_head(row, x, n, std::min(limit, below(head.scores[head.n - 1])));
    verdict = judge(row, head, z);
  }
  if (verdict.kept < 0) {
    head = take_head(row, x, n, -INFINITY);
    verdict = judge(row, head, z);
  }
  const int64_t kept = verdict.kept;
  if (kept == head.n) return;
  const float last = head.scores[kept - 1];
  int64_t equal = 0;  // of the last one's score, taken
  if (head.scores[kept] == last) {
    while (equal < kept && head.scores[kept - 1 - equal] == last) equal++;
  }
  row.keep_scores({last, equal});
}

}  // namespace switchyard::samplers
