// The first k of each row by the order of cpu/order.h: stable, NaN last.
#pragma once
#include "cuda/kernel.h"

namespace switchyard::cuda {

struct Ranking {
  const float* x = nullptr;  // [rows, n]
  int64_t rows = 0, n = 0, k = 0;
  bool falling = true;
  float* values = nullptr;    // [rows, k]
  int32_t* places = nullptr;  // [rows, k]
};

int64_t ranking_scratch(const Ranking& r);
void launch_ranking(const Ranking& r, const Launch& on, std::byte* scratch);

}  // namespace switchyard::cuda
