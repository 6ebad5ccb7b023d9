// How one `elementwise` instruction runs on the device: its registers become slots of a file that each thread has in shared
// memory, or stay in the accumulator where only the next step reads them.
#pragma once
#include <vector>

#include "cpu/elementwise.h"
#include "cpu/isa/math_table.h"
#include "cuda/kernel.h"

namespace switchyard::cuda {

constexpr int kAccumulator = 255;  // as a slot: the result of the step before; as a destination: nowhere else

// 8 bytes, read by all threads at once from the parameters of the kernel.
struct ElementStep {
  uint8_t op, to, arity, reserved;
  union {
    uint8_t from[4];  // slots of the operands
    uint32_t bits;    // of a constant
  };
};

struct ElementPlan {
  int constants = 0;  // the first steps: run once a thread
  int steps = 0;      // all
  int slots = 0;
  int result = kAccumulator;
  int input_slot[kMaxElementwiseInputs];  // -1: never read
  ElementStep code[kMaxElementwiseCode];
};

inline int element_arity(ElementOp op) {
  switch (op) {
    case ElementOp::kConst: case ElementOp::kConstI32: return 0;
    case ElementOp::kSelect: case ElementOp::kSelectI32: return 3;
    case ElementOp::kNeg: case ElementOp::kAbs: case ElementOp::kSign: case ElementOp::kExp: case ElementOp::kLog:
    case ElementOp::kLog1p: case ElementOp::kSqrt: case ElementOp::kRsqrt: case ElementOp::kReciprocal:
    case ElementOp::kTanh: case ElementOp::kErf: case ElementOp::kSigmoid: case ElementOp::kSin: case ElementOp::kCos:
    case ElementOp::kFloor: case ElementOp::kNot: case ElementOp::kToI32: case ElementOp::kToF32: return 1;
    default: return 2;
  }
}

// `code`: lists of [op, a, b, c] that the CPU kernel has checked. Unread results are left out.
inline ElementPlan plan_elements(int inputs, const std::vector<int64_t>& code) {
  const int steps = static_cast<int>(code.size() / 4), result = inputs + steps - 1;
  const auto op = [&](int s) { return static_cast<ElementOp>(code[4 * s]); };
  const auto constant = [&](int r) { return r >= inputs && element_arity(op(r - inputs)) == 0; };
  std::vector<bool> read(inputs + steps, false);
  read[result] = true;
  for (int s = steps - 1; s >= 0; s--) {
    for (int k = 0; read[inputs + s] && k < element_arity(op(s)); k++) read[code[4 * s + 1 + k]] = true;
  }
  std::vector<int> body, place(inputs + steps, -1);  // steps that run for each tile; where a register's step stands there
  for (int s = 0; s < steps; s++) {
    if (!read[inputs + s] || constant(inputs + s)) continue;
    place[inputs + s] = static_cast<int>(body.size());
    body.push_back(s);
  }
  std::vector<int> last(inputs + steps, -1);  // place of the last step that reads a register
  for (int i = 0; i < static_cast<int>(body.size()); i++) {
    for (int k = 0; k < element_arity(op(body[i])); k++) {
      last[code[4 * body[i] + 1 + k]] = i;
    }
  }
  last[result] = static_cast<int>(body.size());

  ElementPlan p;
  std::vector<int> slot(inputs + steps, kAccumulator), spare;
  const auto take = [&] {
    if (spare.empty()) return p.slots++;
    const int s = spare.back();
    spare.pop_back();
    return s;
  };
  const auto put = [&](int s, int to) {
    ElementStep& step = p.code[p.steps++];
    step = {};
    step.op = static_cast<uint8_t>(code[4 * s]), step.to = static_cast<uint8_t>(to);
    step.arity = static_cast<uint8_t>(element_arity(op(s)));
    if (constant(inputs + s)) step.bits = static_cast<uint32_t>(code[4 * s + 1]);
    return &step;
  };
  // Slots of inputs and constants keep what they hold: inputs may be the same for all tiles, constants are.
  for (int i = 0; i < inputs; i++) p.input_slot[i] = slot[i] = read[i] ? take() : -1;
  for (int s = 0; s < steps; s++) {
    if (read[inputs + s] && constant(inputs + s)) put(s, slot[inputs + s] = take());
  }
  p.constants = p.steps;
  for (int i = 0; i < static_cast<int>(body.size()); i++) {
    const int s = body[i], own = inputs + s;
    ElementStep* step = put(s, kAccumulator);
    for (int k = 0; k < element_arity(op(s)); k++) {
      const auto r = static_cast<int>(code[4 * s + 1 + k]);
      const bool before = place[r] >= 0 && place[r] == i - 1;
      step->from[k] = static_cast<uint8_t>(before ? kAccumulator : slot[r]);
      bool again = false;
      for (int j = 0; j < k; j++) again = again || code[4 * s + 1 + j] == r;
      if (place[r] >= 0 && last[r] == i && !again && slot[r] != kAccumulator) spare.push_back(slot[r]);
    }
    // Only what a later step than the next one reads needs a slot; the result is stored from the accumulator.
    const bool kept = own != result && last[own] > i + 1;
    if (kept) slot[own] = take(), step->to = static_cast<uint8_t>(slot[own]);
  }
  p.result = body.empty() || body.back() != steps - 1 ? slot[result] : kAccumulator;
  return p;
}

}  // namespace switchyard::cuda
