// `grouped_matmul_grad`: the gradient of experts' matrices, dw[e] = Σ over the rows of e, in their order, of dyᵀ x. Rows of both
// may be picked by ids; an expert without rows gets zeros.
#include "cuda/moe/grouped_tiles.h"

namespace switchyard::cuda {
namespace {

// Offsets of no experts have nobody else to look at them.
__global__ void check_first_offset(const int32_t* offsets, int64_t rows, ErrorWord* error, uint32_t instruction) {
  rows_in_order(offsets, 0, 0, rows, error, instruction);
}

void run(const Instruction& in, const Launch& on) {
  const auto rows = [&](int i) {
    const Operand *x = in.in[static_cast<size_t>(i)], *ids = in.in[static_cast<size_t>(i) + 3];
    return GroupedRows{x->as<float>(), ids != nullptr ? ids->as<int32_t>() : nullptr, x->shape[0], x->shape[1]};
  };
  const GroupedGradient p{rows(0), rows(1), in.in[2]->as<int32_t>(), in.out[0]->shape[0],
                          (in.in[3] != nullptr ? in.in[3] : in.in[0])->shape[0], in.out[0]->as<float>()};
  if (p.experts == 0) return launch(check_first_offset, 1, 1, 0, on, p.offsets, p.rows, on.error, in.number);
  const TileKind kind = choose_tile(p.dy.width, p.x.width, (p.rows + p.experts - 1) / p.experts, p.experts, *on.device);
  with_tile(kind, [&](auto tile) { launch_gradient<decltype(tile)>(p, in.number, on); });
}

}  // namespace

void register_grouped_matmul_grad(KernelTable& t) { t.add({"grouped_matmul_grad", run}); }

}  // namespace switchyard::cuda
