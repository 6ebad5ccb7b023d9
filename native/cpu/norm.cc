// `rms_norm` (Zhang and Sennrich 2019) and `layer_norm` (Ba et al. 2016) along rows; means in f32 blocks
// summed in f64.
#include <cmath>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

void check(Instruction& instruction, int max_in) {
  require_counts(instruction, 1, max_in, 1, 1);
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  require_tensor(instruction, x, "x", DType::kF32, 2);
  require_tensor(instruction, y, "y", DType::kF32, 2);
  require_that(instruction, x->shape == y->shape, "input and output differ in shape");
  for (size_t i = 1; i < instruction.in.size(); i++) {
    const Operand* parameter = instruction.in[i];
    if (!parameter) continue;
    require_tensor(instruction, parameter, i == 1 ? "weight" : "bias", DType::kF32, 1);
    require_dim(instruction, i == 1 ? "weight" : "bias", parameter->shape[0], x->shape[1]);
  }
}

const float* parameter(const Instruction& instruction, size_t i) {
  return i < instruction.in.size() && instruction.in[i] ? instruction.in[i]->as<float>() : nullptr;
}

template <class Row>
void for_rows(const Instruction& instruction, const Context& context, const Row& row) {
  const Shape& shape = instruction.in[0]->shape;
  const int64_t n = shape[1];
  if (n == 0) return;
  const float* x = instruction.in[0]->as<float>();
  float* y = instruction.out[0]->as<float>();
  parallel_ranges(context, shape[0], 2 * n, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) row(y + r * n, x + r * n, n);
  });
}

void prepare_rms_norm(Instruction& instruction) { check(instruction, 2); }

void run_rms_norm(const Instruction& instruction, const Context& context) {
  const MathTable& math = math_table(context.tier);
  const float eps = float(instruction.attrs[0].f), offset = float(instruction.attrs[1].f);
  const float* weight = parameter(instruction, 1);
  for_rows(instruction, context, [&](float* y, const float* x, int64_t n) {
    const float mean_square = float(math.row_sum_squares(x, n, 0) / double(n));
    math.row_norm(y, x, n, 0, 1 / std::sqrt(mean_square + eps), weight, offset, nullptr);
  });
}

void prepare_layer_norm(Instruction& instruction) { check(instruction, 3); }

void run_layer_norm(const Instruction& instruction, const Context& context) {
  const MathTable& math = math_table(context.tier);
  const float eps = float(instruction.attrs[0].f);
  const float *weight = parameter(instruction, 1), *bias = parameter(instruction, 2);
  for_rows(instruction, context, [&](float* y, const float* x, int64_t n) {
    const float mean = float(math.row_sum(x, n) / double(n));
    const float variance = float(math.row_sum_squares(x, n, mean) / double(n));
    math.row_norm(y, x, n, mean, 1 / std::sqrt(variance + eps), weight, 0, bias);
  });
}

}  // namespace

void register_norm(KernelRegistry& registry) {
  registry.add(
      {"rms_norm", "eps:float,weight_offset:float", prepare_rms_norm, run_rms_norm, InPlace::kArena});
  registry.add({"layer_norm", "eps:float", prepare_layer_norm, run_layer_norm, InPlace::kArena});
}

}  // namespace switchyard
