// iota: the index along one axis.
#include "cuda/device/launch.h"

namespace switchyard::cuda {
namespace {

__global__ void iota_kernel(int32_t* y, int64_t n, int64_t inner, int64_t size) {
  SWITCHYARD_GRID_STRIDE(i, n) y[i] = static_cast<int32_t>(i / inner % size);
}

void run(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  const int64_t axis = in.attrs[0].i, n = y.shape.size();
  int64_t inner = 1;
  for (int64_t d = axis + 1; d < y.shape.rank; d++) inner *= y.shape[static_cast<int>(d)];
  launch(iota_kernel, grid_for(n, 256, on), 256, 0, on, y.as<int32_t>(), n, inner, y.shape[static_cast<int>(axis)]);
}

}  // namespace

void register_iota(KernelTable& t) { t.add({"iota", run}); }

}  // namespace switchyard::cuda
