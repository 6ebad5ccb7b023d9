// `rope_table` and `rope`: rotary position embedding (Su et al. 2021, equation 34).
#include <cmath>
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kSinCosCost = 32;  // libm's pair against one copied lane

void prepare_table(Instruction& instruction) {
  require_counts(instruction, 2, 2, 2, 2);
  const Operand *positions = instruction.in[0], *frequencies = instruction.in[1];
  require_tensor(instruction, positions, "positions", DType::kI32, 1);
  require_tensor(instruction, frequencies, "inverse frequencies", DType::kF32, 1);
  for (const Operand* y : instruction.out) {
    require_tensor(instruction, y, "table", DType::kF32, 2);
    require_dim(instruction, "positions", y->shape[0], positions->shape[0]);
    require_dim(instruction, "frequencies", y->shape[1], frequencies->shape[0]);
  }
}

// The angle is rounded to f32 before the functions, as the reference implementations do.
void run_table(const Instruction& instruction, const Context& context) {
  const int32_t* positions = instruction.in[0]->as<int32_t>();
  const float* frequencies = instruction.in[1]->as<float>();
  const int64_t n = instruction.in[0]->shape[0], half = instruction.in[1]->shape[0];
  const float scale = float(instruction.attrs[0].f);
  float *cos = instruction.out[0]->as<float>(), *sin = instruction.out[1]->as<float>();
  parallel_ranges(context, n, half * kSinCosCost, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * half; i < end * half; i++) {
      const float angle = float(positions[i / half]) * frequencies[i % half];
      cos[i] = lane_cos(angle) * scale;
      sin[i] = lane_sin(angle) * scale;
    }
  });
}

void prepare_rope(Instruction& instruction) {
  require_counts(instruction, 3, 3, 1, 1);
  const Operand *x = instruction.in[0], *y = instruction.out[0];
  require_tensor(instruction, x, "x", DType::kF32, 3);
  require_tensor(instruction, y, "y", DType::kF32, 3);
  require_that(instruction, x->shape == y->shape, "input and output differ in shape");
  for (int i = 1; i <= 2; i++) {
    const Operand* table = instruction.in[i];
    require_tensor(instruction, table, i == 1 ? "cos" : "sin", DType::kF32, 2);
    require_dim(instruction, "rows of a table", table->shape[0], x->shape[0]);
    require_dim(instruction, "columns of a table", table->shape[1], instruction.in[1]->shape[1]);
  }
  require_that(instruction, 2 * instruction.in[1]->shape[1] <= x->shape[2],
               "the tables turn more than a head");
}

void rope_pairs(float* y, const float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; i++) {
    const float a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = a * cos[i] - b * sin[i];
    y[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void run_rope(const Instruction& instruction, const Context& context) {
  const Shape& shape = instruction.in[0]->shape;
  const int64_t n = shape[0], heads = shape[1], c = shape[2], half = instruction.in[1]->shape[1];
  const bool interleaved = instruction.attrs[0].i != 0;
  const MathTable& math = math_table(context.tier);
  const float *in = instruction.in[0]->as<float>(), *cos = instruction.in[1]->as<float>(),
              *sin = instruction.in[2]->as<float>();
  float* out = instruction.out[0]->as<float>();
  parallel_ranges(context, n, heads * c, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin * heads; row < end * heads; row++) {
      const float *x = in + row * c, *cs = cos + row / heads * half, *sn = sin + row / heads * half;
      float* y = out + row * c;
      if (interleaved) {
        rope_pairs(y, x, cs, sn, half);
      } else {
        math.rotate(y, y + half, x, x + half, cs, sn, half);
      }
      if (y != x && 2 * half < c) std::memcpy(y + 2 * half, x + 2 * half, size_t(c - 2 * half) * 4);
    }
  });
}

}  // namespace

void register_rope(KernelRegistry& registry) {
  registry.add({"rope_table", "scale:float", prepare_table, run_table});
  registry.add({"rope", "interleaved:int", prepare_rope, run_rope, InPlace::kArena});
}

}  // namespace switchyard
