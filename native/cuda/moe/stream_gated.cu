// Experts with a gate: gate and up are streamed beside each other, act(gate)·up is made of their sums.
#include "cuda/moe/stream_hidden.h"

namespace switchyard::cuda {

void launch_stream_gated(const DeviceWeight& gate, const DeviceWeight& up, const PlanRows& plan, const std::byte* tiles,
                         const StreamTuning& tuning, const HiddenStore& store, uint32_t instruction, const Launch& on) {
  const DeviceWeight* const both[] = {&gate, &up};
  launch_stream<2>(both, plan, tiles, tuning, store, instruction, on);
}

}  // namespace switchyard::cuda
