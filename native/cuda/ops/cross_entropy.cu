// `cross_entropy` and its gradient; target -1 is ignored. A block takes a row.
#include <algorithm>

#include "cuda/device/report.h"
#include "cuda/device/row_total.h"
#include "cuda/device/row_walk.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kShortRow = 4096;  // longer ones are a block of 1024 threads each
constexpr int64_t kMostBlocks = int64_t{1} << 16;

struct Rows {
  const float* x;          // [rows, v]
  const int32_t* targets;  // [rows]
  int64_t rows, v;
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads) loss_kernel(float* loss, Rows in, ErrorWord* error, uint32_t instruction) {
  for (int64_t r = blockIdx.x; r < in.rows; r += gridDim.x) {
    const int64_t target = in.targets[r];
    if (!in_range_or_none(error, instruction, r, target, in.v)) {
      if (threadIdx.x == 0) loss[r] = 0;
      continue;
    }
    const float* x = in.x + r * in.v;
    const RowTotal total = row_total<kThreads>(x, in.v);
    if (threadIdx.x == 0) loss[r] = static_cast<float>(log(total.sum) + (double{total.max} - double{x[target]}));
  }
}

// dx may be x: a thread writes what no other reads any more.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) grad_kernel(float* dx, const float* dy, Rows in, ErrorWord* error, uint32_t instruction) {
  for (int64_t r = blockIdx.x; r < in.rows; r += gridDim.x) {
    const int64_t target = in.targets[r];
    const float* x = in.x + r * in.v;
    float* y = dx + r * in.v;
    if (!in_range_or_none(error, instruction, r, target, in.v)) {
      for (int64_t i = threadIdx.x; i < in.v; i += kThreads) y[i] = 0;
      continue;
    }
    const RowTotal total = row_total<kThreads>(x, in.v);
    const auto scale = static_cast<float>(double{dy[r]} / total.sum);
    const float outer = dy[r];
    walk_row<kThreads>(x, in.v, [&](int64_t i, float v) {
      const float e = expf(v - total.max);
      y[i] = i == target ? (static_cast<float>(double{e} / total.sum) - 1) * outer : e * scale;
    });
  }
}

Rows rows_of(const Instruction& in) {
  const Operand& x = *in.in[0];
  return {x.as<float>(), in.in[1]->as<int32_t>(), x.shape[0], x.shape[1]};
}

void run_loss(const Instruction& in, const Launch& on) {
  const Rows rows = rows_of(in);
  const bool brief = rows.v <= kShortRow;
  launch(brief ? loss_kernel<256> : loss_kernel<1024>, static_cast<unsigned>(std::min(rows.rows, kMostBlocks)), brief ? 256 : 1024, 0, on,
         in.out[0]->as<float>(), rows, on.error, in.number);
}

void run_grad(const Instruction& in, const Launch& on) {
  const Rows rows = rows_of(in);
  const bool brief = rows.v <= kShortRow;
  launch(brief ? grad_kernel<256> : grad_kernel<1024>, static_cast<unsigned>(std::min(rows.rows, kMostBlocks)), brief ? 256 : 1024, 0, on,
         in.out[0]->as<float>(), in.in[2]->as<float>(), rows, on.error, in.number);
}

}  // namespace

void register_cross_entropy(KernelTable& t) {
  t.add({"cross_entropy", run_loss});
  t.add({"cross_entropy_grad", run_grad});
}

}  // namespace switchyard::cuda
