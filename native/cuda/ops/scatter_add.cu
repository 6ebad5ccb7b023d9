// `scatter_add_rows` and `scatter_add_along`, without atomics and in the CPU's order, so bit for bit its sums: sources are
// sorted by their destination, equal ones as they stood, and each destination adds up its own. Where few sources are to be
// added to each column, one thread takes them in order instead.
#include <algorithm>
#include <bit>

#include "cuda/device/bitonic.h"
#include "cuda/device/report.h"
#include "cuda/device/rows_grid.h"
#include "cuda/device/widest.h"
#include "cuda/ops/radix_sort.h"

namespace switchyard::cuda {
namespace {

// A thread adds so many one after another, about 1 us for each in the worst case. Against that stand two launches for rows, and
// for `along`, which has more sources than rows have ids, about ten.
constexpr int64_t kFewRows = 8, kFewAlong = 64;
constexpr int64_t kBlockSort = 2048;      // sources that one block sorts
constexpr int64_t kBatch = int64_t{1} << 22;  // sources and destinations of `along` sorted at once: 64 MiB of scratch

__device__ inline float plus(float a, float b) { return a + b; }
__device__ inline float4 plus(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

// x [outer, m, inner] to y [outer, n, inner]; ids as the rule says: one for a row of x (outer is 1), or one for each element.
struct Scatter {
  const int32_t* ids;
  int64_t outer, m, n, inner;
  bool rows;
};

// The destination of source i (a row, or an element), counted in the whole of y; `none` where it has none.
struct Destination {
  Scatter s;
  ErrorWord* error;
  uint32_t instruction;

  __device__ uint32_t of(int64_t i, int64_t first, uint32_t none) const {
    const int64_t id = s.ids[first + i];
    if (s.rows) return in_range_or_none(error, instruction, i, id, s.n) ? static_cast<uint32_t>(id) : none;
    if (!in_range(error, instruction, first + i, id, s.n)) return none;
    return static_cast<uint32_t>((i / (s.m * s.inner) * s.n + id) * s.inner + i % s.inner);
  }
};

// Sources first … first + count of the whole.
__global__ void keys_kernel(RadixSort::Pairs pairs, Destination to, int64_t first, int64_t count, uint32_t none) {
  SWITCHYARD_GRID_STRIDE(i, count) {
    pairs.keys[i] = to.of(i, first, none);
    pairs.values[i] = static_cast<uint32_t>(i);
  }
}

// Keys and their order in one block; `room`: the power of two for count words.
__global__ void small_sort_kernel(RadixSort::Pairs pairs, Destination to, int64_t first, int count, int room, uint32_t none) {
  SWITCHYARD_SHARED(shared);
  auto* words = reinterpret_cast<uint64_t*>(shared);
  for (int i = static_cast<int>(threadIdx.x); i < room; i += static_cast<int>(blockDim.x)) {
    words[i] = i < count ? uint64_t{to.of(i, first, none)} << 32 | static_cast<uint32_t>(i) : ~uint64_t{0};
  }
  __syncthreads();
  bitonic_sort(words, room);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    pairs.keys[i] = static_cast<uint32_t>(words[i] >> 32);
    pairs.values[i] = static_cast<uint32_t>(words[i]);
  }
}

// The first source of a destination adds them all: y[key] = Σ x[value], rows of `width` pieces. y was zeroed.
template <class T>
__global__ void sum_kernel(T* y, const T* x, RadixSort::Pairs pairs, int64_t count, int64_t width, uint32_t none) {
  constexpr int kAhead = 4;  // loads in flight
  SWITCHYARD_ROWS(i, count) {
    const uint32_t key = pairs.keys[i];
    if (key == none || (i > 0 && pairs.keys[i - 1] == key)) continue;
    SWITCHYARD_COLUMNS(j, width) {
      T sum{};
      int64_t at = i;
      for (; at + kAhead <= count && pairs.keys[at + kAhead - 1] == key; at += kAhead) {
        T v[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; a++) v[a] = x[int64_t{pairs.values[at + a]} * width + j];
#pragma unroll
        for (int a = 0; a < kAhead; a++) sum = plus(sum, v[a]);
      }
      for (; at < count && pairs.keys[at] == key; at++) sum = plus(sum, x[int64_t{pairs.values[at]} * width + j]);
      y[int64_t{key} * width + j] = sum;
    }
  }
}

// One thread adds the sources of a column in order. y was zeroed.
__global__ void columns_kernel(float* y, const float* x, Scatter s, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_GRID_STRIDE(column, s.outer * s.inner) {
    const int64_t o = column / s.inner, j = column % s.inner;
    for (int64_t i = 0; i < s.m; i++) {
      const int64_t at = (o * s.m + i) * s.inner + j, place = s.rows ? i : at, id = s.ids[place];
      const bool good = s.rows ? in_range_or_none(error, instruction, place, id, s.n) : in_range(error, instruction, place, id, s.n);
      if (good) y[(o * s.n + id) * s.inner + j] += x[at];
    }
  }
}

// How the work is cut: `outers` of the outer dimension at a time, `sources` to sort for each; none where columns are walked.
struct Cut {
  int64_t outers = 0, sources = 0;
};
Cut cut_of(const Scatter& s) {
  const int64_t each = s.rows ? 1 : s.inner, most = std::max(s.m, s.n) * each;
  if (s.m <= (s.rows ? kFewRows : kFewAlong) || s.outer == 0 || most == 0 || most >= UINT32_MAX) return {};
  return {std::clamp<int64_t>(kBatch / most, 1, s.outer), s.m * each};
}

Scatter scatter_of(const Instruction& in) {
  const Operand &x = *in.in[0], &ids = *in.in[1], &y = *in.out[0];
  if (ids.shape.rank == 1) return {ids.as<int32_t>(), 1, x.shape[0], y.shape[0], x.shape[1], true};
  return {ids.as<int32_t>(), x.shape[0], x.shape[1], y.shape[1], x.shape[2], false};
}

int64_t scratch(const Instruction& in, const DeviceLimits&) {
  const Cut cut = cut_of(scatter_of(in));
  return RadixSort::bytes(1, cut.outers * cut.sources);
}

void run(const Instruction& in, const Launch& on) {
  const Scatter s = scatter_of(in);
  const float* x = in.in[0]->as<float>();
  float* y = in.out[0]->as<float>();
  const int64_t size = in.out[0]->shape.size();
  if (size == 0) return;
  check(cudaMemsetAsync(y, 0, static_cast<size_t>(size) * sizeof(float), on.stream));
  if (in.in[0]->shape.size() == 0) return;
  const Cut cut = cut_of(s);
  if (cut.outers == 0) {
    launch(columns_kernel, grid_for(s.outer * s.inner, 256, on), 256, 0, on, y, x, s, on.error, in.number);
    return;
  }
  const Destination to{s, on.error, in.number};
  const int64_t each = s.rows ? 1 : s.inner, width = s.rows ? s.inner : 1;  // elements of a source
  for (int64_t o = 0; o < s.outer; o += cut.outers) {
    const int64_t outers = std::min(cut.outers, s.outer - o), count = outers * cut.sources, first = o * cut.sources;
    const auto none = static_cast<uint32_t>(outers * s.n * each);
    RadixSort sort(on.scratch, 1, count);
    RadixSort::Pairs pairs = sort.pairs();
    if (count <= kBlockSort) {
      const int room = static_cast<int>(std::bit_ceil(static_cast<uint64_t>(count)));
      launch(small_sort_kernel, 1, std::min(1024, room / 2), room * static_cast<int64_t>(sizeof(uint64_t)), on, pairs, to, first,
             static_cast<int>(count), room, none);
    } else {
      launch(keys_kernel, grid_for(count, 256, on), 256, 0, on, pairs, to, first, count, none);
      pairs = sort.run(std::bit_width(none), on);
    }
    float* const y_o = y + o * s.n * s.inner;
    const float* const x_o = x + first * width;
    const auto sum = [&]<class T>(T) {
      const int64_t pieces = width * 4 / static_cast<int64_t>(sizeof(T));
      const RowsGrid g = rows_grid(count, pieces, on);
      launch(sum_kernel<T>, g.grid, g.block, 0, on, reinterpret_cast<T*>(y_o), reinterpret_cast<const T*>(x_o), pairs, count, pieces,
             none);
    };
    const bool wide = (address(y_o) | address(x_o) | static_cast<uint64_t>(width * 4)) % 16 == 0;
    wide ? sum(float4{}) : sum(0.0f);
  }
}

}  // namespace

void register_scatter_add(KernelTable& t) {
  t.add({"scatter_add_rows", run, scratch});
  t.add({"scatter_add_along", run, scratch});
}

}  // namespace switchyard::cuda
