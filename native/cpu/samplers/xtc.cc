// xtc(threshold, probability): excludes top choices (p-e-w 2024). With the given probability, of all tokens that reach the
// threshold only the least likely one stays. Its coin is the row's second random stream: draws are not disturbed.
#include "cpu/order.h"
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
  const double limit = threshold * row.total();
  int64_t reached = 0;
  uint64_t least = 0;
  for (int64_t i = 0; i < row.size(); i++) {
    if (double(w[i]) < limit) continue;
    reached++;
    least = std::max(least, falling_word(w[i], i));
  }
  if (reached < 2) return;
  row.keep_if([&](int64_t i) { return falling_word(w[i], i) >= least; }, true);
}

}  // namespace switchyard::samplers
