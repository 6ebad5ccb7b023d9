// mirostat(mu): tokens of at most mu bits of surprise, and the likeliest: the cut of Mirostat 2 (Basu et al. 2021). What mu
// becomes after the draw is the sequence's own state (src/generate/samplers/mirostat.ts).
#include <cmath>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void mirostat(Row& row, Record& record) {
  const double mu = record.number();
  if (std::isnan(mu)) fail(ErrorCode::kOption, "[sample] got a mirostat mu of NaN, expected a number");
  row.weigh();
  row.keep_weights_from(std::exp2(-mu) * row.total());  // -log2(weight / total) <= mu
}

}  // namespace switchyard::samplers
