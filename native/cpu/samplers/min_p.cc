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
  row.keep_scores_above((top + std::log(float(p)) - margin) * row.divisor());
  row.weigh();
  // The least weight of at least p, as f32.
  const float least = float(p) < p ? std::nextafter(float(p), INFINITY) : float(p);
  row.keep_weights_above(below(std::min(least, 1.0f)));
}

}  // namespace switchyard::samplers
