// The kernels linear, linear_transposed, grouped_linear, grouped_linear_transposed and embedding of docs/kernels.md.
#include <vector>

#include "cpu/linear.h"

namespace switchyard {
namespace {

std::vector<const Weight*> weights_of(const Instruction& in, size_t first) {
  std::vector<const Weight*> weights;
  for (size_t i = first; i < in.in.size(); i++) weights.push_back(in.in[i]->weight);
  return weights;
}

// Checks x [R, K] against the weights from operand `first` on, and the outputs [R, N_i].
void prepare_products(Instruction& in, size_t first, int64_t experts) {
  const int outputs = static_cast<int>(in.in.size() - first);
  require_counts(in, static_cast<int>(first) + 1, 1 << 16, outputs, outputs);
  require_tensor(in, in.in[0], "x", DType::kF32, 2);
  const int64_t rows = in.in[0]->shape[0], columns = in.in[0]->shape[1];
  for (int i = 0; i < outputs; i++) {
    const Operand *weight = in.in[first + i], *y = in.out[i];
    require_weight(in, weight, "weight");
    require_tensor(in, y, "y", DType::kF32, 2);
    require_dim(in, "experts of the weight", weight->weight->experts(), experts);
    require_dim(in, "columns of x", columns, weight->weight->columns());
    require_dim(in, "rows of y", y->shape[0], rows);
    require_dim(in, "columns of y", y->shape[1], weight->weight->rows());
  }
  const int64_t compute = in.attrs[0].i;
  require_that(in, compute >= 0 && compute <= 2, "got another 'compute', expected 0 (f32), 1 (bf16) or 2 (int8)");
  in.shared_scratch =
      linear_shared_scratch(rows, columns, experts, weights_of(in, first), static_cast<int>(compute));
  in.worker_scratch = linear_worker_scratch(columns);
}

// Offsets [E + 1] give the number of experts.
int64_t prepare_offsets(const Instruction& in) {
  require_that(in, in.in.size() >= 2, "got no expert offsets, expected i32 [E + 1]");
  require_tensor(in, in.in[1], "expert offsets", DType::kI32, 1);
  require_that(in, in.in[1]->shape[0] >= 2, "got fewer than 2 expert offsets, expected E + 1");
  return in.in[1]->shape[0] - 1;
}

void run_products(const Instruction& in, size_t first, const int32_t* offsets, int64_t experts,
                  const Context& context) {
  const std::vector<const Weight*> weights = weights_of(in, first);
  std::vector<float*> y;
  for (const Operand* out : in.out) y.push_back(out->as<float>());
  LinearCall call;
  call.x = in.in[0]->as<float>();
  call.rows = in.in[0]->shape[0];
  call.columns = in.in[0]->shape[1];
  call.offsets = offsets;
  call.experts = experts;
  call.weights = weights;
  call.y = y;
  call.compute = static_cast<int>(in.attrs[0].i);
  run_linear(call, context);
}

void prepare_linear(Instruction& in) {
  require_that(in, in.in.size() >= 2, "got no weight, expected x and one or more weights");
  prepare_products(in, 1, 1);
}

void run_linear_kernel(const Instruction& in, const Context& context) { run_products(in, 1, nullptr, 1, context); }

void prepare_grouped(Instruction& in) {
  const int64_t experts = prepare_offsets(in);
  require_that(in, in.in.size() >= 3, "got no weight, expected x, expert offsets and one or more weights");
  prepare_products(in, 2, experts);
}

void run_grouped(const Instruction& in, const Context& context) {
  const int64_t experts = in.in[1]->shape[0] - 1;
  const int32_t* offsets = in.in[1]->as<int32_t>();
  check_offsets("grouped_linear", offsets, experts, in.in[0]->shape[0]);
  run_products(in, 2, offsets, experts, context);
}

void prepare_transposed_product(Instruction& in, const Operand* weight, int64_t experts) {
  require_tensor(in, in.in[0], "dy", DType::kF32, 2);
  require_weight(in, weight, "weight");
  require_tensor(in, in.out[0], "dx", DType::kF32, 2);
  const int64_t rows = in.in[0]->shape[0];
  require_dim(in, "experts of the weight", weight->weight->experts(), experts);
  require_dim(in, "columns of dy", in.in[0]->shape[1], weight->weight->rows());
  require_dim(in, "rows of dx", in.out[0]->shape[0], rows);
  require_dim(in, "columns of dx", in.out[0]->shape[1], weight->weight->columns());
  in.shared_scratch = linear_transposed_scratch(rows, *weight->weight);
  in.worker_scratch = kSlabBytes;
}

void run_transposed_product(const Instruction& in, const Weight* weight, const int32_t* offsets, int64_t experts,
                            const Context& context) {
  LinearTransposedCall call;
  call.dy = in.in[0]->as<float>();
  call.rows = in.in[0]->shape[0];
  call.offsets = offsets;
  call.experts = experts;
  call.weight = weight;
  call.dx = in.out[0]->as<float>();
  run_linear_transposed(call, context);
}

void prepare_transposed(Instruction& in) {
  require_counts(in, 2, 2, 1, 1);
  prepare_transposed_product(in, in.in[1], 1);
}

void run_transposed(const Instruction& in, const Context& context) {
  run_transposed_product(in, in.in[1]->weight, nullptr, 1, context);
}

void prepare_grouped_transposed(Instruction& in) {
  require_counts(in, 3, 3, 1, 1);
  prepare_transposed_product(in, in.in[2], prepare_offsets(in));
}

void run_grouped_transposed(const Instruction& in, const Context& context) {
  const int64_t experts = in.in[1]->shape[0] - 1;
  const int32_t* offsets = in.in[1]->as<int32_t>();
  check_offsets("grouped_linear_transposed", offsets, experts, in.in[0]->shape[0]);
  run_transposed_product(in, in.in[2]->weight, offsets, experts, context);
}

void prepare_embedding(Instruction& in) {
  require_counts(in, 2, 2, 1, 1);
  require_tensor(in, in.in[0], "ids", DType::kI32, 1);
  require_weight(in, in.in[1], "weight");
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  require_dim(in, "experts of the weight", in.in[1]->weight->experts(), 1);
  require_dim(in, "rows of y", in.out[0]->shape[0], in.in[0]->shape[0]);
  require_dim(in, "columns of y", in.out[0]->shape[1], in.in[1]->weight->columns());
}

void run_embedding(const Instruction& in, const Context& context) {
  const int32_t* ids = in.in[0]->as<int32_t>();
  const Weight& weight = *in.in[1]->weight;
  const int64_t n = in.in[0]->shape[0], d = weight.columns();
  for (int64_t i = 0; i < n; i++) {
    if (ids[i] >= 0 && ids[i] < weight.rows()) continue;
    fail(ErrorCode::kShape, "[embedding] got id %d at %lld, expected 0 to %lld", ids[i], static_cast<long long>(i),
         static_cast<long long>(weight.rows() - 1));
  }
  float* y = in.out[0]->as<float>();  // [N, D]
  constexpr int64_t kSerialValues = 8192;
  context.pool->parallel_for(n, n * d < kSerialValues ? 1 : context.threads,
                             [&](int64_t i, int) { weight.read(0, ids[i], 1, y + i * d); });
}

}  // namespace

void register_linear(KernelRegistry& r) {
  r.add({"linear", "compute:int", prepare_linear, run_linear_kernel});
  r.add({"linear_transposed", "", prepare_transposed, run_transposed});
  r.add({"grouped_linear", "compute:int", prepare_grouped, run_grouped});
  r.add({"grouped_linear_transposed", "", prepare_grouped_transposed, run_grouped_transposed});
  r.add({"embedding", "", prepare_embedding, run_embedding});
}

}  // namespace switchyard
