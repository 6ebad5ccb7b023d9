// The streaming way through an expert layer (moe/experts.h) with its choices open, for the bench.
#pragma once
#include "cuda/linear/stream.h"
#include "cuda/moe/experts.h"

namespace switchyard::cuda {

struct FewTuning {
  StreamTuning hidden, rows;  // of the products with gate and up, and with down
};
void launch_few(const ExpertLayer& l, const FewTuning& tuning, uint32_t instruction, const Launch& on);

}  // namespace switchyard::cuda
