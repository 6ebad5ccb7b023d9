#include "runtime/types.h"

namespace switchyard {

const char* dtype_name(DType t) {
  constexpr const char* kName[kDTypeCount] = {"f32", "f16", "bf16", "i32", "u32", "u8", "bool"};
  return static_cast<int>(t) < kDTypeCount ? kName[static_cast<int>(t)] : "?";
}

std::string shape_text(const Shape& s) {
  std::string text = "[";
  for (int i = 0; i < s.rank; i++) {
    if (i > 0) text += ", ";
    text += std::to_string(s.dims[i]);
  }
  return text + "]";
}

}  // namespace switchyard
