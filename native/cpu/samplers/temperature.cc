// temperature(T): scores / T (Ackley, Hinton, Sejnowski 1985).
#include <cmath>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

// Far beyond any use; where scores / T would lose all difference, searches for equal ones have no end.
constexpr float kLargest = 1e4f;

void temperature(Row& row, Record& record) {
  const float t = float(record.number());
  if (!(t > 0 && t <= kLargest)) {
    fail(ErrorCode::kOption, "[sample] got temperature %g, expected more than 0, at most %g", double(t), double(kLargest));
  }
  // Where the largest score overflows, or 2 / T, the limit T -> 0 is what is meant.
  if (!std::isfinite(row.largest() / t) || !std::isfinite(2 / t)) return greedy(row, record);
  row.divide(t);
}

}  // namespace switchyard::samplers
