// Experts without a gate.
#include "cuda/moe/stream_hidden.h"

namespace switchyard::cuda {

void launch_stream_plain(const DeviceWeight& up, const PlanRows& plan, const std::byte* tiles, const StreamTuning& tuning,
                         const HiddenStore& store, uint32_t instruction, const Launch& on) {
  const DeviceWeight* const one[] = {&up};
  launch_stream<1>(one, plan, tiles, tuning, store, instruction, on);
}

}  // namespace switchyard::cuda
