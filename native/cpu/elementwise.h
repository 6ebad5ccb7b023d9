// The elementwise interpreter: a register machine over tiles of lanes.
#pragma once
#include <string_view>
#include <vector>

namespace switchyard {

// The longest program of one `elementwise` instruction.
constexpr int kMaxElementwiseCode = 128;
constexpr int kMaxElementwiseInputs = 8;

// Names of the opcodes; the number of an opcode is its place.
std::vector<std::string_view> elementwise_opcodes();

}  // namespace switchyard
