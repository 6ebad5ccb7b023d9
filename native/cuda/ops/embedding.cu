// `embedding`: rows of a packed weight [V, D], in f32.
#include "cuda/device/report.h"
#include "cuda/device/rows_grid.h"
#include "cuda/linear/decode_lane.h"

namespace switchyard::cuda {
namespace {

// y [n, columns]; zeros for an id that is reported.
template <Format f>
__global__ void embedding_kernel(float* y, const int32_t* ids, const std::byte* panels, Places at, int64_t vocabulary, int64_t n,
                                 ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_ROWS(i, n) {
    const int64_t id = ids[i];
    const bool known = in_range(error, instruction, i, id, vocabulary);
    const std::byte* panel = panels + (known ? id / kPanel : 0) * at.bytes;
    SWITCHYARD_COLUMNS(k, at.columns) {
      y[i * at.columns + k] = known ? decode_value<f>(panel, at, static_cast<int>(id % kPanel), k) : 0.0f;
    }
  }
}

void run(const Instruction& in, const Launch& on) {
  const DeviceWeight& weight = *in.in[1]->weight;
  const int64_t n = in.in[0]->shape[0];
  const RowsGrid g = rows_grid(n, weight.columns, on);
  with_codec(weight.format, [&]<Format f>() {
    launch(embedding_kernel<f>, g.grid, g.block, 0, on, in.out[0]->as<float>(), in.in[0]->as<int32_t>(), weight.data,
           Places::of(weight.format, weight.layout), weight.rows, n, on.error, in.number);
  });
}

}  // namespace

void register_embedding(KernelTable& t) { t.add({"embedding", run}); }

}  // namespace switchyard::cuda
