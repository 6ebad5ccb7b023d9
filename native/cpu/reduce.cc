// `sum`, `max`, `min`, `argmax`, `cumsum` over the middle of [outer, n, inner].
#include <cmath>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kChunk = 16384;   // a long row is summed in pieces of this many, on one thread or on many
constexpr int64_t kColumns = 64;    // columns of one task: four cache lines a row

enum class Reduction { kSum, kMax, kMin };

struct Sizes {
  int64_t outer, n, inner;
  explicit Sizes(const Operand* x) : outer(x->shape[0]), n(x->shape[1]), inner(x->shape[2]) {}
};

void check_input(const Instruction& instruction, bool integers) {
  require_counts(instruction, 1, 1, 1, 1);
  const Operand* x = instruction.in[0];
  require_dense(instruction, x, "input is a weight, expected a tensor");
  const DType t = integers && x->dtype == DType::kI32 ? DType::kI32 : DType::kF32;
  require_tensor(instruction, x, "x", t, 3);
}

template <Reduction kind>
void prepare_reduction(Instruction& instruction) {
  check_input(instruction, true);
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  require_tensor(instruction, y, "y", x->dtype, 2);
  require_dim(instruction, "outer", y->shape[0], x->shape[0]);
  require_dim(instruction, "inner", y->shape[1], x->shape[2]);
  if (kind != Reduction::kSum)
    require_that(instruction, x->shape[1] > 0, "n is 0, expected at least one element");
  const int64_t chunks = (x->shape[1] + kChunk - 1) / kChunk;
  if (kind == Reduction::kSum && x->shape[2] == 1 && chunks > 1) {
    instruction.shared_scratch = checked_mul(checked_mul(x->shape[0], chunks, "sum"), 8, "sum");
  }
}

template <Reduction kind>
int32_t combine(int32_t a, int32_t b) {
  if (kind == Reduction::kSum) return int32_t(uint32_t(a) + uint32_t(b));
  return kind == Reduction::kMax ? std::max(a, b) : std::min(a, b);
}

template <Reduction kind>
void reduce_integers(const Context& context, const Sizes& s, int32_t* y, const int32_t* x) {
  parallel_ranges(context, s.outer, s.n * s.inner, [&](int64_t begin, int64_t end, int) {
    for (int64_t o = begin; o < end; o++) {
      const int32_t* from = x + o * s.n * s.inner;
      int32_t* to = y + o * s.inner;
      for (int64_t j = 0; j < s.inner; j++) to[j] = kind == Reduction::kSum ? 0 : from[j];
      for (int64_t r = kind == Reduction::kSum ? 0 : 1; r < s.n; r++) {
        for (int64_t j = 0; j < s.inner; j++) to[j] = combine<kind>(to[j], from[r * s.inner + j]);
      }
    }
  });
}

// Long rows: partial sums by chunk in scratch, then each row in order.
void sum_rows(const Context& context, const Sizes& s, float* y, const float* x) {
  const MathTable& math = math_table(context.tier);
  const int64_t chunks = (s.n + kChunk - 1) / kChunk;
  if (chunks <= 1) {
    parallel_ranges(context, s.outer, s.n, [&](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; o++) y[o] = float(math.row_sum(x + o * s.n, s.n));
    });
    return;
  }
  auto* partial = reinterpret_cast<double*>(context.shared_scratch);
  parallel_ranges(context, s.outer * chunks, kChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const int64_t row = t / chunks, start = t % chunks * kChunk;
      partial[t] = math.row_sum(x + row * s.n + start, std::min(kChunk, s.n - start));
    }
  });
  for (int64_t o = 0; o < s.outer; o++) {
    double total = 0;
    for (int64_t c = 0; c < chunks; c++) total += partial[o * chunks + c];
    y[o] = float(total);
  }
}

template <Reduction kind>
void run_reduction(const Instruction& instruction, const Context& context) {
  const Operand *in = instruction.in[0], *out = instruction.out[0];
  const Sizes s(in);
  if (s.outer == 0 || s.inner == 0) return;
  if (in->dtype == DType::kI32) {
    reduce_integers<kind>(context, s, out->as<int32_t>(), in->as<int32_t>());
    return;
  }
  const float* x = in->as<float>();
  float* y = out->as<float>();
  const MathTable& math = math_table(context.tier);
  if (s.inner == 1 && kind == Reduction::kSum) {
    sum_rows(context, s, y, x);
  } else if (s.inner == 1) {
    const auto extreme = kind == Reduction::kMax ? math.row_max : math.row_min;
    parallel_ranges(context, s.outer, s.n, [&](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; o++) y[o] = extreme(x + o * s.n, s.n);
    });
  } else {
    const auto column = kind == Reduction::kSum   ? math.column_sum
                        : kind == Reduction::kMax ? math.column_max
                                                  : math.column_min;
    const int64_t strips = (s.inner + kColumns - 1) / kColumns;
    parallel_ranges(context, s.outer * strips, s.n * std::min(s.inner, kColumns),
                    [&](int64_t begin, int64_t end, int) {
                      for (int64_t t = begin; t < end; t++) {
                        const int64_t o = t / strips, j = t % strips * kColumns;
                        column(y + o * s.inner + j, x + o * s.n * s.inner + j, s.n, s.inner,
                               std::min(kColumns, s.inner - j));
                      }
                    });
  }
}

void prepare_argmax(Instruction& instruction) {
  check_input(instruction, false);
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  require_tensor(instruction, y, "y", DType::kI32, 2);
  require_dim(instruction, "outer", y->shape[0], x->shape[0]);
  require_dim(instruction, "inner", y->shape[1], x->shape[2]);
  require_that(instruction, x->shape[1] > 0 && x->shape[1] <= INT32_MAX, "n is 0 or beyond i32");
}

// The first NaN, if there is one, else the first of the largest.
int32_t argmax_row(const MathTable& math, const float* x, int64_t n) {
  const float best = math.row_max(x, n);
  if (std::isnan(best)) {
    int64_t i = 0;
    while (!std::isnan(x[i])) i++;
    return int32_t(i);
  }
  if (best == -INFINITY) return 0;
  return int32_t(math.next_above(x, 0, n, std::nextafter(best, -INFINITY)));
}

void run_argmax(const Instruction& instruction, const Context& context) {
  const Sizes s(instruction.in[0]);
  const float* x = instruction.in[0]->as<float>();
  int32_t* y = instruction.out[0]->as<int32_t>();
  const MathTable& math = math_table(context.tier);
  parallel_ranges(context, s.outer, s.n * s.inner, [&](int64_t begin, int64_t end, int) {
    for (int64_t o = begin; o < end; o++) {
      const float* from = x + o * s.n * s.inner;
      if (s.inner == 1) {
        y[o] = argmax_row(math, from, s.n);
        continue;
      }
      for (int64_t j = 0; j < s.inner; j++) {
        int64_t best = 0;
        for (int64_t r = 1; r < s.n; r++) {
          const float a = from[r * s.inner + j], b = from[best * s.inner + j];
          if (a > b || (std::isnan(a) && !std::isnan(b))) best = r;
        }
        y[o * s.inner + j] = int32_t(best);
      }
    }
  });
}

void prepare_cumsum(Instruction& instruction) {
  check_input(instruction, true);
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  require_tensor(instruction, y, "y", x->dtype, 3);
  require_that(instruction, x->shape == y->shape, "input and output differ in shape");
}

// Sums run in f64 for f32, and wrap for i32.
template <class T, class Sum>
void cumulate(const Context& context, const Sizes& s, bool exclusive, bool reverse, T* y, const T* x) {
  constexpr int64_t kLanes = 16;
  const int64_t strips = (s.inner + kLanes - 1) / kLanes;
  parallel_ranges(context, s.outer * strips, s.n * std::min(s.inner, kLanes),
                  [&](int64_t begin, int64_t end, int) {
                    for (int64_t t = begin; t < end; t++) {
                      const int64_t j = t % strips * kLanes, base = t / strips * s.n * s.inner + j,
                                    m = std::min(kLanes, s.inner - j);
                      Sum total[kLanes] = {};
                      for (int64_t r = 0; r < s.n; r++) {
                        const int64_t at = base + (reverse ? s.n - 1 - r : r) * s.inner;
                        for (int64_t l = 0; l < m; l++) {
                          const Sum before = total[l];
                          total[l] += Sum(x[at + l]);
                          y[at + l] = T(exclusive ? before : total[l]);
                        }
                      }
                    }
                  });
}

void run_cumsum(const Instruction& instruction, const Context& context) {
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  const Sizes s(x);
  const bool exclusive = instruction.attrs[0].i != 0, reverse = instruction.attrs[1].i != 0;
  if (x->dtype == DType::kI32) {
    cumulate<int32_t, uint32_t>(context, s, exclusive, reverse, y->as<int32_t>(), x->as<int32_t>());
  } else {
    cumulate<float, double>(context, s, exclusive, reverse, y->as<float>(), x->as<float>());
  }
}

}  // namespace

void register_reduce(KernelRegistry& registry) {
  registry.add({"sum", "", prepare_reduction<Reduction::kSum>, run_reduction<Reduction::kSum>});
  registry.add({"max", "", prepare_reduction<Reduction::kMax>, run_reduction<Reduction::kMax>});
  registry.add({"min", "", prepare_reduction<Reduction::kMin>, run_reduction<Reduction::kMin>});
  registry.add({"argmax", "", prepare_argmax, run_argmax});
  registry.add({"cumsum", "exclusive:int,reverse:int", prepare_cumsum, run_cumsum, InPlace::kArena});
}

}  // namespace switchyard
