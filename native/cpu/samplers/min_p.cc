// min_p(p): tokens of at least p times the probability of the likeliest (Nguyen et al. 2024).
#include <algorithm>
#include <cmath>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

void min_p(Row& row, Record& record) {
  const double p = record.number();
  if (!(p >= 0 && p <= 1)) fail(ErrorCode::kOption, "[sample] got min p %g, expected 0…1", p);
  if (p == 0) return;
  // Weights are relative to the largest already. By score first: few of a vocabulary need a weight.
  const float top = row.largest() / row.divisor();
  if (!std::isfinite(top)) return;
  const float margin = 1e-3f * (1 + std::fabs(top));
  const float limit = (top + std::log(float(p)) - margin) * row.divisor();
  // The least weight of at least p, as f32.
  const float least = std::min(float(p) < p ? std::nextafter(float(p), INFINITY) : float(p), 1.0f);
  if (row.weighed()) {
    // what follows is all there is to do
  } else if (row.many_above(limit)) {
    row.weigh_above(below(least));
  } else {
    row.keep_scores_above(limit);
    row.weigh();
  }
  row.keep_weights_above(below(least));
}

}  // namespace switchyard::samplers
