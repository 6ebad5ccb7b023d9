// The experts of a layer as a composition of f32 products: gate and up of each row of the plan, what they make of their
// pre-activations, down, and the weighted sum of each token's rows.
#include "cuda/linear/exact.h"
#include "cuda/moe/combine.h"
#include "cuda/moe/experts.h"
#include "cuda/moe/hidden.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kAlign = 256;
int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Scratch: tiles, then gate and up [R, F] (up alone without a gate), then rows [R, D].
struct Scratch {
  int per_tile;
  int64_t tiles, hidden, rows;  // bytes
  explicit Scratch(const ExpertLayer& l)
      : per_tile(exact_tile_rows(l.R, l.E)),
        tiles(aligned(tiles_scratch(l.R, l.E, per_tile))),
        hidden(aligned(4 * l.R * l.F)),
        rows(aligned(4 * l.R * l.D)) {}
};

// Every element of the rows of a tile, a column a thread: do_it(place in [R, width], place in the expert's bias).
template <class F>
__device__ inline void each_of_tile(const RowTiles& tiles, int64_t width, const F& do_it) {
  const RowTile tile = tiles.at(blockIdx.x);
  const int64_t i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (tile.expert < 0 || i >= width) return;  // rows without an expert: their products are zero, and nobody reads them
  for (int64_t r = 0; r < tile.rows; r++) do_it((tile.first + r) * width + i, tile.expert * width + i);
}

// y = act(gate)·up, each with its bias; y may be up.
__global__ void __launch_bounds__(kThreads) hidden_kernel(RowTiles tiles, HiddenRule rule, const float* gate, const float* up,
                                                          const float* gate_bias, const float* up_bias, int64_t F, float* y) {
  each_of_tile(tiles, F, [&](int64_t at, int64_t bias) {
    const float u = up[at] + (up_bias != nullptr ? up_bias[bias] : 0.0f);
    y[at] = gate == nullptr ? activated(rule.activation, u)
                            : gated(rule, gate[at] + (gate_bias != nullptr ? gate_bias[bias] : 0.0f), u);
  });
}

__global__ void __launch_bounds__(kThreads) bias_kernel(RowTiles tiles, const float* b, int64_t width, float* y) {
  each_of_tile(tiles, width, [&](int64_t at, int64_t bias) { y[at] += b[bias]; });
}

template <class Kernel, class... A>
void launch_over_tiles(Kernel kernel, const RowTiles& tiles, int64_t width, const Launch& on, A... args) {
  const dim3 grid(static_cast<unsigned>(tiles.bound), static_cast<unsigned>((width + kThreads - 1) / kThreads));
  launch(kernel, grid, kThreads, 0, on, tiles, args...);
}

}  // namespace

int64_t exact_scratch(const ExpertLayer& l, const DeviceLimits&) {
  const Scratch s(l);
  return s.tiles + (l.gate != nullptr ? 2 : 1) * s.hidden + s.rows;
}

void launch_exact(const ExpertLayer& l, uint32_t instruction, const Launch& on) {
  const Scratch s(l);
  float* up = reinterpret_cast<float*>(on.scratch + s.tiles);
  float* gate = l.gate != nullptr ? reinterpret_cast<float*>(on.scratch + s.tiles + s.hidden) : nullptr;
  float* rows = reinterpret_cast<float*>(on.scratch + s.tiles + (l.gate != nullptr ? 2 : 1) * s.hidden);
  const RowTiles tiles = launch_tiles(l.offsets, l.R, l.E, s.per_tile, instruction, on, on.scratch);

  Product p;
  p.x = l.x, p.row_token = l.row_token, p.offsets = l.offsets;
  p.tokens = l.N, p.rows = l.R, p.experts = l.E;
  p.weight = l.up, p.y = up;
  launch_exact(p, tiles, instruction, on);
  if (l.gate != nullptr) {
    p.weight = l.gate, p.y = gate;
    launch_exact(p, tiles, instruction, on);
  }
  const HiddenRule rule{l.activation, l.limit, l.slope};
  launch_over_tiles(hidden_kernel, tiles, l.F, on, rule, gate, up, l.gate_bias, l.up_bias, l.F, up);
  p.x = up, p.row_token = nullptr, p.tokens = l.R;
  p.weight = l.down, p.y = rows;
  launch_exact(p, tiles, instruction, on);
  if (l.down_bias != nullptr) launch_over_tiles(bias_kernel, tiles, l.D, on, l.down_bias, l.D, rows);
  launch_combine(rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y, instruction, on);
}

}  // namespace switchyard::cuda
