// The numbers of elementwise opcodes, for tests that write programs of them.
#pragma once
#include <cstdint>
#include <string_view>

#include "cpu/elementwise.h"
#include "runtime/error.h"

namespace switchyard::test {

inline int64_t op(std::string_view name) {
  const auto names = elementwise_opcodes();
  for (size_t i = 0; i < names.size(); i++) {
    if (names[i] == name) return static_cast<int64_t>(i);
  }
  fail(ErrorCode::kNative, "[test] got no opcode '%.*s'", static_cast<int>(name.size()), name.data());
}

}  // namespace switchyard::test
