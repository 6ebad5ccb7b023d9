#include "cuda/linear/many_tiles.h"

#include "cuda/device/launch.h"
#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda::many {
namespace {

// One warp. An expert's rows begin where the largest end so far lies, so that segments never overlap.
__global__ void tiles_kernel(const int32_t* offsets, int64_t experts, int32_t rows, int32_t tile_rows, TileList list,
                             uint32_t instruction, ErrorWord* error) {
  const int lane = static_cast<int>(threadIdx.x);
  int32_t end_before = 0, tiles_before = 0;
  if (offsets != nullptr && lane == 0 && offsets[0] != 0) report(error, instruction, ErrorKind::kIndex, 0, offsets[0], 0, 0);
  for (int64_t base = 0; base < experts; base += 32) {
    const int64_t e = base + lane;
    int32_t end = 0;
    if (e < experts) {
      const int32_t given = offsets == nullptr ? rows : offsets[e + 1], previous = offsets == nullptr ? 0 : offsets[e];
      if (given < previous || given > rows) report(error, instruction, ErrorKind::kIndex, e + 1, given, previous, rows);
      end = given < 0 ? 0 : given > rows ? rows : given;
    }
    for (int by = 1; by < 32; by *= 2) {
      const int32_t other = __shfl_up_sync(kAllLanes, end, by);
      if (lane >= by && other > end) end = other;
    }
    if (end < end_before) end = end_before;
    const int32_t up = __shfl_up_sync(kAllLanes, end, 1), begin = lane == 0 ? end_before : up;
    const int32_t mine = (end - begin + tile_rows - 1) / tile_rows;
    const int32_t last = tiles_before + warp_scan(mine);
    if (e < experts) list.starts[e] = last - mine;
    for (int from = 0; from < 32; from++) {
      const int32_t count = __shfl_sync(kAllLanes, mine, from), at = __shfl_sync(kAllLanes, last, from) - count;
      const int32_t first = __shfl_sync(kAllLanes, begin, from), stop = __shfl_sync(kAllLanes, end, from);
      for (int32_t i = lane; i < count; i += 32) {
        const int32_t row = first + i * tile_rows, left = stop - row;
        const int32_t place = i % kBlockTiles, block = min(kBlockTiles, count - i + place);
        list.tiles[at + i] = {static_cast<int32_t>(base + from), row, min(left, tile_rows), static_cast<int16_t>(place),
                              static_cast<int16_t>(block)};
      }
    }
    tiles_before = __shfl_sync(kAllLanes, last, 31);
    end_before = __shfl_sync(kAllLanes, end, 31);
  }
  if (lane == 0) list.starts[experts] = tiles_before, *list.used = end_before;
}

// Eight values a thread.
template <bool kWide>
__global__ void round_kernel(const float* x, int64_t rows, int64_t columns, int64_t stride, Bf16* out) {
  const int64_t units = stride / 8;
  SWITCHYARD_GRID_STRIDE(i, rows * units) {
    const int64_t row = i / units, column = i % units * 8;
    float v[8];
    if (kWide && column + 8 <= columns) {
      const auto* from = reinterpret_cast<const float4*>(x + row * columns + column);
      const float4 a = from[0], b = from[1];
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
      for (int j = 0; j < 8; j++) v[j] = column + j < columns ? x[row * columns + column + j] : 0.0f;
    }
    *reinterpret_cast<uint4*>(out + row * stride + column) =
        make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
  }
}

template <class T>
__global__ void clear_unused_kernel(T* y, int64_t rows, int64_t columns, const int32_t* used) {
  T* from = y + *used * columns;
  SWITCHYARD_GRID_STRIDE(i, (rows - *used) * columns) from[i] = T{};
}

}  // namespace

void launch_tile_list(const int32_t* offsets, int64_t experts, int64_t rows, int tile_rows, const TileList& list,
                      uint32_t instruction, const Launch& on) {
  launch(tiles_kernel, 1, 32, 0, on, offsets, offsets == nullptr ? 1 : experts, static_cast<int32_t>(rows), tile_rows, list,
         instruction, on.error);
}

void launch_round(const float* x, int64_t rows, int64_t columns, Bf16* out, const Launch& on) {
  const bool wide = columns % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
  const int64_t stride = padded_columns(columns);
  launch(wide ? round_kernel<true> : round_kernel<false>, grid_for(rows * stride / 8, 256, on), 256, 0, on, x, rows, columns,
         stride, out);
}

void launch_clear_unused(float* y, int64_t rows, int64_t columns, const TileList& list, const Launch& on) {
  launch(clear_unused_kernel<float>, grid_for(rows * columns / 32, 256, on), 256, 0, on, y, rows, columns,
         static_cast<const int32_t*>(list.used));
}
void launch_clear_unused(Bf16* y, int64_t rows, int64_t columns, const TileList& list, const Launch& on) {
  launch(clear_unused_kernel<Bf16>, grid_for(rows * columns / 32, 256, on), 256, 0, on, y, rows, columns,
         static_cast<const int32_t*>(list.used));
}

}  // namespace switchyard::cuda::many
