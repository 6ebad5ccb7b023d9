#include "cuda/linear/tiles.h"

#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 512;

// starts: scratch [experts + 1], the first tile of each expert and of the rows past the last offset.
__global__ void __launch_bounds__(kThreads) tiles_kernel(const int32_t* offsets, int64_t experts, int32_t rows, int per_tile,
                                                         int32_t* starts, RowTile* list, int64_t bound, uint32_t instruction,
                                                         ErrorWord* error) {
  int wrong = 0;
  for (int64_t e = threadIdx.x; e <= experts; e += kThreads) {
    const int32_t low = e == 0 ? 0 : offsets[e - 1], high = e == 0 ? 0 : rows;
    if (offsets[e] >= low && offsets[e] <= high) continue;
    report(error, instruction, ErrorKind::kIndex, e, offsets[e], low, high);
    wrong = 1;
  }
  const bool right = block_reduce<kThreads>(wrong, Add()) == 0;
  const auto first_of = [&](int64_t e) { return e > experts ? rows : right ? offsets[e] : 0; };

  int32_t before = 0;
  for (int64_t base = 0; base <= experts; base += kThreads) {
    const int64_t e = base + threadIdx.x;
    const int32_t tiles = e <= experts ? (first_of(e + 1) - first_of(e) + per_tile - 1) / per_tile : 0;
    int32_t total;
    const int32_t through = block_scan<kThreads>(tiles, &total);
    if (e <= experts) starts[e] = before + through - tiles;
    before += total;
  }
  __syncthreads();

  for (int64_t i = threadIdx.x; i < bound; i += kThreads) {
    RowTile tile{-1, 0, 0, 0};
    if (i < before) {
      int64_t low = 0, high = experts + 1;  // the last e whose first tile is i or earlier
      while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        (starts[middle] <= i ? low : high) = middle;
      }
      const int32_t first = first_of(low) + static_cast<int32_t>(i - starts[low]) * per_tile, left = first_of(low + 1) - first;
      tile = {low < experts ? static_cast<int32_t>(low) : -1, first, left < per_tile ? left : per_tile, 0};
    }
    list[i] = tile;
  }
}

int64_t list_bytes(int64_t rows, int64_t experts, int per_tile) {
  return tiles_bound(rows, experts, per_tile) * static_cast<int64_t>(sizeof(RowTile));
}

}  // namespace

int64_t tiles_scratch(int64_t rows, int64_t experts, int per_tile) {
  return list_bytes(rows, experts, per_tile) + (experts + 1) * static_cast<int64_t>(sizeof(int32_t));
}

RowTiles launch_tiles(const int32_t* offsets, int64_t rows, int64_t experts, int per_tile, uint32_t instruction,
                      const Launch& on, std::byte* scratch) {
  RowTiles tiles;
  tiles.rows = rows, tiles.per_tile = per_tile;
  if (offsets == nullptr) {
    tiles.bound = (rows + per_tile - 1) / per_tile;
    return tiles;
  }
  tiles.bound = tiles_bound(rows, experts, per_tile);
  RowTile* list = reinterpret_cast<RowTile*>(scratch);
  tiles.list = list;
  launch(tiles_kernel, 1, kThreads, 0, on, offsets, experts, static_cast<int32_t>(rows), per_tile,
         reinterpret_cast<int32_t*>(scratch + list_bytes(rows, experts, per_tile)), list, tiles.bound, instruction, on.error);
  return tiles;
}

}  // namespace switchyard::cuda
