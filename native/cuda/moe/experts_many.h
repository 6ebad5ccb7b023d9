// The way through many rows, as tests and benches choose it; launch_many() of experts.h takes many_tuning().
#pragma once
#include "cuda/linear/many_way.h"
#include "cuda/moe/experts.h"

namespace switchyard::cuda {

struct ManyTuning {
  many::Way way = many::Way::kWgmma256;
  // Weights that are not bf16 are decoded for so many experts at a time that they take about these bytes, at least for one: fewer
  // would leave multiprocessors without tiles at every turn's end.
  int64_t expand_bytes = int64_t{256} << 20;
};
inline ManyTuning many_tuning(const DeviceLimits& device) { return {many::way_for(device)}; }

// The steps of a layer, for benches that time them apart. Each reads what the ones before it have left in scratch.
enum Step : unsigned { kRound = 1, kTiles = 2, kHidden = 4, kDown = 8, kCombine = 16, kAllSteps = 31 };
int64_t many_scratch(const ExpertLayer& l, const ManyTuning& tuning);
void launch_many(const ExpertLayer& l, const ManyTuning& tuning, uint32_t instruction, const Launch& on, unsigned steps = kAllSteps);

}  // namespace switchyard::cuda
