// Products with packed weights, as other kernels (native/moe) use them too.
#pragma once
#include <cstdint>
#include <span>

#include "cpu/linear_table.h"
#include "runtime/kernel.h"
#include "runtime/weight.h"

namespace switchyard {

// The functions of a tier that this machine has.
const LinearTable& linear_table(Tier tier);

// y_i [R, N_i] = x [R, K] · W_i[expert of the row]ᵀ. All weights share one pass over the activations and one task list.
struct LinearCall {
  const float* x = nullptr;
  int64_t rows = 0, columns = 0;     // R, K
  const int32_t* offsets = nullptr;  // [experts + 1], checked by check_offsets(); nullptr: all rows meet expert 0
  int64_t experts = 1;
  std::span<const Weight* const> weights;  // each [K columns], `experts` experts
  std::span<float* const> y;               // rows past offsets[experts] become zero
  int compute = 0;                         // docs/kernels.md
};

// Shared scratch of run_linear(); worker scratch is linear_worker_scratch(columns).
int64_t linear_shared_scratch(int64_t rows, int64_t columns, int64_t experts, std::span<const Weight* const> weights,
                              int compute);
void run_linear(const LinearCall& call, const Context& context);

// dx [R, K] = dy [R, N] · W[expert of the row], in f32.
struct LinearTransposedCall {
  const float* dy = nullptr;
  int64_t rows = 0;
  const int32_t* offsets = nullptr;
  int64_t experts = 1;
  const Weight* weight = nullptr;
  float* dx = nullptr;
};
int64_t linear_transposed_scratch(int64_t rows, const Weight& weight);
void run_linear_transposed(const LinearTransposedCall& call, const Context& context);

// Offsets must start at 0, never fall, and end at most at `rows`; throws kShape with the place.
void check_offsets(const char* where, const int32_t* offsets, int64_t experts, int64_t rows);

}  // namespace switchyard
