// The ways to multiply many rows that many_kernel.h is built for.
#pragma once
#include "cuda/kernel.h"

namespace switchyard::cuda::many {

enum class Way {
  kWgmma256,  // Hopper; tiles of up to 256 rows
  kMma128,    // mma.sync: any device that has bf16 in tensor cores; tiles of up to 128 rows
};
constexpr int kWays = 2, kLeastTileRows = 64;

inline Way way_for(const DeviceLimits& device) { return device.capability / 10 == 9 ? Way::kWgmma256 : Way::kMma128; }

}  // namespace switchyard::cuda::many
