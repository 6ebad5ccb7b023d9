// Rows of a grouped product in tiles that belong to one expert each. Offsets are known on the device only: a small kernel lists
// the tiles, and grids are made for the most tiles that there can be.
#pragma once
#include <algorithm>

#include "cuda/device/launch.h"

namespace switchyard::cuda {

struct __align__(16) RowTile {
  int32_t expert;  // -1: rows of no expert, past the last offset
  int32_t first, rows;
  int32_t unused;
};

struct RowTiles {
  const RowTile* list = nullptr;  // [bound] on the device, those past the last of no rows; nullptr: all rows are of expert 0
  int64_t bound = 0;
  int64_t rows = 0;               // of all tiles
  int per_tile = 1;

  __device__ RowTile at(int64_t i) const {
    if (list == nullptr) {
      const int64_t first = i * per_tile, left = rows - first;
      return {0, static_cast<int32_t>(first), static_cast<int32_t>(left < per_tile ? left : per_tile), 0};
    }
    const int4 t = __ldg(reinterpret_cast<const int4*>(list + i));
    return {t.x, t.y, t.z, 0};
  }
};

// The most tiles of `rows` rows and `experts` experts; rows past the last offset count as one more.
inline int64_t tiles_bound(int64_t rows, int64_t experts, int per_tile) {
  return std::min(rows, (rows + std::min(experts + 1, rows) * (per_tile - 1)) / per_tile);
}

// Bytes of scratch of launch_tiles().
int64_t tiles_scratch(int64_t rows, int64_t experts, int per_tile);

// Lists the tiles of offsets [experts + 1] at `scratch`, tiles of an expert one after another, in the order of rows. Offsets
// must start at 0, never fall, and end at most at `rows`; else the first that does not is reported, and no row has an expert.
// offsets nullptr: one group, and nothing is launched.
RowTiles launch_tiles(const int32_t* offsets, int64_t rows, int64_t experts, int per_tile, uint32_t instruction,
                      const Launch& on, std::byte* scratch);

}  // namespace switchyard::cuda
