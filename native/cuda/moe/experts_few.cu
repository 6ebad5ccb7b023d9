// moe_experts for few tokens: the weights of the experts that have rows are streamed once (linear/stream.h), gate and up together.
// Activations and what is between the products are bf16. The grids start early, each fills its rings with weights while the one
// before ends.
#include "cuda/moe/experts_few.h"

#include "cuda/linear/stream_rows.h"
#include "cuda/moe/combine.h"
#include "cuda/moe/hidden.h"

namespace switchyard::cuda {
namespace {

// act(gate)·up, or act(up), to row tiles: a panel is a step of them. Outputs past F have no weights and no bias.
template <int kParts>
struct HiddenStore {
  HiddenRule rule;
  const float *gate_bias = nullptr, *up_bias = nullptr;
  int64_t outputs = 0;  // F
  TileOrder order = TileOrder::kNatural;
  uint32_t* tiles = nullptr;

  __device__ float biased(const float* bias, int64_t expert, int64_t output, float sum) const {
    return bias == nullptr || output >= outputs ? sum : sum + bias[expert * outputs + output];
  }
  __device__ float value(int64_t expert, int64_t output, const float* sums) const {
    const float up = biased(up_bias, expert, output, sums[kParts - 1]);
    if constexpr (kParts == 1) return activated(rule.activation, up);
    return gated(rule, biased(gate_bias, expert, output, sums[0]), up);
  }
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

struct FewScratch {
  std::byte *x, *hidden;
  float* rows;
  int64_t bytes = 0;

  FewScratch(const ExpertLayer& l, std::byte* from) {
    const auto take = [&](int64_t n) {
      std::byte* p = from + bytes;
      bytes += (n + 255) / 256 * 256;
      return p;
    };
    x = take(row_tiles_bytes(l.R, l.E, l.D)), hidden = take(row_tiles_bytes(l.R, l.E, l.F));
    rows = reinterpret_cast<float*>(take(l.R * l.D * 4));
  }
};

}  // namespace

bool has_few(const ExpertLayer& l) {
  return (l.gate == nullptr || l.gate->format == l.up->format) && has_few(l.up->format) && has_few(l.down->format);
}

int64_t few_scratch(const ExpertLayer& l, const DeviceLimits&) { return FewScratch(l, nullptr).bytes; }

FewTuning few_tuning(const ExpertLayer& l, const DeviceLimits& device) {
  const int64_t active = std::min(l.E, l.N * l.K);
  FewTuning tuning;
  // Pairs of a gate and an up panel, 1 or 2 a task.
  tuning.hidden.panels = l.gate == nullptr ? task_panels(active * l.up->panels(), device.multiprocessors, {1, 2, 4})
                                           : 2 * task_panels(active * l.up->panels(), device.multiprocessors, {1, 2});
  tuning.rows.panels = task_panels(active * l.down->panels(), device.multiprocessors, {1, 2, 4});
  return tuning;
}

void launch_few(const ExpertLayer& l, const FewTuning& tuning, uint32_t instruction, const Launch& on) {
  const FewScratch scratch(l, on.scratch);
  const HiddenRule rule{l.activation, l.limit, l.slope};
  const PlanRows plan{l.offsets, l.row_token, l.E, l.R, l.N};
  auto* hidden = reinterpret_cast<uint32_t*>(scratch.hidden);
  const TileOrder order = order_of(l.down->format);
  launch_row_tiles(l.x, plan, l.D, order_of(l.up->format), scratch.x,
                   ClearedRows{{scratch.rows}, {l.D}}, instruction, on);
  if (l.gate != nullptr) {
    launch_stream<2>({l.gate, l.up}, plan, scratch.x, tuning.hidden,
                     HiddenStore<2>{rule, l.gate_bias, l.up_bias, l.F, order, hidden}, instruction, on);
  } else {
    launch_stream<1>({l.up}, plan, scratch.x, tuning.hidden,
                     HiddenStore<1>{rule, nullptr, l.up_bias, l.F, order, hidden}, instruction, on);
  }
  launch_stream<1>({l.down}, plan, scratch.hidden, tuning.rows, RowsStore{{scratch.rows}, {l.D}, l.down_bias}, instruction, on);
  launch_combine(scratch.rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y, instruction, on,
                 Start::kEarly);
}

void launch_few(const ExpertLayer& l, uint32_t instruction, const Launch& on) {
  launch_few(l, few_tuning(l, *on.device), instruction, on);
}

}  // namespace switchyard::cuda
