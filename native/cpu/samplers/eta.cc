// eta(e): epsilon sampling with the threshold min(e, sqrt(e)·exp(-entropy)) (Hewitt, Manning, Liang 2022, eq. 6).
#include <algorithm>
#include <cmath>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void eta(Row& row, Record& record) {
  const double e = record.number();
  if (!(e > 0 && e < 1)) fail(ErrorCode::kOption, "[sample] got eta %g, expected more than 0, less than 1", e);
  const double mean = row.mean_log_weight();
  if (row.size() == 0) return;
  const double entropy = std::log(row.total()) - mean;
  row.keep_weights_from(std::min(e, std::sqrt(e) * std::exp(-entropy)) * row.total());
}

}  // namespace switchyard::samplers
