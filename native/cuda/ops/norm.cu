// `rms_norm` (Zhang and Sennrich 2019) and `layer_norm` (Ba et al. 2016) along rows; sums in f32 within a thread, in f64 over
// threads.
#include "cuda/device/async.h"
#include "cuda/device/rows.h"

namespace switchyard::cuda {
namespace {

struct Norm {
  float* y;
  const float* x;
  const float *weight, *bias;  // nullptr: none
  int64_t rows, n;
  float eps, offset;           // of the weight
  bool packed;
};

// Parameters are loaded with the row where registers are enough, so that their way from memory is not waited for twice.
template <class S>
using ParameterShape = RowShape<S::kThreads, S::kItems <= 8 ? S::kItems : 0>;

template <class S, bool kCentred>
__global__ void __launch_bounds__(S::kBlock) norm_kernel(const __grid_constant__ Norm p) {
  begin_overlapped();
  const int64_t r = row_of_thread<S>();
  const Row<S> row(p.x + (r < p.rows ? r * p.n : 0), p.n, p.packed, r < p.rows);
  const Row<ParameterShape<S>> weight(p.weight, p.n, p.packed, p.weight != nullptr);
  const Row<ParameterShape<S>> bias(p.bias, p.n, p.packed, p.bias != nullptr);
  const auto count = static_cast<double>(p.n);
  float mean = 0;
  if constexpr (kCentred) {
    float part = 0;
    row.each([&](float v, int64_t) { part += v; });
    mean = static_cast<float>(Row<S>::reduce(double{part}, Add{}) / count);
  }
  float part = 0;
  row.each([&](float v, int64_t) { part += (v - mean) * (v - mean); });
  const auto variance = static_cast<float>(Row<S>::reduce(double{part}, Add{}) / count);
  const float scale = 1 / sqrtf(variance + p.eps);
  // Rounds as separate steps do: centre, scale, weight, bias.
  row.write(p.y + r * p.n, [&](float v, int64_t i, int item) {
    float z = (v - mean) * scale;
    if (p.weight != nullptr) z *= weight.value(i, item) + p.offset;
    if (p.bias != nullptr) z = __fadd_rn(z, bias.value(i, item));
    return z;
  });
}

template <bool kCentred>
void run(const Instruction& in, const Launch& on) {
  const Operand &x = *in.in[0], &y = *in.out[0];
  const auto parameter = [&](size_t i) {
    return i < in.in.size() && in.in[i] != nullptr ? in.in[i]->as<float>() : nullptr;
  };
  Norm p{y.as<float>(), x.as<float>(), parameter(1), parameter(2), x.shape[0], x.shape[1]};
  p.eps = static_cast<float>(in.attrs[0].f), p.offset = kCentred ? 0 : static_cast<float>(in.attrs[1].f);
  p.packed = rows_packed(x.data, y.data, p.n) && is_aligned(p.weight, 16) && is_aligned(p.bias, 16);
  if (p.n == 0) return;
  choose_rows(p.n, [&]<class S>(S) {
    launch(kOverlapped, norm_kernel<S, kCentred>, row_grid<S>(p.rows), S::kBlock, 0, on, p);
  });
}

}  // namespace

void register_norm(KernelTable& t) {
  t.add({"rms_norm", run<false>});
  t.add({"layer_norm", run<true>});
}

}  // namespace switchyard::cuda
