// The operands of moe_experts, and the three ways through a layer (see linear/product.h).
#pragma once
#include "cuda/linear/product.h"

namespace switchyard::cuda {

// y[n] = Σ_k weights[n, k] · down[e]·act(gate[e]·x[n], up[e]·x[n]) over the choices of a token that have a row.
struct ExpertLayer {
  int64_t N = 0, K = 0, R = 0, D = 0, F = 0, E = 0;  // tokens, choices, rows, d_model, d_ff, experts
  const float* x = nullptr;                           // [N, D]
  // The plan, on the device and not trusted: [E + 1], [R], [N, K] (-1: dropped).
  const int32_t *offsets = nullptr, *row_token = nullptr, *slot_row = nullptr;
  const float* weights = nullptr;                     // [N, K]
  const DeviceWeight *gate = nullptr, *up = nullptr, *down = nullptr;  // gate may be nullptr
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;  // [E, F], [E, F], [E, D]; may be nullptr
  int activation = 0;           // 0 silu, 1 gelu, 2 gelu by tanh, 3 relu
  float limit = 0, slope = 0;   // above 0: gpt-oss' clamped activation (HiddenRule of cpu/tile.h)
  float* y = nullptr;           // [N, D]
};

// Of an instruction of moe_experts.
ExpertLayer layer_of(const Instruction& in);

//   exact  moe/experts_exact.cu   a composition of exact products
//   few    moe/experts_few.cu     at most kFewRows tokens and kFewExperts experts
//   many   moe/experts_many.cu
int64_t exact_scratch(const ExpertLayer& l, const DeviceLimits& device);
void launch_exact(const ExpertLayer& l, uint32_t instruction, const Launch& on);
bool has_few(const ExpertLayer& l);
int64_t few_scratch(const ExpertLayer& l, const DeviceLimits& device);
void launch_few(const ExpertLayer& l, uint32_t instruction, const Launch& on);
bool has_many(const ExpertLayer& l);
int64_t many_scratch(const ExpertLayer& l, const DeviceLimits& device);
void launch_many(const ExpertLayer& l, uint32_t instruction, const Launch& on);

}  // namespace switchyard::cuda
