// no_repeat_ngram(n): bans every token that would complete an n-gram which the history holds already (Paulus et al. 2018).
#include <algorithm>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void no_repeat_ngram(Row& row, Record& record) {
  const size_t n = record.index();
  if (n < 1) fail(ErrorCode::kOption, "[sample] got n-grams of 0 tokens, expected at least 1");
  const auto ids = row.history;
  if (ids.size() < n) return;
  row.settle();
  const auto end = ids.last(n - 1);
  for (size_t i = 0; i + n <= ids.size(); i++) {
    const int32_t last = ids[i + n - 1];
    if (!row.has(last) || !std::equal(end.begin(), end.end(), ids.begin() + i)) continue;
    row.set_score(last, -INFINITY);
  }
}

}  // namespace switchyard::samplers
