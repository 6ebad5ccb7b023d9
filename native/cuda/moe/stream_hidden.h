// Streaming products whose outputs are the hidden activations of experts.
#pragma once
#include "cuda/linear/stream.h"
#include "cuda/moe/hidden.h"

namespace switchyard::cuda {

// act(gate)·up, or act(up), to row tiles: a panel is a step of them. Outputs past F have no weights and no bias.
struct HiddenStore {
  HiddenRule rule;
  const float *gate_bias = nullptr, *up_bias = nullptr;
  int64_t outputs = 0;  // F
  TileOrder order = TileOrder::kNatural;
  uint32_t* tiles = nullptr;

  __device__ float biased(const float* bias, int64_t expert, int64_t output, float sum) const {
    return bias == nullptr || output >= outputs ? sum : sum + bias[expert * outputs + output];
  }
  template <int kParts>
  __device__ float value(int64_t expert, int64_t output, const float (&sums)[kParts]) const {
    const float up = biased(up_bias, expert, output, sums[kParts - 1]);
    if constexpr (kParts == 1) return activated(rule.activation, up);
    return gated(rule, biased(gate_bias, expert, output, sums[0]), up);
  }
  template <int kParts>
  __device__ void operator()(const StreamTask& task, int panel, int tile, int g, int t, const float4 (&parts)[kParts]) const {
    const int64_t output = int64_t{panel} * kPanel + 2 * g;
    float sums[4][kParts];
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      sums[0][part] = parts[part].x, sums[1][part] = parts[part].y, sums[2][part] = parts[part].z, sums[3][part] = parts[part].w;
    }
    const int places = tile_places(task.rows - tile * kTileRows), step = 8 * places;  // words
    uint32_t* to = tiles + (task.tile + tile) * tile_steps(outputs) * (kTileStepBytes / 4) + int64_t{panel} * step +
                   (order == TileOrder::kNatural ? g % 4 * 2 + g / 4 : g);
    // The last step of an odd number is half a chunk: the other half is zero.
    const bool ends = panel % 2 == 0 && 16 * (panel + 1) >= outputs;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (2 * t + i >= places) return;
      uint32_t* row = to + (2 * t + i) * 8;
      row[0] = pack_bf16(value(task.expert, output, sums[i]), value(task.expert, output + 1, sums[2 + i]));
      if (ends) row[step] = 0;
    }
  }
};

// launch_stream() with this end, for experts with and without a gate; built once each (stream_gated.cu, stream_plain.cu).
void launch_stream_gated(const DeviceWeight& gate, const DeviceWeight& up, const PlanRows& plan, const std::byte* tiles,
                         const StreamTuning& tuning, const HiddenStore& store, uint32_t instruction, const Launch& on);
void launch_stream_plain(const DeviceWeight& up, const PlanRows& plan, const std::byte* tiles, const StreamTuning& tuning,
                         const HiddenStore& store, uint32_t instruction, const Launch& on);

}  // namespace switchyard::cuda
