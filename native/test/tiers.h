// The tiers that tests of packed weights run: those of the machine, and AMX in software where the machine lacks it.
#pragma once
#include <cstdio>
#include <vector>

#include "runtime/tier.h"

namespace switchyard::test {

inline std::vector<Tier> tested_tiers() {
  std::vector<Tier> tiers = present_tiers();
#if defined(SWITCHYARD_EMULATED_AMX)
  tiers.push_back(Tier::kAmx);
#endif
  return tiers;
}

inline void print_tiers() {
  for (const Tier tier : present_tiers()) std::printf("%s ", tier_name(tier));
#if defined(SWITCHYARD_EMULATED_AMX)
  std::printf("amx (emulated)");
#endif
  std::printf("\n");
}

}  // namespace switchyard::test
