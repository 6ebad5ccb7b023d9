// `matmul`: dense f32 products, batched, with transposed operands.
#include "cuda/linear/matmul_tiles.h"

namespace switchyard::cuda {
namespace {

template <class C>
void start(const Matmul& p, bool transpose_a, bool transpose_b, uint32_t instruction, const Launch& on) {
  if (transpose_a) {
    transpose_b ? launch_matmul<C, true, true>(p, instruction, on) : launch_matmul<C, true, false>(p, instruction, on);
  } else {
    transpose_b ? launch_matmul<C, false, true>(p, instruction, on) : launch_matmul<C, false, false>(p, instruction, on);
  }
}

void run(const Instruction& in, const Launch& on) {
  const Shape &a = in.in[0]->shape, &b = in.in[1]->shape, &c = in.out[0]->shape;
  const bool transpose_a = in.attrs[0].i != 0, transpose_b = in.attrs[1].i != 0;
  const Matmul p{in.in[0]->as<float>(), in.in[1]->as<float>(), in.out[0]->as<float>(), c[0], c[1], c[2],
                 transpose_a ? a[1] : a[2], b[0] == 1, 0, 0};
  with_tile(choose_tile(p.m, p.n, p.k, p.batch, *on.device),
            [&](auto tile) { start<decltype(tile)>(p, transpose_a, transpose_b, in.number, on); });
}

}  // namespace

void register_matmul(KernelTable& t) { t.add({"matmul", run}); }

}  // namespace switchyard::cuda
