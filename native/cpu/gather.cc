// `take_rows`, `scatter_add_rows`, `take_along`, `scatter_add_along`: the two gathers and their transposes.
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kStrip = 1024;  // columns of one task of a scatter: each row id is read once a strip

[[noreturn]] void bad_id(const char* kernel, int64_t place, int32_t id, int64_t low, int64_t n) {
  fail(ErrorCode::kOption, "[%s] got id %d at place %lld, expected %lld…%lld", kernel, id, (long long)place,
       (long long)low, (long long)n - 1);
}

void prepare_take_rows(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  const Operand *x = instruction.in[0], *ids = instruction.in[1], *y = instruction.out[0];
  require_dense(instruction, x, "x is missing or a weight, expected a tensor");
  require_tensor(instruction, x, "x", x->dtype, 2);
  require_tensor(instruction, ids, "ids", DType::kI32, 1);
  require_tensor(instruction, y, "y", x->dtype, 2);
  require_dim(instruction, "rows of y", y->shape[0], ids->shape[0]);
  require_dim(instruction, "inner", y->shape[1], x->shape[1]);
}

void run_take_rows(const Instruction& instruction, const Context& context) {
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  const int32_t* ids = instruction.in[1]->as<int32_t>();
  const int64_t n = x->shape[0], m = y->shape[0], bytes = x->shape[1] * dtype_size(x->dtype);
  parallel_ranges(context, m, bytes / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int32_t id = ids[i];
      if (id < -1 || id >= n) bad_id("take_rows", i, id, -1, n);
      if (bytes == 0) continue;
      if (id < 0) {
        std::memset(y->data + i * bytes, 0, size_t(bytes));
      } else {
        std::memcpy(y->data + i * bytes, x->data + id * bytes, size_t(bytes));
      }
    }
  });
}

void prepare_scatter_add_rows(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  const Operand *x = instruction.in[0], *ids = instruction.in[1], *y = instruction.out[0];
  require_tensor(instruction, x, "x", DType::kF32, 2);
  require_tensor(instruction, ids, "ids", DType::kI32, 1);
  require_tensor(instruction, y, "y", DType::kF32, 2);
  require_dim(instruction, "ids", ids->shape[0], x->shape[0]);
  require_dim(instruction, "inner", y->shape[1], x->shape[1]);
}

void zero(const Context& context, const Operand* y) {
  float* out = y->as<float>();
  parallel_ranges(context, y->shape.size(), 1, [&](int64_t begin, int64_t end, int) {
    std::memset(out + begin, 0, size_t(end - begin) * 4);
  });
}

// Tasks own columns, so that each element is summed by one thread in the order of the ids.
void run_scatter_add_rows(const Instruction& instruction, const Context& context) {
  const Operand *in = instruction.in[0], *out = instruction.out[0];
  const int32_t* ids = instruction.in[1]->as<int32_t>();
  const int64_t m = in->shape[0], inner = in->shape[1], n = out->shape[0];
  for (int64_t i = 0; i < m; i++) {
    if (ids[i] < -1 || ids[i] >= n) bad_id("scatter_add_rows", i, ids[i], -1, n);
  }
  zero(context, out);
  const MathTable& math = math_table(context.tier);
  const int64_t strip = std::min(kStrip, std::max<int64_t>(64, inner / context.threads / 16 * 16));
  const int64_t strips = inner == 0 ? 0 : (inner + strip - 1) / strip;
  parallel_ranges(context, strips, m * strip, [&](int64_t begin, int64_t end, int) {
    for (int64_t s = begin; s < end; s++) {
      const int64_t j = s * strip, width = std::min(strip, inner - j);
      for (int64_t i = 0; i < m; i++) {
        if (ids[i] < 0) continue;
        math.row_accumulate(out->as<float>() + ids[i] * inner + j, in->as<float>() + i * inner + j, width);
      }
    }
  });
}

// x [outer, n, inner] and the taken [outer, m, inner] with ids of the same shape as the latter.
void check_along(const Instruction& instruction, const Operand* x, const Operand* ids, const Operand* taken) {
  require_tensor(instruction, x, "x", x->dtype, 3);
  require_tensor(instruction, ids, "ids", DType::kI32, 3);
  require_tensor(instruction, taken, "taken", x->dtype, 3);
  require_that(instruction, ids->shape == taken->shape, "ids differ in shape from the taken elements");
  require_dim(instruction, "outer", ids->shape[0], x->shape[0]);
  require_dim(instruction, "inner", ids->shape[2], x->shape[2]);
}

void prepare_take_along(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  require_dense(instruction, instruction.in[0], "x is missing or a weight, expected a tensor");
  check_along(instruction, instruction.in[0], instruction.in[1], instruction.out[0]);
}

template <class T>
void take_along(const Instruction& instruction, const Context& context) {
  const Operand *x = instruction.in[0], *ids = instruction.in[1];
  const int64_t outer = x->shape[0], n = x->shape[1], inner = x->shape[2], m = ids->shape[1];
  const int32_t* id = ids->as<int32_t>();
  parallel_ranges(context, outer * m, inner * 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const T* from = x->as<T>() + row / m * n * inner;
      T* to = instruction.out[0]->as<T>() + row * inner;
      for (int64_t j = 0; j < inner; j++) {
        const int32_t k = id[row * inner + j];
        if (k < 0 || k >= n) bad_id("take_along", row * inner + j, k, 0, n);
        to[j] = from[k * inner + j];
      }
    }
  });
}

void run_take_along(const Instruction& instruction, const Context& context) {
  switch (dtype_size(instruction.in[0]->dtype)) {
    case 1: take_along<uint8_t>(instruction, context); break;
    case 2: take_along<uint16_t>(instruction, context); break;
    default: take_along<uint32_t>(instruction, context); break;
  }
}

void prepare_scatter_add_along(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  require_tensor(instruction, instruction.in[0], "x", DType::kF32, 3);
  require_tensor(instruction, instruction.out[0], "y", DType::kF32, 3);
  check_along(instruction, instruction.out[0], instruction.in[1], instruction.in[0]);
}

void run_scatter_add_along(const Instruction& instruction, const Context& context) {
  const Operand *in = instruction.in[0], *out = instruction.out[0];
  const int64_t outer = out->shape[0], n = out->shape[1], inner = out->shape[2], m = in->shape[1];
  const int32_t* ids = instruction.in[1]->as<int32_t>();
  zero(context, out);
  parallel_ranges(context, outer, m * inner * 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * m * inner; i < end * m * inner; i++) {
      const int32_t k = ids[i];
      if (k < 0 || k >= n) bad_id("scatter_add_along", i, k, 0, n);
      out->as<float>()[(i / (m * inner) * n + k) * inner + i % inner] += in->as<float>()[i];
    }
  });
}

}  // namespace

void register_gather(KernelRegistry& registry) {
  registry.add({"take_rows", "", prepare_take_rows, run_take_rows});
  registry.add({"scatter_add_rows", "", prepare_scatter_add_rows, run_scatter_add_rows});
  registry.add({"take_along", "", prepare_take_along, run_take_along});
  registry.add({"scatter_add_along", "", prepare_scatter_add_along, run_scatter_add_along});
}

}  // namespace switchyard
