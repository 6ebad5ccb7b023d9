// `checked_logits`: router logits pass unless one of them is NaN or +inf, which no gating policy can rank.
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

__global__ void check_kernel(float* y, const float* x, int64_t n, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_GRID_STRIDE(i, n) {
    const float v = x[i];
    if (!(v < INFINITY)) report(error, instruction, ErrorKind::kNotFinite, i, 0, 0, 0);
    if (y != x) y[i] = v;
  }
}

void run(const Instruction& in, const Launch& on) {
  const Operand &x = *in.in[0], &y = *in.out[0];
  const int64_t n = x.shape.size();
  launch(check_kernel, grid_for(n, 256, on), 256, 0, on, y.as<float>(), x.as<float>(), n, on.error, in.number);
}

}  // namespace

void register_checked_logits(KernelTable& t) { t.add({"checked_logits", run}); }

}  // namespace switchyard::cuda
