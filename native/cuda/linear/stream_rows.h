// Streaming products whose outputs are rows of f32, and how many panels their tasks have.
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

// The largest of `choices` (in rising order) among those that leave the fewest multiprocessors idle, within 2 %, where `panels`
// panels are cut in tasks of so many.
inline int task_panels(int64_t panels, int multiprocessors, std::initializer_list<int> choices) {
  int best = *choices.begin();
  double best_share = 0;
  for (const int c : choices) {
    const int64_t tasks = (panels + c - 1) / c, rounds = (tasks + multiprocessors - 1) / multiprocessors;
    const double share = static_cast<double>(tasks) / static_cast<double>(std::max<int64_t>(1, rounds * multiprocessors));
    if (share >= best_share - 0.02) best = c;
    best_share = std::max(best_share, share);
  }
  return best;
}

}  // namespace switchyard::cuda
