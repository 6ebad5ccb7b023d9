#include "cpu/isa/math_table.h"

#include <cmath>

namespace switchyard {

const MathTable& math_table(Tier tier) {
  const MathTable* table = nullptr;
  switch (tier) {
    case Tier::kScalar: break;
    case Tier::kAvx2: table = math_table_avx2(); break;
    case Tier::kNeon: table = math_table_neon(); break;
    default: table = math_table_avx512(); break;  // AVX-512 and all that include it
  }
  return table ? *table : *math_table_scalar();
}

float lane_pow(float x, float y) { return std::pow(x, y); }
float lane_sin(float x) { return std::sin(x); }
float lane_cos(float x) { return std::cos(x); }

}  // namespace switchyard
