// The way through many rows by name, for tests and benches; launch_many() of experts.h chooses one.
#pragma once
#include "cuda/linear/many_way.h"
#include "cuda/moe/experts.h"

namespace switchyard::cuda {

// The steps of a layer, for benches that time them apart. Each reads what the ones before it have left in scratch.
enum Step : unsigned { kRound = 1, kTiles = 2, kHidden = 4, kDown = 8, kCombine = 16, kAllSteps = 31 };
void launch_many(const ExpertLayer& l, many::Way way, uint32_t instruction, const Launch& on, unsigned steps = kAllSteps);

}  // namespace switchyard::cuda
