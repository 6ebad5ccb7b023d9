// `iota`, `random_uniform`, `random_normal`: tensors from nothing. Element i depends on (seed, offset, i)
// alone.
#include <cstring>

#include "cpu/parallel.h"
#include "cpu/philox.h"

namespace switchyard {
namespace {

void prepare_iota(Instruction& instruction) {
  require_counts(instruction, 0, 0, 1, 1);
  const Operand* y = instruction.out[0];
  require_dense(instruction, y, "output is a weight, expected a tensor");
  require_tensor(instruction, y, "y", DType::kI32, y->shape.rank);
  const int64_t axis = instruction.attrs[0].i;
  if (axis < 0 || axis >= y->shape.rank) {
    fail(ErrorCode::kProgram, "[iota] got axis %lld, expected 0…%d", (long long)axis, y->shape.rank - 1);
  }
  require_that(instruction, y->shape[int(axis)] <= INT32_MAX, "axis is longer than an i32 counts");
}

void run_iota(const Instruction& instruction, const Context& context) {
  const Operand* y = instruction.out[0];
  const int axis = int(instruction.attrs[0].i);
  int64_t inner = 1;
  for (int d = axis + 1; d < y->shape.rank; d++) inner *= y->shape[d];
  const int64_t n = y->shape[axis];
  parallel_ranges(context, y->shape.size(), 1, [&](int64_t begin, int64_t end, int) {
    int32_t* out = y->as<int32_t>();
    for (int64_t i = begin; i < end;) {
      const int64_t run = std::min(end - i, inner - i % inner);
      std::fill_n(out + i, run, int32_t(i / inner % n));
      i += run;
    }
  });
}

void prepare_random(Instruction& instruction) {
  require_counts(instruction, 0, 0, 1, 1);
  require_dense(instruction, instruction.out[0], "output is a weight, expected a tensor");
  require_tensor(instruction, instruction.out[0], "y", DType::kF32, instruction.out[0]->shape.rank);
}

// finish(words, n) turns n words (a multiple of 4, starting at one) into floats in place.
template <class Finish>
void generate(const Instruction& instruction, const Context& context, const Finish& finish) {
  const Operand* y = instruction.out[0];
  const uint64_t seed = uint64_t(instruction.attrs[0].i), offset = uint64_t(instruction.attrs[1].i);
  constexpr int kWords = 256;
  parallel_ranges(
      context, y->shape.size(), 8,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; i += kWords) {
          const int64_t n = std::min<int64_t>(kWords, end - i), whole = (n + 3) / 4 * 4;
          uint32_t words[kWords];
          for (int64_t j = 0; j < whole; j += 4) {
            const auto four = philox(offset + uint64_t(i + j) / 4, seed);
            std::memcpy(words + j, four.data(), 16);
          }
          finish(words, whole);
          std::memcpy(y->as<float>() + i, words, size_t(n) * 4);
        }
      },
      kWords);
}

void run_uniform(const Instruction& instruction, const Context& context) {
  generate(instruction, context, [](uint32_t* words, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
      const float u = unit_float(words[i]);
      std::memcpy(words + i, &u, 4);
    }
  });
}

void run_normal(const Instruction& instruction, const Context& context) {
  const MathTable& math = math_table(context.tier);
  generate(instruction, context, [&](uint32_t* words, int64_t n) { math.normal(words, n / 2); });
}

}  // namespace

void register_random(KernelRegistry& registry) {
  registry.add({"iota", "axis:int", prepare_iota, run_iota});
  registry.add({"random_uniform", "seed:int,offset:int", prepare_random, run_uniform});
  registry.add({"random_normal", "seed:int,offset:int", prepare_random, run_normal});
}

}  // namespace switchyard
