// `sort` and `top_k` along rows.
#include <cstring>

#include "cpu/order.h"
#include "cpu/parallel.h"

namespace switchyard {
namespace {

void check(const Instruction& instruction, int64_t columns) {
  const Operand *x = instruction.in[0], *values = instruction.out[0], *places = instruction.out[1];
  require_tensor(instruction, values, "values", DType::kF32, 2);
  require_tensor(instruction, places, "indices", DType::kI32, 2);
  for (const Operand* y : {values, places}) {
    require_dim(instruction, "rows", y->shape[0], x->shape[0]);
    require_dim(instruction, "columns", y->shape[1], columns);
  }
  require_that(instruction, x->shape[1] <= INT32_MAX, "a row is longer than an i32 counts");
}

void write_words(const uint64_t* words, int64_t k, const float* x, float* values, int32_t* places) {
  for (int64_t i = 0; i < k; i++) {
    places[i] = int32_t(place_of(words[i]));
    values[i] = x[places[i]];
  }
}

void prepare_sort(Instruction& instruction) {
  require_counts(instruction, 1, 1, 2, 2);
  require_tensor(instruction, instruction.in[0], "x", DType::kF32, 2);
  check(instruction, instruction.in[0]->shape[1]);
  instruction.worker_scratch = checked_mul(instruction.in[0]->shape[1], 8, "sort");
}

void run_sort(const Instruction& instruction, const Context& context) {
  const Operand* in = instruction.in[0];
  const int64_t rows = in->shape[0], n = in->shape[1];
  const bool falling = instruction.attrs[0].i != 0;
  parallel_ranges(context, rows, n * 16, [&](int64_t begin, int64_t end, int worker) {
    auto* words = reinterpret_cast<uint64_t*>(context.scratch_of(worker));
    for (int64_t r = begin; r < end; r++) {
      const float* x = in->as<float>() + r * n;
      for (int64_t i = 0; i < n; i++) {
        words[i] = uint64_t(falling ? falling_key(x[i]) : rising_key(x[i])) << 32 | uint64_t(i);
      }
      std::sort(words, words + n);
      write_words(words, n, x, instruction.out[0]->as<float>() + r * n,
                  instruction.out[1]->as<int32_t>() + r * n);
    }
  });
}

void prepare_top_k(Instruction& instruction) {
  require_counts(instruction, 1, 1, 2, 2);
  const Operand* x = instruction.in[0];
  require_tensor(instruction, x, "x", DType::kF32, 2);
  const int64_t k = instruction.attrs[0].i;
  if (k < 1 || k > x->shape[1]) {
    fail(ErrorCode::kProgram, "[top_k] got k %lld, expected 1…%lld", (long long)k, (long long)x->shape[1]);
  }
  check(instruction, k);
  instruction.worker_scratch = checked_mul(top_words_size(x->shape[1], k), 8, "top_k");
}

void run_top_k(const Instruction& instruction, const Context& context) {
  const Operand* in = instruction.in[0];
  const int64_t rows = in->shape[0], n = in->shape[1], k = instruction.attrs[0].i;
  const MathTable& math = math_table(context.tier);
  parallel_ranges(context, rows, n + 8 * k, [&](int64_t begin, int64_t end, int worker) {
    auto* words = reinterpret_cast<uint64_t*>(context.scratch_of(worker));
    for (int64_t r = begin; r < end; r++) {
      const float* x = in->as<float>() + r * n;
      top_words(math, x, n, k, words);
      write_words(words, k, x, instruction.out[0]->as<float>() + r * k,
                  instruction.out[1]->as<int32_t>() + r * k);
    }
  });
}

}  // namespace

void register_sort(KernelRegistry& registry) {
  registry.add({"sort", "descending:int", prepare_sort, run_sort});
  registry.add({"top_k", "k:int", prepare_top_k, run_top_k});
}

}  // namespace switchyard
