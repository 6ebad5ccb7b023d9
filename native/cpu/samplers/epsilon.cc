// epsilon(e): tokens of probability e or more, and the likeliest (Hewitt, Manning, Liang 2022).
#include <algorithm>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

void epsilon(Row& row, Record& record) {
  const double e = record.number();
  if (!(e > 0 && e < 1)) fail(ErrorCode::kOption, "[sample] got epsilon %g, expected more than 0, less than 1", e);
  row.weigh_above(below(float(e)));  // the total is at least 1
  if (row.size() == 0) return;
  row.keep_weights_above(below(std::min(float(e * row.total()), 1.0f)));
}

}  // namespace switchyard::samplers
