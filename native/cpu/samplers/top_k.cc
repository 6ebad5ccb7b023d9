// top_k(k): the k largest scores and all that equal the k-th (Fan, Lewis, Dauphin 2018).
#include <algorithm>
#include <functional>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

namespace {

// Scores that are equal only after the division by the temperature count as equal.
float widened(float kth, float divisor) {
  float limit = below(kth);
  if (divisor == 1 || !std::isfinite(kth)) return limit;
  while (limit / divisor >= kth / divisor && std::isfinite(limit)) limit = below(limit);
  return limit;
}

}  // namespace

void top_k(Row& row, Record& record) {
  const int64_t k = record.index();
  if (k < 1) fail(ErrorCode::kOption, "[sample] got top k 0, expected at least 1");
  if (k >= row.size()) return;
  row.list_thinned();
  // The k-th largest of the maxima of blocks is no more than the k-th score: few candidates are left to look at.
  const int64_t blocks = (row.vocabulary + kMaximumBlock - 1) / kMaximumBlock;
  if (row.dense() && k <= blocks) {
    row.largest();  // brings the maxima up to date
    float* maxima = row.memory.gathered;
    std::copy_n(row.memory.maxima, blocks, maxima);
    std::nth_element(maxima, maxima + (k - 1), maxima + blocks, std::greater<float>());
    row.keep_scores_above(widened(maxima[k - 1], row.divisor()));
    if (k >= row.size()) return;
  }
  const Candidates all{row.gather(), nullptr, row.size()};
  const float kth = find_cut(row.math, row.passes, row.memory, all, double(all.n), double(k)).limit;
  row.keep_scores_above(widened(kth, row.divisor()));
}

}  // namespace switchyard::samplers
