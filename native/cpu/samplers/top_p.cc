// top_p(p): the smallest set of the likeliest tokens whose probabilities reach p (Holtzman et al. 2020), one at least.
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void top_p(Row& row, Record& record) {
  const double p = record.number();
  if (!(p >= 0 && p <= 1)) fail(ErrorCode::kOption, "[sample] got top p %g, expected 0…1", p);
  if (p == 1 || row.size() < 2) return;
  row.weigh();
  if (row.size() == 0) return;
  row.keep(find_cut(row.math, row.passes, row.memory, row.by_weight(), row.total(), p * row.total()));
}

}  // namespace switchyard::samplers
