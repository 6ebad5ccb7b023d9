// sequence_bias([length, bias, tokens…]…): where the history ends in all but the last token of a sequence, adds to the score of
// that last one; -inf bans it.
#include <algorithm>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void sequence_bias(Row& row, Record& record) {
  Record sequences(record.list());
  row.settle();
  const auto ids = row.history;
  while (!sequences.done()) {
    const size_t length = sequences.index();
    const float bias = sequences.bias();
    const auto tokens = sequences.take(length);
    if (length == 0 || length - 1 > ids.size() || !row.has(tokens[length - 1])) continue;
    const auto end = ids.last(length - 1);
    const int32_t last = tokens[length - 1];
    if (std::equal(end.begin(), end.end(), tokens.begin())) row.set_score(last, row.score_of(last) + bias);
  }
}

}  // namespace switchyard::samplers
