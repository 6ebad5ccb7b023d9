// mirostat(mu): tokens of at most mu bits of surprise, and the likeliest: the cut of Mirostat 2 (Basu et al. 2021). What mu
// becomes after the draw is the sequence's own state (src/generate/samplers/mirostat.ts).
#include <algorithm>
#include <cmath>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

void mirostat(Row& row, Record& record) {
  const double mu = record.number();
  if (std::isnan(mu)) fail(ErrorCode::kOption, "[sample] got a mirostat mu of NaN, expected a number");
  row.weigh();
  if (row.size() == 0) return;
  // -log2(weight / total) <= mu
  row.keep_weights_above(below(std::min(float(std::exp2(-mu) * row.total()), 1.0f)));
}

}  // namespace switchyard::samplers
