// greedy: the largest score, ties to the lower id.
#include "cpu/samplers/kinds.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

void greedy(Row& row, Record&) {
  const float top = row.largest();
  if (top == -INFINITY) return;
  row.keep_only(row.first_above(below(top)));
}

}  // namespace switchyard::samplers
