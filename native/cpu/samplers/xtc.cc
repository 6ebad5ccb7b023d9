// xtc(threshold, probability): excludes top choices (p-e-w 2024). With the given probability, of all tokens that reach the
// threshold only the least likely one stays. Its coin is the row's second random stream: draws are not disturbed.
#include "cpu/philox.h"
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void xtc(Row& row, Record& record) {
  const double threshold = record.number(), probability = record.number();
  const uint32_t stream = record.index();  // a number for each xtc of the chain, from 1
  if (!(threshold > 0 && threshold <= 1 && probability >= 0 && probability <= 1)) {
    fail(ErrorCode::kOption, "[sample] got xtc of threshold %g and probability %g, expected 0…1", threshold,
         probability);
  }
  const auto words = philox(uint64_t(stream) << 32 | row.step, row.seed);
  if (unit_double(words[0], words[1]) >= probability) return;
  row.weigh();
  const float* w = row.weights();
  const float limit = below(at_least(threshold * row.total()));
  int64_t reached = 0, least = -1;
  for (int64_t i = row.math.next_above(w, 0, row.slots(), limit); i < row.slots();
       i = row.math.next_above(w, i + 1, row.slots(), limit)) {
    if (reached++ == 0 || w[i] <= w[least]) least = i;
  }
  if (reached > 1) row.remove_above(limit, least);
}

}  // namespace switchyard::samplers
