// `matmul`: dense f32 products, batched, with transposed operands.
#include "cuda/linear/tile_product.h"
#include "cuda/linear/tile_choice.h"

namespace switchyard::cuda {
namespace {

struct Matmul {
  const float *a, *b;
  float* c;
  int64_t batch, m, n, k;
  bool shared_b;  // one b for all of the batch
  int64_t tiles_down, tiles_across;
};

// Tiles of this many rows in turn share what they read of b.
constexpr int64_t kTogether = 8;

template <class C, bool kTransposeA, bool kTransposeB>
__global__ void __launch_bounds__(kTileThreads) matmul_kernel(Matmul p, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_SHARED(shared);
  const int64_t per_matrix = p.tiles_down * p.tiles_across;
  const int64_t at = blockIdx.x / per_matrix, tile = blockIdx.x % per_matrix;
  const int64_t first = tile / (kTogether * p.tiles_across) * kTogether, within = tile % (kTogether * p.tiles_across);
  const int64_t together = min(kTogether, p.tiles_down - first);
  const int64_t row = (first + within % together) * C::kRows, column = within / together * C::kColumns;

  const float *a = p.a + at * p.m * p.k, *b = p.b + (p.shared_b ? 0 : at * p.n * p.k);
  TileProduct t;
  t.count = 1, t.parts[0].k = p.k;
  t.parts[0].a = kTransposeA ? Lines{a + row, p.m} : Lines{a + row * p.k, p.k};
  t.parts[0].b = kTransposeB ? Lines{b + column * p.k, p.k} : Lines{b + column, p.n};
  t.rows = static_cast<int>(min(int64_t{C::kRows}, p.m - row));
  t.columns = static_cast<int>(min(int64_t{C::kColumns}, p.n - column));
  t.c = p.c + (at * p.m + row) * p.n + column, t.stride = p.n;
  t.error = error, t.instruction = instruction;
  write_tile<C, !kTransposeA, kTransposeB>(t, shared);
}

template <class C, bool kTransposeA, bool kTransposeB>
void start(Matmul p, uint32_t instruction, const Launch& on) {
  p.tiles_down = (p.m + C::kRows - 1) / C::kRows, p.tiles_across = (p.n + C::kColumns - 1) / C::kColumns;
  launch(matmul_kernel<C, kTransposeA, kTransposeB>, tile_grid(p.batch * p.tiles_down * p.tiles_across), kTileThreads,
         TileSteps<C, !kTransposeA, kTransposeB>::kShared, on, p, on.error, instruction);
}

template <class C>
void start(const Matmul& p, bool transpose_a, bool transpose_b, uint32_t instruction, const Launch& on) {
  if (transpose_a) {
    transpose_b ? start<C, true, true>(p, instruction, on) : start<C, true, false>(p, instruction, on);
  } else {
    transpose_b ? start<C, false, true>(p, instruction, on) : start<C, false, false>(p, instruction, on);
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
