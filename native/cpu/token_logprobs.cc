// `token_logprobs`: of each row of logits the log-probability and the rank of one token, and the n likeliest tokens with
// theirs, falling, ties to the lower id. Rank 1: no other token is likelier, so that of tied tokens each has rank 1.
#include <cmath>

#include "cpu/order.h"
#include "cpu/parallel.h"

namespace switchyard {
namespace {

struct Sizes {
  int64_t rows, v, n;
};
Sizes sizes_of(const Instruction& instruction) {
  const Operand* logits = instruction.in[0];
  return {logits->shape[0], logits->shape[1], instruction.out[2]->shape[1]};
}

void prepare(Instruction& instruction) {
  require_counts(instruction, 2, 2, 4, 4);
  require_tensor(instruction, instruction.in[0], "logits", DType::kF32, 2);
  require_tensor(instruction, instruction.in[1], "targets", DType::kI32, 1);
  require_tensor(instruction, instruction.out[0], "log-probabilities", DType::kF32, 1);
  require_tensor(instruction, instruction.out[1], "ranks", DType::kI32, 1);
  require_tensor(instruction, instruction.out[2], "top tokens", DType::kI32, 2);
  require_tensor(instruction, instruction.out[3], "top log-probabilities", DType::kF32, 2);
  const Sizes s = sizes_of(instruction);
  require_dim(instruction, "targets", instruction.in[1]->shape[0], s.rows);
  for (const Operand* y : instruction.out) require_dim(instruction, "rows of an output", y->shape[0], s.rows);
  require_dim(instruction, "columns of top log-probabilities", instruction.out[3]->shape[1], s.n);
  require_that(instruction, s.v > 0 && s.v <= INT32_MAX && s.n <= s.v, "more top tokens than tokens");
  instruction.worker_scratch = checked_mul(s.n > 0 ? top_words_size(s.v, s.n) : 0, 8, "token_logprobs");
}

void run(const Instruction& instruction, const Context& context) {
  const Sizes s = sizes_of(instruction);
  const MathTable& math = math_table(context.tier);
  const int32_t* targets = instruction.in[1]->as<int32_t>();
  context.parallel_for(s.rows, [&](int64_t r, int worker) {
    const float* x = instruction.in[0]->as<float>() + r * s.v;
    const int32_t target = targets[r];
    if (target >= s.v) {
      fail(ErrorCode::kOption, "[token_logprobs] got target %d in row %lld, expected below 0 (none) to %lld", target, (long long)r,
           (long long)s.v - 1);
    }
    const float max = math.row_max(x, s.v);
    if (!std::isfinite(max)) {
      fail(ErrorCode::kOption, "[token_logprobs] got a largest logit of %g in row %lld, expected a finite number",
           double(max), (long long)r);
    }
    const double log_total = std::log(math.exp_sum(nullptr, x, s.v, max));
    const auto logprob = [&](int64_t id) { return float(double(x[id]) - double(max) - log_total); };
    instruction.out[0]->as<float>()[r] = target < 0 ? 0 : logprob(target);
    instruction.out[1]->as<int32_t>()[r] = target < 0 ? 0 : int32_t(1 + math.count_above(x, s.v, x[target]));
    if (s.n == 0) return;
    auto* words = reinterpret_cast<uint64_t*>(context.scratch_of(worker));
    top_words(math, x, s.v, s.n, words);
    for (int64_t i = 0; i < s.n; i++) {
      const int64_t id = place_of(words[i]);
      instruction.out[2]->as<int32_t>()[r * s.n + i] = int32_t(id);
      instruction.out[3]->as<float>()[r * s.n + i] = logprob(id);
    }
  });
}

}  // namespace

void register_token_logprobs(KernelRegistry& registry) { registry.add({"token_logprobs", "", prepare, run}); }

}  // namespace switchyard
