// `grouped_matmul`: rows that are grouped by expert, each times its expert's matrix of plain f32, and the same of a second pair
// of operands in one sum. Rows may be picked by ids; rows past the last offset are zeros.
#include "cuda/linear/tile_choice.h"
#include "cuda/linear/tile_product.h"
#include "cuda/linear/tiles.h"

namespace switchyard::cuda {
namespace {

struct GroupedProduct {
  struct Part {
    const float *x, *w;
    const int32_t* ids;
    int64_t x_rows, k;
  } parts[2];
  int count;
  float* y;
  int64_t n, tiles_across;
  RowTiles tiles;
};

template <class C, bool kTranspose>
__global__ void __launch_bounds__(kTileThreads, C::kBlocks) grouped_matmul_kernel(GroupedProduct p, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_SHARED(shared);
  const RowTile tile = p.tiles.at(blockIdx.x / p.tiles_across);
  if (tile.rows == 0) return;
  const int64_t row = tile.first, column = blockIdx.x % p.tiles_across * C::kColumns;
  TileProduct t;
  t.count = tile.expert < 0 ? 0 : p.count;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const GroupedProduct::Part& part = p.parts[i];
    const float* w = part.w + tile.expert * p.n * part.k;
    t.parts[i].a = part.ids != nullptr ? Lines{part.x, part.k, part.ids + row, part.x_rows, row} : Lines{part.x + row * part.k, part.k};
    t.parts[i].b = kTranspose ? Lines{w + column, p.n} : Lines{w + column * part.k, part.k};
    t.parts[i].k = part.k;
  }
  t.rows = tile.rows;
  t.columns = static_cast<int>(min(int64_t{C::kColumns}, p.n - column));
  t.c = p.y + row * p.n + column, t.stride = p.n;
  t.error = error, t.instruction = instruction;
  write_tile<C, true, !kTranspose>(t, shared);
}

struct Shapes {
  int64_t experts, rows, n, k;
  explicit Shapes(const Instruction& in)
      : experts(in.in[1]->shape[0]), rows(in.out[0]->shape[0]), n(in.out[0]->shape[1]), k(in.in[0]->shape[1]) {}
  TileKind kind(const DeviceLimits& device) const {
    return experts == 0 ? TileKind::kMultiplyAdd64 : choose_tile((rows + experts - 1) / experts, n, k, experts, device);
  }
};

template <class C, bool kTranspose>
void start(GroupedProduct p, uint32_t instruction, const Launch& on) {
  p.tiles_across = (p.n + C::kColumns - 1) / C::kColumns;
  launch(grouped_matmul_kernel<C, kTranspose>, tile_grid(p.tiles.bound * p.tiles_across), kTileThreads,
         TileSteps<C, true, !kTranspose>::kShared, on, p, on.error, instruction);
}

void run(const Instruction& in, const Launch& on) {
  const Shapes s(in);
  GroupedProduct p{{}, in.in[4] != nullptr ? 2 : 1, in.out[0]->as<float>(), s.n, 0, {}};
  for (int i = 0; i < p.count; i++) {
    const Operand *x = in.in[i == 0 ? 0 : 4], *w = in.in[i == 0 ? 1 : 5], *ids = i == 0 ? in.in[3] : nullptr;
    p.parts[i] = {x->as<float>(), w->as<float>(), ids != nullptr ? ids->as<int32_t>() : nullptr, x->shape[0], x->shape[1]};
  }
  with_tile(s.kind(*on.device), [&](auto tile) {
    using C = decltype(tile);
    p.tiles = launch_tiles(in.in[2]->as<int32_t>(), s.rows, s.experts, C::kRows, in.number, on, on.scratch);
    in.attrs[0].i != 0 ? start<C, true>(p, in.number, on) : start<C, false>(p, in.number, on);
  });
}

int64_t scratch(const Instruction& in, const DeviceLimits&) {
  const Shapes s(in);
  return tiles_scratch(s.rows, s.experts, MultiplyAdd64::kRows);
}

}  // namespace

void register_grouped_matmul(KernelTable& t) { t.add({"grouped_matmul", run, scratch}); }

}  // namespace switchyard::cuda
