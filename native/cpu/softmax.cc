// `softmax`, `log_softmax` along rows: the largest value is subtracted first.
#include <cmath>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kExpCost = 4;  // one exponential against one copied lane

void prepare(Instruction& instruction) {
  require_counts(instruction, 1, 1, 1, 1);
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  require_tensor(instruction, x, "x", DType::kF32, 2);
  require_tensor(instruction, y, "y", DType::kF32, 2);
  require_that(instruction, x->shape == y->shape, "input and output differ in shape");
}

void softmax_row(const MathTable& math, float* y, const float* x, int64_t n) {
  const float max = math.row_max(x, n);
  if (max == -INFINITY) {
    std::fill_n(y, n, 0.0f);
    return;
  }
  const double sum = math.exp_sum(y, x, n, max);
  math.row_scale(y, y, n, float(1.0 / sum));
}

void log_softmax_row(const MathTable& math, float* y, const float* x, int64_t n) {
  const float max = math.row_max(x, n);
  if (max == -INFINITY) {
    std::fill_n(y, n, -INFINITY);
    return;
  }
  const double sum = math.exp_sum(nullptr, x, n, max);
  // Two steps: x - max is exact near the maximum, where max + log(sum) would round.
  math.row_add(y, x, n, -max);
  math.row_add(y, y, n, float(-std::log(sum)));
}

template <void (*row)(const MathTable&, float*, const float*, int64_t)>
void run(const Instruction& instruction, const Context& context) {
  const Operand* in = instruction.in[0];
  const int64_t rows = in->shape[0], n = in->shape[1];
  if (n == 0) return;
  const MathTable& math = math_table(context.tier);
  const float* x = in->as<float>();
  float* y = instruction.out[0]->as<float>();
  parallel_ranges(context, rows, n * kExpCost, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) row(math, y + r * n, x + r * n, n);
  });
}

}  // namespace

void register_softmax(KernelRegistry& registry) {
  registry.add({"softmax", "", prepare, run<softmax_row>, InPlace::kArena});
  registry.add({"log_softmax", "", prepare, run<log_softmax_row>, InPlace::kArena});
}

}  // namespace switchyard
