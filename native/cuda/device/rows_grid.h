// Grids for work on rows: threads of a block side by side along a row as far as it is long, the rest of them on further rows.
#pragma once
#include <algorithm>

#include "cuda/device/launch.h"

namespace switchyard::cuda {

struct RowsGrid {
  dim3 grid, block;
};

// For rows of `columns` elements. Blocks walk on over rows by the grid's height (x), threads over columns by its width (y):
//   for (row = blockIdx.x · blockDim.y + threadIdx.y; row < rows; row += gridDim.x · blockDim.y)
//     for (column = blockIdx.y · blockDim.x + threadIdx.x; column < columns; column += gridDim.y · blockDim.x)
inline RowsGrid rows_grid(int64_t rows, int64_t columns, const Launch& on) {
  constexpr int64_t kThreads = 256, kPerThread = 4;
  int64_t wide = 1;
  while (wide < kThreads && wide < columns) wide *= 2;
  const int64_t high = kThreads / wide, most = int64_t{on.device->multiprocessors} * 32;
  const int64_t down = std::min((rows + high - 1) / high, most);
  // Few rows are cut along their columns too.
  const int64_t across = std::min((columns + wide * kPerThread - 1) / (wide * kPerThread), down > 0 ? (most + down - 1) / down : 0);
  return {dim3(static_cast<unsigned>(down), static_cast<unsigned>(std::min<int64_t>(across, 65535))),
          dim3(static_cast<unsigned>(wide), static_cast<unsigned>(high))};
}

#define SWITCHYARD_ROWS(row, rows)                                                                       \
  for (int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, row##_step = int64_t{gridDim.x} * blockDim.y; \
       row < (rows); row += row##_step)
#define SWITCHYARD_COLUMNS(column, columns)                                                                    \
  for (int64_t column = int64_t{blockIdx.y} * blockDim.x + threadIdx.x, column##_step = int64_t{gridDim.y} * blockDim.x; \
       column < (columns); column += column##_step)

}  // namespace switchyard::cuda
