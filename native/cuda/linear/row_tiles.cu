#include "cuda/linear/row_tiles.h"

#include <algorithm>

#include "cuda/device/async.h"
#include "cuda/device/float16.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStepsPerBlock = 32;  // enough blocks for few rows

// Block (i, j): steps from 32·i on of tile j.
__global__ void row_tiles_kernel(const float* x, PlanRows plan, int64_t columns, TileOrder order, std::byte* tiles,
                                 const __grid_constant__ ClearedRows cleared, ErrorWord* error, uint32_t instruction) {
  wait_for_previous_grid();
  start_next_grid();  // only now: the next one reads offsets before it waits for this one
  SWITCHYARD_SHARED(shared);
  auto* found = reinterpret_cast<int64_t*>(shared);  // the first row of the tile, and its expert's end
  const int64_t tile = blockIdx.y, steps = tile_steps(columns);
  if (threadIdx.x == 0) found[0] = found[1] = 0;
  __syncthreads();
  for (int64_t e = threadIdx.x; e < plan.experts; e += blockDim.x) {
    const int64_t begin = plan.offset(e), end = plan.offset(e + 1);
    if (begin < 0 || end < begin || end > plan.rows) continue;  // the products report it
    const int64_t row = begin + (tile - tile_begin(e, begin)) * kTileRows;
    if (row >= begin && row < end) found[0] = row, found[1] = end;
  }
  __syncthreads();
  const int64_t row = found[0], end = found[1];
  if (row < end) {
    auto* to = reinterpret_cast<uint32_t*>(tiles + tile * steps * kTileStepBytes);
    const int places = tile_places(end - row), words = 8 * places;  // of a step
    const int64_t first = int64_t{blockIdx.x} * kStepsPerBlock, last = min(first + kStepsPerBlock, steps);
    for (int64_t i = first * words + threadIdx.x; i < last * words; i += blockDim.x) {
      const int at = static_cast<int>(i % words), n = at / 8;
      const int64_t k = i / words * kStepColumns + tile_column(order, at / 2 % 4, at % 2);
      uint32_t pair = 0;
      if (row + n < end && k < columns) {
        const int64_t token = plan.row_token == nullptr ? row + n : plan.row_token[row + n];
        if (in_range(error, instruction, row + n, token, plan.tokens)) {
          const float* from = x + token * columns + k;
          pair = pack_bf16(from[0], k + 1 < columns ? from[1] : 0.0f);
        }
      }
      to[i] = pair;
    }
  }
  const int64_t used = min(max(plan.offset(plan.experts), int64_t{0}), plan.rows);
  const int64_t block = int64_t{blockIdx.y} * gridDim.x + blockIdx.x, all = int64_t{gridDim.x} * gridDim.y * blockDim.x;
  for (int c = 0; c < ClearedRows::kMost && cleared.y[c] != nullptr; c++) {
    const int64_t n = (plan.rows - used) * cleared.columns[c];
    for (int64_t i = block * blockDim.x + threadIdx.x; i < n; i += all) cleared.y[c][used * cleared.columns[c] + i] = 0;
  }
}

}  // namespace

void launch_row_tiles(const float* x, const PlanRows& plan, int64_t columns, TileOrder order, std::byte* tiles,
                      const ClearedRows& cleared, uint32_t instruction, const Launch& on) {
  const int64_t blocks = std::max<int64_t>(1, (tile_steps(columns) + kStepsPerBlock - 1) / kStepsPerBlock);
  // Without experts the tiles are known here; with them most places stay empty.
  const int64_t places = plan.offsets == nullptr ? (plan.rows + kTileRows - 1) / kTileRows : tile_begin(plan.experts, plan.rows) + 1;
  launch(Start::kEarly, row_tiles_kernel, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(places)), kThreads, 64, on, x, plan, columns,
         order, tiles, cleared, on.error, instruction);
}

}  // namespace switchyard::cuda
