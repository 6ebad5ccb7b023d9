// `sum`, `max`, `min`, `argmax` over the middle of [outer, n, inner].
//
// A task is one strip of columns of one chunk of rows; its threads stand in kLanes rows of kColumns, each walks down its column,
// and a tree joins the lanes. Where tasks would be too few to fill the device, n is cut in chunks, and a second run over their
// results ends it. The order of every sum follows from the shape alone.
#include <algorithm>

#include "cuda/device/async.h"
#include "cuda/device/reduce.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kStepsOfChunk = 16;  // rows a lane walks at least before n is cut

// What is reduced: elements of In become Acc, are joined, and end as Out. `none`: what changes nothing.
struct SumOfFloats {
  using In = float;
  using Acc = double;
  using Out = float;
  __device__ static Acc none() { return 0; }
  __device__ static Acc of(In x, int64_t) { return x; }
  __device__ static Acc join(Acc a, Acc b) { return a + b; }
  __device__ static Out end(Acc a) { return static_cast<float>(a); }
};
struct SumOfIntegers {  // wraps
  using In = int32_t;
  using Acc = uint32_t;
  using Out = int32_t;
  __device__ static Acc none() { return 0; }
  __device__ static Acc of(In x, int64_t) { return static_cast<uint32_t>(x); }
  __device__ static Acc join(Acc a, Acc b) { return a + b; }
  __device__ static Out end(Acc a) { return static_cast<int32_t>(a); }
};
template <class T, class Op>
struct Extreme {
  using In = T;
  using Acc = T;
  using Out = T;
  __device__ static Acc none() {
    constexpr bool largest = std::is_same_v<Op, Largest>;
    if constexpr (std::is_same_v<T, float>) return largest ? -INFINITY : INFINITY;
    else return largest ? INT32_MIN : INT32_MAX;
  }
  __device__ static Acc of(In x, int64_t) { return x; }
  __device__ static Acc join(Acc a, Acc b) { return Op{}(a, b); }
  __device__ static Out end(Acc a) { return a; }
};
struct Argmax {
  using In = float;
  using Acc = uint64_t;
  using Out = int32_t;
  __device__ static Acc none() { return 0; }
  __device__ static Acc of(In x, int64_t place) { return argmax_word(x, static_cast<uint32_t>(place)); }
  __device__ static Acc join(Acc a, Acc b) { return a > b ? a : b; }
  __device__ static Out end(Acc a) { return static_cast<int32_t>(argmax_place(a)); }
};

struct Sizes {
  int64_t outer, n, inner;
  int64_t chunks, length;  // rows of a chunk
};

// From elements (or, kSecond, from the results of chunks) to results of chunks, or (kLast) to the output.
template <class P, int kColumns, int kLanes, bool kSecond, bool kLast>
__global__ void __launch_bounds__(kThreads) reduce_kernel(void* y, const void* x, const __grid_constant__ Sizes s) {
  begin_overlapped();
  using From = std::conditional_t<kSecond, typename P::Acc, typename P::In>;
  using To = std::conditional_t<kLast, typename P::Out, typename P::Acc>;
  using Acc = typename P::Acc;
  constexpr int kGroup = kColumns * kLanes, kGroups = kThreads / kGroup;
  __shared__ Acc parts[kThreads];
  const int thread = static_cast<int>(threadIdx.x), column = thread % kColumns, lane = thread / kColumns % kLanes;
  const int64_t strips = (s.inner + kColumns - 1) / kColumns;
  const int64_t task = int64_t{blockIdx.x} * kGroups + thread / kGroup;
  const int64_t chunk = task / strips % s.chunks, o = task / strips / s.chunks, j = task % strips * kColumns + column;
  const bool present = o < s.outer && j < s.inner;
  Acc total = P::none();
  if (present) {
    const int64_t first = chunk * s.length + lane, end = min((chunk + 1) * s.length, s.n);
    const From* at = static_cast<const From*>(x) + (o * s.n + first) * s.inner + j;
#pragma unroll 8
    for (int64_t r = first; r < end; r += kLanes, at += kLanes * s.inner) {
      if constexpr (kSecond) total = P::join(total, *at);
      else total = P::join(total, P::of(*at, r));
    }
  }
  parts[thread] = total;
#pragma unroll
  for (int half = kLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) parts[thread] = P::join(parts[thread], parts[thread + half * kColumns]);
  }
  if (!present || lane != 0) return;
  To* to = static_cast<To*>(y) + (o * s.chunks + chunk) * s.inner + j;
  if constexpr (kLast) *to = P::end(parts[thread]);
  else *to = parts[thread];
}

// with(columns, lanes) as constants, for the cut that fits.
template <class F>
void choose_cut(int64_t n, int64_t inner, const F& with) {
  const auto cut = [&]<int kColumns, int kLanes>() {
    return with(std::integral_constant<int, kColumns>{}, std::integral_constant<int, kLanes>{});
  };
  if (inner > 16) return cut.template operator()<32, 8>();
  if (inner > 1) return cut.template operator()<8, 32>();
  if (n <= 16) return cut.template operator()<1, 8>();
  if (n <= 1024) return cut.template operator()<1, 32>();
  return cut.template operator()<1, kThreads>();
}

Sizes sizes_of(const Instruction& in) {
  const Shape& s = in.in[0]->shape;
  return {s[0], s[1], s[2], 1, s[1]};
}

// Cuts n so that about four blocks stand ready for each multiprocessor.
void cut_chunks(Sizes& s, const DeviceLimits& limits) {
  choose_cut(s.n, s.inner, [&](auto columns, auto lanes) {
    if (columns * lanes < kThreads) return;  // short rows
    const int64_t tasks = s.outer * ((s.inner + columns - 1) / columns);
    if (tasks == 0) return;
    const int64_t wanted = (int64_t{4} * limits.multiprocessors + tasks - 1) / tasks;
    const int64_t most = std::max<int64_t>(1, s.n / (lanes * kStepsOfChunk));
    const int64_t chunks = std::min(wanted, most);
    s.length = (s.n + chunks - 1) / chunks;
    s.chunks = s.length == 0 ? 1 : (s.n + s.length - 1) / s.length;
  });
}

template <class P, bool kSecond, bool kLast>
void start(void* y, const void* x, const Sizes& s, const Launch& on) {
  choose_cut(s.n, s.inner, [&](auto columns, auto lanes) {
    constexpr int kColumns = columns, kLanes = lanes;
    const int64_t tasks = s.outer * s.chunks * ((s.inner + kColumns - 1) / kColumns);
    const int groups = kThreads / (kColumns * kLanes);
    launch(kOverlapped, reduce_kernel<P, kColumns, kLanes, kSecond, kLast>, dim3(static_cast<unsigned>((tasks + groups - 1) / groups)),
           kThreads, 0, on, y, x, s);
  });
}

int64_t scratch(const Instruction& in, const DeviceLimits& limits) {
  Sizes s = sizes_of(in);
  cut_chunks(s, limits);
  return s.chunks > 1 ? s.outer * s.chunks * s.inner * int64_t{sizeof(double)} : 0;
}

template <class P>
void reduce(const Instruction& in, const Launch& on) {
  Sizes s = sizes_of(in);
  if (s.outer == 0 || s.inner == 0) return;
  cut_chunks(s, *on.device);
  void* y = in.out[0]->data;
  const void* x = in.in[0]->data;
  if (s.chunks == 1) return start<P, false, true>(y, x, s, on);
  start<P, false, false>(on.scratch, x, s, on);
  start<P, true, true>(y, on.scratch, Sizes{s.outer, s.chunks, s.inner, 1, s.chunks}, on);
}

template <class Floats, class Integers>
void run(const Instruction& in, const Launch& on) {
  in.in[0]->dtype == DType::kI32 ? reduce<Integers>(in, on) : reduce<Floats>(in, on);
}

}  // namespace

void register_reduce(KernelTable& t) {
  t.add({"sum", run<SumOfFloats, SumOfIntegers>, scratch});
  t.add({"max", run<Extreme<float, Largest>, Extreme<int32_t, Largest>>, scratch});
  t.add({"min", run<Extreme<float, Smallest>, Extreme<int32_t, Smallest>>, scratch});
  t.add({"argmax", reduce<Argmax>, scratch});
}

}  // namespace switchyard::cuda
