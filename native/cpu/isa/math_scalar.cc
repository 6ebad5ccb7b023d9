// The vector code of the scalar tier. All standard headers come before the target pragma: an inline function
// of theirs must not be compiled with wide instructions and then chosen by the linker for every caller.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/isa/math_table.h"
#include "formats/half.h"

#define SY_SCALAR 1
namespace switchyard::isa_scalar {
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/elementwise.inl"
#include "cpu/isa/rows.inl"
#include "cpu/isa/scores.inl"
#include "cpu/isa/gemm.inl"
#include "cpu/isa/table.inl"
}  // namespace switchyard::isa_scalar

namespace switchyard {
const MathTable* math_table_scalar() {
  static const MathTable table = isa_scalar::make_table();
  return &table;
}
}  // namespace switchyard
