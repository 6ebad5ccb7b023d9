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
#if defined(__x86_64__) || defined(_M_X64)
    const auto at = [&](Tier which) -> LinearTable& { return t[static_cast<size_t>(which)]; };
    fill_linear_avx2(&table);
    at(Tier::kAvx2) = table;
    fill_linear_avx512(&table);
    at(Tier::kAvx512) = table;
    fill_linear_avx512_vnni(&table);
    at(Tier::kAvx512Vnni) = table;
    fill_linear_avx512_bf16(&table);
    at(Tier::kAvx512Bf16) = table;
    fill_linear_amx(&table);
    at(Tier::kAmx) = table;
#elif defined(__aarch64__)
    fill_linear_neon(&t[static_cast<size_t>(Tier::kNeon)]);
#endif
    return t;
  }();
  return tables[static_cast<size_t>(tier)];
}

}  // namespace switchyard
