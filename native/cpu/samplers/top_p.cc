// top_p(p): the smallest set of the likeliest tokens whose probabilities reach p (Holtzman et al. 2020), one at least.
#include <algorithm>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

// n weights of no more than (1 - p) / n of the total sum to no more than 1 - p of it: none of them is needed. The margin
// covers the rounding of sums.
constexpr double kMargin = 1 - 1e-6;

void top_p(Row& row, Record& record) {
  const double p = record.number();
  if (!(p >= 0 && p <= 1)) fail(ErrorCode::kOption, "[sample] got top p %g, expected 0…1", p);
  if (p == 1 || row.size() < 2) return;
  const double n = double(row.size());
  row.weigh_above(float((1 - p) / n * kMargin));  // the total is at least 1
  if (row.size() == 0) return;
  const double total = row.total();
  const auto needless = float((1 - p) * total / n * kMargin);
  row.keep_weights_above(std::min(needless, below(1)));
  const float* w = row.weights();
  const int64_t place = cut_place(w, w, row.size(), p * total, row.memory.words);
  if (place < 0) return;  // rounding: all are needed
  row.keep_weights_above(place, below(w[place]), w[place]);
}

}  // namespace switchyard::samplers
