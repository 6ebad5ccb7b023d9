// `softmax`, `log_softmax` along rows: the largest value is subtracted first; sums of exponentials in f64 over threads.
#include "cuda/device/async.h"
#include "cuda/device/rows.h"

namespace switchyard::cuda {
namespace {

template <class S, bool kLog>
__global__ void __launch_bounds__(S::kBlock) softmax_kernel(float* y, const float* x, int64_t rows, int64_t n, bool packed) {
  begin_overlapped();
  const int64_t r = row_of_thread<S>();
  const Row<S> row(x + (r < rows ? r * n : 0), n, packed, r < rows);
  float largest = -INFINITY;
  row.each([&](float v, int64_t) { largest = Largest{}(largest, v); });
  largest = Row<S>::reduce(largest, Largest{});
  float part = 0;
  row.each([&](float v, int64_t) { part += expf(v - largest); });
  const double sum = Row<S>::reduce(double{part}, Add{});
  const bool nothing = largest == -INFINITY;
  y += r * n;
  if constexpr (kLog) {
    // Two steps: v - largest is exact near the maximum, where largest + log(sum) would round.
    const auto log_sum = static_cast<float>(log(sum));
    row.write(y, [&](float v, int64_t, int) { return nothing ? -INFINITY : (v - largest) - log_sum; });
  } else {
    const auto scale = static_cast<float>(1.0 / sum);
    row.write(y, [&](float v, int64_t, int) { return nothing ? 0.0f : expf(v - largest) * scale; });
  }
}

template <bool kLog>
void run(const Instruction& in, const Launch& on) {
  const Operand &x = *in.in[0], &y = *in.out[0];
  const int64_t rows = x.shape[0], n = x.shape[1];
  if (n == 0) return;
  choose_rows(n, [&]<class S>(S) {
    launch(kOverlapped, softmax_kernel<S, kLog>, row_grid<S>(rows), S::kBlock, 0, on, y.as<float>(), x.as<float>(), rows, n,
           rows_packed(x.data, y.data, n));
  });
}

}  // namespace

void register_softmax(KernelTable& t) {
  t.add({"softmax", run<false>});
  t.add({"log_softmax", run<true>});
}

}  // namespace switchyard::cuda
