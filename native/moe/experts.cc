// moe_experts: the experts of a sparse layer on packed weights, bit for bit the composition
//   take_rows → grouped_linear (gate, up) → act(gate)·up → grouped_linear (down) → moe_combine,
// with each expert's bias, where there is one, added to what grouped_linear gives. Two files bring the rows of the plan
// through their experts, experts_by_panels.cc and experts_by_rows.cc; the weighted sum of each token's rows ends it.
#include <algorithm>
#include <cmath>

#include "moe/combine.h"
#include "moe/experts_layer.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

// Biases: the operands from 8 on. An instruction without any may end before them.
constexpr size_t kBiases = 8;
const Operand* bias_of(const Instruction& in, size_t i) {
  return kBiases + i < in.in.size() ? in.in[kBiases + i] : nullptr;
}

ExpertLayer layer_of(const Instruction& in) {
  ExpertLayer l{};
  l.N = in.in[0]->shape[0], l.D = in.in[0]->shape[1], l.K = in.in[3]->shape[1], l.R = in.in[2]->shape[0];
  l.E = in.in[1]->shape[0] - 1;
  l.gate = in.in[5] != nullptr ? in.in[5]->weight : nullptr;
  l.up = in.in[6]->weight;
  l.down = in.in[7]->weight;
  l.F = l.up->rows();
  l.hidden = {static_cast<int>(in.attrs[0].i), static_cast<float>(in.attrs[2].f), static_cast<float>(in.attrs[3].f)};
  l.compute = static_cast<int>(in.attrs[1].i);
  l.x = in.in[0]->as<float>();
  l.offsets = in.in[1]->as<int32_t>();
  l.row_token = in.in[2]->as<int32_t>();
  l.slot_row = in.in[3]->as<int32_t>();
  l.weights = in.in[4]->as<float>();
  const float** biases[] = {&l.gate_bias, &l.up_bias, &l.down_bias};
  for (size_t i = 0; i < 3; i++) *biases[i] = bias_of(in, i) != nullptr ? bias_of(in, i)->as<float>() : nullptr;
  l.y = in.out[0]->as<float>();
  return l;
}

void prepare(Instruction& in) {
  require_counts(in, kBiases, kBiases + 3, 1, 1);
  require_tensor(in, in.in[0], "x", DType::kF32, 2);
  require_tensor(in, in.in[1], "expert offsets", DType::kI32, 1);
  require_tensor(in, in.in[2], "row token", DType::kI32, 1);
  require_tensor(in, in.in[3], "slot row", DType::kI32, 2);
  require_tensor(in, in.in[4], "combine weights", DType::kF32, 2);
  if (in.in[5] != nullptr) require_weight(in, in.in[5], "gate weight");
  require_weight(in, in.in[6], "up weight");
  require_weight(in, in.in[7], "down weight");
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  require_that(in, in.in[1]->shape[0] >= 2, "got fewer than 2 expert offsets, expected E + 1");
  require_that(in, in.attrs[0].i >= 0 && in.attrs[0].i <= 3, "got an unknown activation, expected 0 to 3");
  require_that(in, in.attrs[1].i >= 0 && in.attrs[1].i <= 2, "got another 'compute', expected 0 (f32), 1 (bf16) or 2 (int8)");
  require_that(in, in.attrs[2].f >= 0 && std::isfinite(in.attrs[2].f), "got another 'limit', expected 0 (none) or more");
  require_that(in, in.attrs[2].f == 0 || (in.in[5] != nullptr && in.attrs[0].i == 0),
               "got a limit without a gate by silu, expected one");
  const ExpertLayer l = layer_of(in);
  for (const Weight* w : {l.gate, l.up}) {
    if (w == nullptr) continue;
    require_dim(in, "experts of a weight", w->experts(), l.E);
    require_dim(in, "columns of gate and up", w->columns(), l.D);
    require_dim(in, "rows of gate and up", w->rows(), l.F);
  }
  require_dim(in, "experts of down", l.down->experts(), l.E);
  require_dim(in, "columns of down", l.down->columns(), l.F);
  require_dim(in, "rows of down", l.down->rows(), l.D);
  require_that(in, l.gate != nullptr || bias_of(in, 0) == nullptr, "got a gate bias without a gate, expected none");
  for (size_t i = 0; i < 3; i++) {
    const Operand* bias = bias_of(in, i);
    if (bias == nullptr) continue;
    require_tensor(in, bias, "a bias", DType::kF32, 2);
    require_dim(in, "experts of a bias", bias->shape[0], l.E);
    require_dim(in, "columns of a bias", bias->shape[1], i < 2 ? l.F : l.D);
  }
  require_dim(in, "rows of slot row", in.in[3]->shape[0], l.N);
  require_dim(in, "rows of combine weights", in.in[4]->shape[0], l.N);
  require_dim(in, "columns of combine weights", in.in[4]->shape[1], l.K);
  require_dim(in, "rows of y", in.out[0]->shape[0], l.N);
  require_dim(in, "columns of y", in.out[0]->shape[1], l.D);

  const ExpertScratch panels = by_panels_scratch(l), by_rows = by_rows_scratch(l);
  in.shared_scratch = aligned(checked_mul(checked_mul(l.R, l.D, "moe_experts"), 4, "moe_experts")) +
                      std::max(panels.shared, by_rows.shared);
  in.worker_scratch = std::max(panels.worker, by_rows.worker);
}

void run(const Instruction& in, const Context& context) {
  ExpertLayer l = layer_of(in);
  check_offsets("moe_experts", l.offsets, l.E, l.R);
  l.used = l.offsets[l.E];
  for (int64_t r = 0; r < l.used; r++) {
    if (l.row_token[r] >= 0 && l.row_token[r] < l.N) continue;
    fail(ErrorCode::kOption, "[moe_experts] got token %d for row %lld, expected 0 to %lld", l.row_token[r],
         static_cast<long long>(r), static_cast<long long>(l.N - 1));
  }
  const LinearTable& table = linear_table(context.tier);
  for (const Weight* w : {l.gate, l.up, l.down}) {
    if (w == nullptr) continue;
    const int64_t block = block_rows(table, form_of(table, w->format(), l.compute));
    if (block <= kMostBlockRows) continue;
    fail(ErrorCode::kNative, "[moe_experts] got blocks of %lld rows, expected %lld at most", static_cast<long long>(block),
         static_cast<long long>(kMostBlockRows));
  }
  const TileKernels& tiles = tile_kernels(context.tier);
  ScratchCursor scratch{context.shared_scratch};
  float* rows = reinterpret_cast<float*>(scratch.take(l.R * l.D * 4));
  (goes_by_rows(l, table, context.threads) ? run_by_rows : run_by_panels)(l, table, tiles, scratch.at, rows, context);
  context.phase("combine");
  std::fill(rows + l.used * l.D, rows + l.R * l.D, 0.0f);
  combine_rows(context, "moe_experts", rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y);
}

}  // namespace

void register_moe_experts(KernelRegistry& r) { r.add({"moe_experts", "activation:int,compute:int,limit:float,slope:float", prepare, run}); }

}  // namespace switchyard
