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
  const double centre = row.mean_log_weight();  // surprise - entropy is this less the log of the token's weight
  if (row.size() == 0) return;
  const Nearness nearness = row.nearness_to(centre);
  const float* scores = row.gather();
  const Candidates all{scores, row.weights(), row.slots(), &nearness};
  const Cut cut = find_cut(row.math, row.passes, row.memory, all, row.total(), mass * row.total());
  row.keep_nearer(scores, nearness, below(cut.limit));
}

}  // namespace switchyard::samplers
