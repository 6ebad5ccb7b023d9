// `cumsum` along the middle of [outer, n, inner]: sums run in f64 for f32, and wrap for i32.
//
// A group of threads stands in kLanes rows of kColumns; each takes kItems rows below one another, the lanes are scanned, and the
// group goes on with the sum so far.
#include "cuda/device/async.h"
#include "cuda/device/reduce.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kItems = 4;

struct Sizes {
  int64_t outer, n, inner;
  bool exclusive, reverse;
};

// The sum of the lanes above in each column; `all`: the sum of the column.
template <int kColumns, int kLanes, class Sum>
__device__ inline Sum scan_lanes(Sum v, Sum* all) {
  if constexpr (kColumns == 1 && kLanes == 32) {
    const Sum inclusive = warp_scan(v), before = __shfl_up_sync(kAllLanes, inclusive, 1);
    *all = __shfl_sync(kAllLanes, inclusive, 31);
    return threadIdx.x % 32 > 0 ? before : Sum{0};
  } else if constexpr (kColumns == 1) {
    return block_scan<kLanes, true>(v, all);
  } else {
    __shared__ Sum sums[kLanes][kColumns];
    const int column = static_cast<int>(threadIdx.x) % kColumns, lane = static_cast<int>(threadIdx.x) / kColumns;
    sums[lane][column] = v;
    __syncthreads();
    Sum before = 0, total = 0;
#pragma unroll
    for (int l = 0; l < kLanes; l++) {
      if (l == lane) before = total;
      total += sums[l][column];
    }
    __syncthreads();
    *all = total;
    return before;
  }
}

template <class T, class Sum, int kColumns, int kLanes>
__global__ void __launch_bounds__(kThreads) cumsum_kernel(T* y, const T* x, const __grid_constant__ Sizes s) {
  begin_overlapped();
  constexpr int kGroup = kColumns * kLanes, kGroups = kThreads / kGroup;
  const int thread = static_cast<int>(threadIdx.x), column = thread % kColumns, lane = thread / kColumns % kLanes;
  const int64_t strips = (s.inner + kColumns - 1) / kColumns;
  const int64_t task = int64_t{blockIdx.x} * kGroups + thread / kGroup;
  const int64_t o = task / strips, j = task % strips * kColumns + column;
  const bool present = o < s.outer && j < s.inner;
  Sum so_far = 0;
  for (int64_t base = 0; base < s.n; base += kLanes * kItems) {
    Sum sums[kItems], total = 0;  // exclusive within the thread
    T v[kItems];
#pragma unroll
    for (int k = 0; k < kItems; k++) {
      const int64_t r = base + lane * kItems + k;
      v[k] = present && r < s.n ? x[(o * s.n + (s.reverse ? s.n - 1 - r : r)) * s.inner + j] : T{0};
    }
#pragma unroll
    for (int k = 0; k < kItems; k++) sums[k] = total, total += static_cast<Sum>(v[k]);
    Sum all;
    const Sum before = so_far + scan_lanes<kColumns, kLanes>(total, &all);
    so_far += all;
#pragma unroll
    for (int k = 0; k < kItems; k++) {
      const int64_t r = base + lane * kItems + k;
      if (!present || r >= s.n) continue;
      const Sum own = before + sums[k];
      y[(o * s.n + (s.reverse ? s.n - 1 - r : r)) * s.inner + j] = static_cast<T>(s.exclusive ? own : own + static_cast<Sum>(v[k]));
    }
  }
}

template <class T, class Sum>
void cumulate(const Instruction& in, const Launch& on) {
  const Shape& shape = in.in[0]->shape;
  const Sizes s{shape[0], shape[1], shape[2], in.attrs[0].i != 0, in.attrs[1].i != 0};
  const auto start = [&]<int kColumns, int kLanes>() {
    const int64_t tasks = s.outer * ((s.inner + kColumns - 1) / kColumns);
    constexpr int kGroups = kThreads / (kColumns * kLanes);
    launch(kOverlapped, cumsum_kernel<T, Sum, kColumns, kLanes>, dim3(static_cast<unsigned>((tasks + kGroups - 1) / kGroups)), kThreads, 0, on,
           in.out[0]->as<T>(), in.in[0]->as<T>(), s);
  };
  if (s.inner > 1) return start.template operator()<32, 8>();
  if (s.n <= 1024) return start.template operator()<1, 32>();
  start.template operator()<1, kThreads>();
}

void run(const Instruction& in, const Launch& on) {
  in.in[0]->dtype == DType::kI32 ? cumulate<int32_t, uint32_t>(in, on) : cumulate<float, double>(in, on);
}

}  // namespace

void register_cumsum(KernelTable& t) { t.add({"cumsum", run}); }

}  // namespace switchyard::cuda
