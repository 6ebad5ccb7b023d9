// `grouped_matmul_grad`: the gradient of experts' matrices, dw[e] = Σ over the rows of e, in their order, of dyᵀ x. Rows of both
// may be picked by ids; an expert without rows gets zeros.
#include "cuda/linear/tile_choice.h"
#include "cuda/linear/tile_product.h"

namespace switchyard::cuda {
namespace {

struct Rows {
  const float* x;
  const int32_t* ids;
  int64_t count, width;

  // From row `first` on, columns from `column` on.
  __device__ Lines lines(int64_t first, int64_t column) const {
    return ids != nullptr ? Lines{x + column, width, ids + first, count, first} : Lines{x + first * width + column, width};
  }
};

struct Gradient {
  Rows dy, x;
  const int32_t* offsets;
  int64_t experts, rows;
  float* dw;
  int64_t tiles_down, tiles_across;
};

// Whether the rows of expert e are in order, as check_offsets() of cpu/linear.h asks; else the first offset that is not is
// reported.
__device__ bool rows_in_order(const int32_t* offsets, int64_t e, int64_t experts, int64_t rows, ErrorWord* error,
                              uint32_t instruction) {
  for (int64_t i = e; i <= e + 1 && i <= experts; i++) {
    const int64_t low = i == 0 ? 0 : offsets[i - 1], high = i == 0 ? 0 : rows;
    if (offsets[i] >= low && offsets[i] <= high) continue;
    report(error, instruction, ErrorKind::kIndex, i, offsets[i], low, high);
    return false;
  }
  return true;
}

template <class C>
__global__ void __launch_bounds__(kTileThreads, C::kBlocks) grouped_matmul_grad_kernel(Gradient p, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_SHARED(shared);
  const int64_t per_expert = p.tiles_down * p.tiles_across;
  const int64_t e = blockIdx.x / per_expert, tile = blockIdx.x % per_expert;
  const int64_t row = tile / p.tiles_across * C::kRows, column = tile % p.tiles_across * C::kColumns;
  // Offsets that are out of order stand for an expert without rows.
  const bool ok = rows_in_order(p.offsets, e, p.experts, p.rows, error, instruction);
  const int64_t first = ok ? p.offsets[e] : 0, end = ok ? p.offsets[e + 1] : 0;
  TileProduct t;
  t.count = 1, t.parts[0] = {p.dy.lines(first, row), p.x.lines(first, column), end - first};
  t.rows = static_cast<int>(min(int64_t{C::kRows}, p.dy.width - row));
  t.columns = static_cast<int>(min(int64_t{C::kColumns}, p.x.width - column));
  t.c = p.dw + (e * p.dy.width + row) * p.x.width + column, t.stride = p.x.width;
  t.error = error, t.instruction = instruction;
  write_tile<C, false, false>(t, shared);
}

// Offsets of no experts have nobody else to look at them.
__global__ void check_first_offset(const int32_t* offsets, int64_t rows, ErrorWord* error, uint32_t instruction) {
  rows_in_order(offsets, 0, 0, rows, error, instruction);
}

void run(const Instruction& in, const Launch& on) {
  const auto rows = [&](int i) {
    const Operand *x = in.in[static_cast<size_t>(i)], *ids = in.in[static_cast<size_t>(i) + 3];
    return Rows{x->as<float>(), ids != nullptr ? ids->as<int32_t>() : nullptr, x->shape[0], x->shape[1]};
  };
  Gradient p{rows(0), rows(1), in.in[2]->as<int32_t>(), in.out[0]->shape[0],
             (in.in[3] != nullptr ? in.in[3] : in.in[0])->shape[0], in.out[0]->as<float>(), 0, 0};
  if (p.experts == 0) return launch(check_first_offset, 1, 1, 0, on, p.offsets, p.rows, on.error, in.number);
  const TileKind kind = choose_tile(p.dy.width, p.x.width, (p.rows + p.experts - 1) / p.experts, p.experts, *on.device);
  with_tile(kind, [&](auto tile) {
    using C = decltype(tile);
    p.tiles_down = (p.dy.width + C::kRows - 1) / C::kRows, p.tiles_across = (p.x.width + C::kColumns - 1) / C::kColumns;
    launch(grouped_matmul_grad_kernel<C>, tile_grid(p.experts * p.tiles_down * p.tiles_across), kTileThreads,
           TileSteps<C, false, false>::kShared, on, p, on.error, in.number);
  });
}

}  // namespace

void register_grouped_matmul_grad(KernelTable& t) { t.add({"grouped_matmul_grad", run}); }

}  // namespace switchyard::cuda
