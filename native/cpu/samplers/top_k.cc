// top_k(k): the k largest scores and all that equal the k-th (Fan, Lewis, Dauphin 2018).
#include <algorithm>
#include <functional>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

namespace {

// The least score that equals the k-th; those that do only after the division by the temperature count, too.
float least_equal(float kth, float divisor) {
  float limit = kth;
  if (divisor == 1 || !std::isfinite(kth)) return limit;
  while (below(limit) / divisor >= kth / divisor && std::isfinite(below(limit))) limit = below(limit);
  return limit;
}

}  // namespace

void top_k(Row& row, Record& record) {
  const int64_t k = record.index();
  if (k < 1) fail(ErrorCode::kOption, "[sample] got top k 0, expected at least 1");
  if (k >= row.size()) return;
  row.list_thinned();
  // The k-th largest of the maxima of blocks is no more than the k-th score: few candidates are left to look at, but for
  // equal ones.
  const int64_t blocks = parts(row.vocabulary, kMaximumBlock);
  if (row.dense() && k <= blocks / 4) {
    row.largest();  // brings the maxima up to date
    float* maxima = row.memory.gathered;
    std::copy_n(row.memory.maxima, blocks, maxima);
    std::nth_element(maxima, maxima + (k - 1), maxima + blocks, std::greater<float>());
    const float limit = least_equal(maxima[k - 1], row.divisor());
    if (!row.many_above(below(limit))) row.keep_scores({limit});
    if (k >= row.size()) return;
  }
  const Candidates all{row.gather(), nullptr, row.size()};
  const float kth = find_cut(row.math, row.passes, row.memory, all, double(all.n), double(k)).limit;
  row.keep_scores({least_equal(kth, row.divisor())});
}

}  // namespace switchyard::samplers
