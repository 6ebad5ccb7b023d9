// typical(mass): tokens whose surprise is nearest to the entropy, as many as reach the mass (Meister et al. 2023).
// All that are as near as the last one stay.
#include <cmath>

#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

void typical(Row& row, Record& record) {
  const double mass = record.number();
  if (!(mass > 0 && mass <= 1)) {
    fail(ErrorCode::kOption, "[sample] got typical mass %g, expected more than 0, at most 1", mass);
  }
  if (mass == 1) return;
  row.weigh();
  if (row.size() == 0) return;
  const double total = row.total(), log_total = std::log(total), entropy = log_total - row.moment() / total;
  const float top = row.largest() / row.divisor();
  const float* x = row.gather();
  auto* order = reinterpret_cast<float*>(row.memory.counts);
  for (int64_t i = 0; i < row.size(); i++) {
    const double surprise = log_total - (double(x[i] / row.divisor()) - double(top));
    order[i] = float(-std::fabs(surprise - entropy));
  }
  const int64_t place = cut_place(order, row.weights(), row.size(), mass * total, row.memory.words);
  if (place < 0) return;
  const float least = order[place];
  row.keep_if([&](int64_t i) { return order[i] >= least; }, true);
}

}  // namespace switchyard::samplers
