// `grouped_matmul`: rows that are grouped by expert, each times its expert's matrix of plain f32, and the same of a second pair
// of operands in one sum. Rows may be picked by ids; rows past the last offset are zeros.
#include "cuda/moe/grouped_tiles.h"

namespace switchyard::cuda {
namespace {

TileKind kind_of(int64_t rows, int64_t experts, int64_t n, int64_t k, const DeviceLimits& device) {
  return experts == 0 ? TileKind::kMultiplyAdd64 : choose_tile((rows + experts - 1) / experts, n, k, experts, device);
}

void run(const Instruction& in, const Launch& on) {
  const Shape& y = in.out[0]->shape;
  GroupedProduct p{{}, in.in[4] != nullptr ? 2 : 1, in.in[2]->as<int32_t>(), in.in[1]->shape[0], y[0], y[1], in.out[0]->as<float>()};
  for (int i = 0; i < p.count; i++) {
    const Operand *x = in.in[i == 0 ? 0 : 4], *w = in.in[i == 0 ? 1 : 5], *ids = i == 0 ? in.in[3] : nullptr;
    p.parts[i] = {x->as<float>(), w->as<float>(), ids != nullptr ? ids->as<int32_t>() : nullptr, x->shape[0], x->shape[1]};
  }
  with_tile(kind_of(p.rows, p.experts, p.n, p.parts[0].k, *on.device),
            [&](auto tile) { launch_grouped<decltype(tile)>(p, in.attrs[0].i != 0, in.number, on, on.scratch); });
}

int64_t scratch(const Instruction& in, const DeviceLimits&) {
  return grouped_scratch(in.out[0]->shape[0], in.in[1]->shape[0]);
}

}  // namespace

void register_grouped_matmul(KernelTable& t) { t.add({"grouped_matmul", run, scratch}); }

}  // namespace switchyard::cuda
