// typical(mass): tokens whose surprise is nearest to the entropy, as many as reach the mass (Meister et al. 2023).
// All that are as near as the last one stay.
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void typical(Row& row, Record& record) {
  const double mass = record.number();
  if (!(mass > 0 && mass <= 1)) {
    fail(ErrorCode::kOption, "[sample] got typical mass %g, expected more than 0, at most 1", mass);
  }
  if (mass == 1) return;
  row.weigh();
  if (row.size() == 0) return;
  // Surprise - entropy is the mean of log(weight) less that of the token.
  row.order_by_nearness(row.mean_log_weight());
  const Candidates all{row.memory.order, row.weights(), row.slots()};
  row.keep_order_above(below(find_cut(row.math, row.passes, row.memory, all, row.total(), mass * row.total()).limit));
}

}  // namespace switchyard::samplers
