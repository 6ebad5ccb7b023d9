// The vector code of the neon tier. All standard headers come before the target pragma: an inline function of
// theirs must not be compiled with wide instructions and then chosen by the linker for every caller.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/isa/math_table.h"
#include "formats/half.h"

#if defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>

#define SY_NEON 1
namespace switchyard::isa_neon {
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/elementwise.inl"
#include "cpu/isa/rows.inl"
#include "cpu/isa/scores.inl"
#include "cpu/isa/gemm.inl"
#include "cpu/isa/table.inl"
}  // namespace switchyard::isa_neon

namespace switchyard {
const MathTable* math_table_neon() {
  static const MathTable table = isa_neon::make_table();
  return &table;
}
}  // namespace switchyard
#else
namespace switchyard {
const MathTable* math_table_neon() { return nullptr; }
}  // namespace switchyard
#endif
