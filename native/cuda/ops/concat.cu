// `concat`: tensors [outer, n_i, inner] side by side.
#include <algorithm>

#include "cuda/device/async.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kParts = 16;  // of one launch

template <class Index>
struct Parts {
  std::byte* y;
  Index row;  // units of a row of y
  struct {
    const std::byte* x;
    Index at, count;     // where its rows begin in y's; units of all rows
    Divisor<Index> row;
  } part[kParts];
};

template <class T, class Index>
__global__ void __launch_bounds__(kThreads) concat_kernel(const __grid_constant__ Parts<Index> p) {
  begin_overlapped();
  const auto& part = p.part[blockIdx.y];
  T* y = reinterpret_cast<T*>(p.y) + part.at;
  const T* x = reinterpret_cast<const T*>(part.x);
  SWITCHYARD_GRID_STRIDE(i, int64_t{part.count}) {
    const Index o = part.row.quotient(static_cast<Index>(i));
    y[int64_t{o} * p.row + (static_cast<Index>(i) - o * part.row.size)] = x[i];
  }
}

template <class T, class Index>
void run_with(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  const int64_t outer = y.shape[0], unit = y.shape[2] * dtype_size(y.dtype), size = sizeof(T);
  Parts<Index> p{};
  p.y = y.data, p.row = static_cast<Index>(y.shape[1] * unit / size);
  unsigned parts = 0;
  int64_t at = 0, largest = 0;
  const auto flush = [&] {
    if (parts == 0) return;
    const dim3 grid(grid_for(largest, kThreads, on).x, parts);
    launch(kOverlapped, concat_kernel<T, Index>, grid, kThreads, 0, on, p);
    parts = 0, largest = 0;
  };
  for (const Operand* x : in.in) {
    const int64_t row = x->shape[1] * unit / size;
    if (row == 0) continue;
    if (parts == kParts) flush();
    auto& part = p.part[parts++];
    part.x = x->data, part.at = static_cast<Index>(at), part.count = static_cast<Index>(outer * row);
    part.row = Divisor<Index>(row);
    at += row, largest = std::max(largest, outer * row);
  }
  flush();
}

template <class T>
void run_units(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  if (y.shape.size() * dtype_size(y.dtype) < kSmall) {
    run_with<T, int32_t>(in, on);
  } else {
    run_with<T, int64_t>(in, on);
  }
}

void run(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  if (y.shape.size() == 0) return;
  const int64_t bytes = y.shape[2] * dtype_size(y.dtype);
  const auto whole = [&](int64_t unit) {
    bool ok = is_aligned(y.data, unit);
    for (const Operand* x : in.in) ok = ok && is_aligned(x->data, unit) && x->shape[1] * bytes % unit == 0;
    return ok;
  };
  if (whole(16)) return run_units<uint4>(in, on);
  if (whole(8)) return run_units<uint2>(in, on);
  if (whole(4)) return run_units<uint32_t>(in, on);
  if (whole(2)) return run_units<uint16_t>(in, on);
  run_units<uint8_t>(in, on);
}

}  // namespace

void register_concat(KernelTable& t) { t.add({"concat", run}); }

}  // namespace switchyard::cuda
