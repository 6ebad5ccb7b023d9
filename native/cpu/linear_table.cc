#include <array>

#include "cpu/linear.h"

namespace switchyard {

// Each tier starts from the one below it and replaces what it does better.
const LinearTable& linear_table(Tier tier) {
  static const std::array<LinearTable, kTierCount> tables = [] {
    std::array<LinearTable, kTierCount> t;
    LinearTable table;
    fill_linear_scalar(&table);
    t.fill(table);
    return t;
  }();
  return tables[static_cast<size_t>(tier)];
}

}  // namespace switchyard
