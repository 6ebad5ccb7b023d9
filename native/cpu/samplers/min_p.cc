// min_p(p): tokens of at least p times the probability of the likeliest (Nguyen et al. 2024).
#include <cmath>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void min_p(Row& row, Record& record) {
  const double p = record.number();
  if (!(p >= 0 && p <= 1)) fail(ErrorCode::kOption, "[sample] got min p %g, expected 0…1", p);
  if (p == 0) return;
  if (!row.weighed()) {
    // By score first: where few are near the largest, the others need no weight.
    const float top = row.largest() / row.divisor();
    if (!std::isfinite(top)) return;
    const float margin = 1e-3f * (1 + std::fabs(top));
    const float limit = (top + std::log(float(p)) - margin) * row.divisor();
    if (!row.many_above(limit)) row.keep_scores({limit});
    row.weigh();
  }
  row.keep_weights_from(p * double(row.largest_weight()));
}

}  // namespace switchyard::samplers
