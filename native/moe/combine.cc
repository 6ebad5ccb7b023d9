#include "moe/combine.h"

#include <algorithm>

#include "cpu/tile.h"

namespace switchyard {
namespace {

// Multiply-adds of one task; a smaller whole runs on the calling thread (about the cost of waking another).
constexpr int64_t kWorkPerTask = 1 << 15;

// fn(token) for every token, after a look at its slot rows.
template <class F>
void for_tokens(const Context& context, const char* kernel, const int32_t* slot_row, int64_t R, int64_t N, int64_t K,
                int64_t D, const F& fn) {
  const int64_t tokens = std::max<int64_t>(1, kWorkPerTask / std::max<int64_t>(1, K * D));
  context.parallel_for((N + tokens - 1) / tokens, [&](int64_t task, int) {
    for (int64_t n = task * tokens; n < std::min(N, (task + 1) * tokens); n++) {
      for (int64_t k = 0; k < K; k++) {
        const int32_t row = slot_row[n * K + k];
        if (row >= -1 && row < R) continue;
        fail(ErrorCode::kOption, "[%s] got slot row %d for token %lld, expected -1 to %lld", kernel, row,
             static_cast<long long>(n), static_cast<long long>(R - 1));
      }
      fn(n);
    }
  });
}

void prepare_combine(Instruction& in) {
  require_counts(in, 3, 3, 1, 1);
  require_tensor(in, in.in[0], "rows", DType::kF32, 2);
  require_tensor(in, in.in[1], "slot row", DType::kI32, 2);
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  const Shape& slots = in.in[1]->shape;
  if (in.in[2] != nullptr) {
    require_tensor(in, in.in[2], "combine weights", DType::kF32, 2);
    require_dim(in, "rows of combine weights", in.in[2]->shape[0], slots[0]);
    require_dim(in, "columns of combine weights", in.in[2]->shape[1], slots[1]);
  }
  require_dim(in, "rows of y", in.out[0]->shape[0], slots[0]);
  require_dim(in, "columns of y", in.out[0]->shape[1], in.in[0]->shape[1]);
}

void run_combine(const Instruction& in, const Context& context) {
  const Shape &rows = in.in[0]->shape, &slots = in.in[1]->shape;
  const float* weights = in.in[2] == nullptr ? nullptr : in.in[2]->as<float>();
  combine_rows(context, "moe_combine", in.in[0]->as<float>(), in.in[1]->as<int32_t>(), weights, rows[0], slots[0],
               slots[1], rows[1], in.out[0]->as<float>());
}

void prepare_combine_grad(Instruction& in) {
  require_counts(in, 3, 3, 1, 1);
  require_tensor(in, in.in[0], "rows", DType::kF32, 2);
  require_tensor(in, in.in[1], "slot row", DType::kI32, 2);
  require_tensor(in, in.in[2], "dy", DType::kF32, 2);
  require_tensor(in, in.out[0], "d weights", DType::kF32, 2);
  const Shape& slots = in.in[1]->shape;
  require_dim(in, "rows of dy", in.in[2]->shape[0], slots[0]);
  require_dim(in, "columns of dy", in.in[2]->shape[1], in.in[0]->shape[1]);
  require_dim(in, "rows of d weights", in.out[0]->shape[0], slots[0]);
  require_dim(in, "columns of d weights", in.out[0]->shape[1], slots[1]);
}

void run_combine_grad(const Instruction& in, const Context& context) {
  const TileKernels& tiles = tile_kernels(context.tier);
  const int64_t R = in.in[0]->shape[0], D = in.in[0]->shape[1], N = in.in[1]->shape[0], K = in.in[1]->shape[1];
  const float *rows = in.in[0]->as<float>(), *dy = in.in[2]->as<float>();
  const int32_t* slot_row = in.in[1]->as<int32_t>();
  float* dw = in.out[0]->as<float>();
  for_tokens(context, "moe_combine_grad", slot_row, R, N, K, D,
             [&](int64_t n) { tiles.gather_dot(rows, slot_row + n * K, dy + n * D, K, D, dw + n * K); });
}

}  // namespace

void combine_rows(const Context& context, const char* kernel, const float* rows, const int32_t* slot_row,
                  const float* weights, int64_t R, int64_t N, int64_t K, int64_t D, float* y) {
  const TileKernels& tiles = tile_kernels(context.tier);
  for_tokens(context, kernel, slot_row, R, N, K, D, [&](int64_t n) {
    tiles.gather_sum(rows, slot_row + n * K, weights == nullptr ? nullptr : weights + n * K, K, D, y + n * D);
  });
}

void register_moe_combine(KernelRegistry& r) {
  r.add({"moe_combine", "", prepare_combine, run_combine});
  r.add({"moe_combine_grad", "", prepare_combine_grad, run_combine_grad});
}

}  // namespace switchyard
