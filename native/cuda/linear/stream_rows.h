// Streaming products whose outputs are rows of f32.
#pragma once
#include <algorithm>

#include "cuda/linear/stream.h"

namespace switchyard::cuda {

// y[row, output] = sum + bias[expert, output] for each weight; y [rows, outputs] is aligned to 8 bytes, bias may be nullptr.
struct RowsStore {
  float* y[kMostStreamed] = {};
  int64_t outputs[kMostStreamed] = {};
  const float* bias = nullptr;  // of the first weight

  __device__ void operator()(const StreamTask& task, int panel, int tile, int g, int t, const float4 (&parts)[1]) const {
    const int64_t width = outputs[task.weight], output = int64_t{panel} * kPanel + 2 * g, row = tile * kTileRows + 2 * t;
    if (output >= width) return;
    const bool second = output + 1 < width;
    const float* from = bias == nullptr ? nullptr : bias + task.expert * width + output;
    const float b0 = from == nullptr ? 0 : from[0], b1 = from == nullptr || !second ? 0 : from[1];
    const float4 v = parts[0];
    const float values[2][2] = {{v.x + b0, v.z + b1}, {v.y + b0, v.w + b1}};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (row + i >= task.rows) return;
      float* to = y[task.weight] + (task.row + row + i) * width + output;
      if (width % 2 == 0) {
        *reinterpret_cast<float2*>(to) = make_float2(values[i][0], values[i][1]);
      } else {
        to[0] = values[i][0];
        if (second) to[1] = values[i][1];
      }
    }
  }
};

// launch_stream<1>() with this end, built once (few.cu).
void launch_stream_rows(std::span<const DeviceWeight* const> weights, const PlanRows& plan, const std::byte* tiles,
                        const StreamTuning& tuning, const RowsStore& store, uint32_t instruction, const Launch& on);

}  // namespace switchyard::cuda
