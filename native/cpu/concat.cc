// `concat`: tensors [outer, n_i, inner] side by side.
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

void prepare(Instruction& instruction) {
  require_counts(instruction, 1, 1 << 20, 1, 1);
  const Operand* y = instruction.out[0];
  require_dense(instruction, y, "output is a weight, expected a tensor");
  require_dim(instruction, "rank of the output", y->shape.rank, 3);
  int64_t total = 0;
  for (const Operand* x : instruction.in) {
    require_dense(instruction, x, "an input is missing or a weight, expected a tensor");
    require_tensor(instruction, x, "x", y->dtype, 3);
    require_dim(instruction, "outer", x->shape[0], y->shape[0]);
    require_dim(instruction, "inner", x->shape[2], y->shape[2]);
    total = checked_add(total, x->shape[1], "concat");
  }
  require_dim(instruction, "length of the output", y->shape[1], total);
}

void run(const Instruction& instruction, const Context& context) {
  const Operand* y = instruction.out[0];
  const int64_t outer = y->shape[0], unit = y->shape[2] * dtype_size(y->dtype), row = y->shape[1] * unit;
  if (outer == 0 || row == 0) return;
  parallel_ranges(context, outer, row / 4, [&](int64_t begin, int64_t end, int) {
    int64_t at = 0;
    for (const Operand* x : instruction.in) {
      const int64_t bytes = x->shape[1] * unit;
      if (bytes == 0) continue;
      for (int64_t o = begin; o < end; o++) {
        std::memcpy(y->data + o * row + at, x->data + o * bytes, size_t(bytes));
      }
      at += bytes;
    }
  });
}

}  // namespace

void register_concat(KernelRegistry& registry) { registry.add({"concat", "", prepare, run}); }

}  // namespace switchyard
