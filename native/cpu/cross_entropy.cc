// `cross_entropy` and its gradient: loss_i = log sum_v exp(logits_iv) - logits_i,target; target -1 is
// ignored.
#include <cmath>
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kExpCost = 4;

void check(const Instruction& instruction) {
  const Operand *logits = instruction.in[0], *targets = instruction.in[1];
  require_tensor(instruction, logits, "logits", DType::kF32, 2);
  require_tensor(instruction, targets, "targets", DType::kI32, 1);
  require_dim(instruction, "targets", targets->shape[0], logits->shape[0]);
}

int32_t target_of(const Instruction& instruction, int64_t row) {
  const int32_t target = instruction.in[1]->as<int32_t>()[row];
  const int64_t v = instruction.in[0]->shape[1];
  if (target < -1 || target >= v) {
    fail(ErrorCode::kOption, "[%s] got target %d in row %lld, expected -1…%lld",
         instruction.kernel->name.data(), target, (long long)row, (long long)v - 1);
  }
  return target;
}

void prepare_loss(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  check(instruction);
  require_tensor(instruction, instruction.out[0], "loss", DType::kF32, 1);
  require_dim(instruction, "loss", instruction.out[0]->shape[0], instruction.in[0]->shape[0]);
}

void run_loss(const Instruction& instruction, const Context& context) {
  const Operand* logits = instruction.in[0];
  const int64_t v = logits->shape[1];
  const MathTable& math = math_table(context.tier);
  float* loss = instruction.out[0]->as<float>();
  parallel_ranges(context, logits->shape[0], v * kExpCost, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const float* x = logits->as<float>() + r * v;
      const int32_t target = target_of(instruction, r);
      if (target < 0) {
        loss[r] = 0;
        continue;
      }
      const float max = math.row_max(x, v);
      loss[r] = float(std::log(math.exp_sum(nullptr, x, v, max)) + (double(max) - double(x[target])));
    }
  });
}

void prepare_grad(Instruction& instruction) {
  require_counts(instruction, 3, 3, 1, 1);
  check(instruction);
  const Operand *dy = instruction.in[2], *dx = instruction.out[0];
  require_tensor(instruction, dy, "dy", DType::kF32, 1);
  require_dim(instruction, "dy", dy->shape[0], instruction.in[0]->shape[0]);
  require_tensor(instruction, dx, "gradient", DType::kF32, 2);
  require_that(instruction, dx->shape == instruction.in[0]->shape, "logits and gradient differ in shape");
}

void run_grad(const Instruction& instruction, const Context& context) {
  const Operand* logits = instruction.in[0];
  const int64_t v = logits->shape[1];
  const MathTable& math = math_table(context.tier);
  const float* dy = instruction.in[2]->as<float>();
  parallel_ranges(context, logits->shape[0], v * kExpCost, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const float* x = logits->as<float>() + r * v;
      float* dx = instruction.out[0]->as<float>() + r * v;
      const int32_t target = target_of(instruction, r);
      if (target < 0) {
        std::memset(dx, 0, size_t(v) * 4);
        continue;
      }
      const double sum = math.exp_sum(dx, x, v, math.row_max(x, v));
      const float p = float(double(dx[target]) / sum);
      math.row_scale(dx, dx, v, float(double(dy[r]) / sum));
      dx[target] = (p - 1) * dy[r];
    }
  });
}

}  // namespace

void register_cross_entropy(KernelRegistry& registry) {
  registry.add({"cross_entropy", "", prepare_loss, run_loss});
  registry.add({"cross_entropy_grad", "", prepare_grad, run_grad, InPlace::kArena});
}

}  // namespace switchyard
