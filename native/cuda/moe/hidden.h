// What experts make of their pre-activations, on the device: HiddenRule of cpu/tile.h.
#pragma once
#include <cuda_runtime.h>

namespace switchyard::cuda {

struct HiddenRule {
  int activation = 0;  // 0 silu, 1 gelu, 2 gelu by tanh, 3 relu
  float limit = 0, slope = 0;
};

__device__ inline float activated(int activation, float x) {
  switch (activation) {
    case 0: return x / (1.0f + expf(-x));
    case 1: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case 2: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * (x * x * x))));
    default: return x < 0.0f ? 0.0f : x;  // NaN stays
  }
}
__device__ inline float gated(const HiddenRule& rule, float gate, float up) {
  if (rule.limit > 0) {
    const float g = gate > rule.limit ? rule.limit : gate;
    const float u = up > rule.limit ? rule.limit : up < -rule.limit ? -rule.limit : up;
    return (u + 1.0f) * (g / (1.0f + expf(-rule.slope * g)));
  }
  return activated(rule.activation, gate) * up;
}

}  // namespace switchyard::cuda
