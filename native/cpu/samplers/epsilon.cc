// epsilon(e): tokens of probability e or more, and the likeliest (Hewitt, Manning, Liang 2022).
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void epsilon(Row& row, Record& record) {
  const double e = record.number();
  if (!(e > 0 && e < 1)) fail(ErrorCode::kOption, "[sample] got epsilon %g, expected more than 0, less than 1", e);
  row.weigh();
  row.keep_weights_from(e * row.total());
}

}  // namespace switchyard::samplers
