// token_bias([id, bias]…): adds to the score of each token; -inf bans it.
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void token_bias(Row& row, Record& record) {
  Record pairs(record.list());
  row.settle();
  while (!pairs.done()) {
    const int32_t id = pairs.word();
    const float bias = pairs.bias();
    if (row.has(id)) row.set_score(id, row.score_of(id) + bias);
  }
}

}  // namespace switchyard::samplers
