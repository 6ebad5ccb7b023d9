// `strided_copy` and its transpose `strided_scatter`: permute, slice, flip, broadcast, diagonal.
//
// Neighbours that lie close on both sides move as one unit of up to 16 bytes. A transposition goes through squares in shared
// memory, so that both sides are met along rows.
#include "cuda/device/async.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kUnroll = 4;        // loads of a thread that are under way at once
constexpr int kSquare = 32;
constexpr int kSquareThreads = 256;
constexpr int64_t kShortSide = 8;  // below it squares would be mostly empty

// Element i of the dense side lies at offset + the sum of i·stride on the strided side; from the innermost outwards.
struct Path {
  int rank = 0;
  int64_t dims[kMaxRank], strides[kMaxRank], offset = 0;
};

Path collapse(const Shape& shape, const Instruction& in) {
  const std::vector<int64_t>& strides = in.attrs[0].ints;
  Path p;
  p.offset = in.attrs[1].i;
  for (int d = shape.rank - 1; d >= 0; d--) {
    if (shape[d] == 1) continue;
    const int last = p.rank - 1;
    if (p.rank > 0 && strides[d] == p.strides[last] * p.dims[last]) {
      p.dims[last] *= shape[d];
    } else {
      p.dims[p.rank] = shape[d], p.strides[p.rank++] = strides[d];
    }
  }
  if (p.rank == 0) p.dims[0] = p.strides[0] = p.rank = 1;
  return p;
}

// Counts in units of `bytes` instead of `size`, where everything is whole in them.
bool widen(Path& p, int64_t size, int64_t bytes) {
  if (p.strides[0] != 1 || p.dims[0] * size % bytes != 0 || p.offset * size % bytes != 0) return false;
  for (int d = 1; d < p.rank; d++) {
    if (p.strides[d] * size % bytes != 0) return false;
  }
  p.dims[0] = p.dims[0] * size / bytes, p.offset = p.offset * size / bytes;
  for (int d = 1; d < p.rank; d++) p.strides[d] = p.strides[d] * size / bytes;
  return true;
}

template <class Index>
Walk<Index> walk_of(int rank, const int64_t* dims, const int64_t* strides) {
  Walk<Index> w;
  w.rank = rank;
  for (int d = 0; d < rank; d++) w.dims[d] = Divisor<Index>(dims[d]), w.strides[d] = static_cast<Index>(strides[d]);
  return w;
}

template <class T, class Index, bool kScatter>
__global__ void __launch_bounds__(kThreads) walk_kernel(T* to, const T* from, int64_t n, const __grid_constant__ Walk<Index> w) {
  begin_overlapped();
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; first < n; first += kUnroll * step) {
    T v[kUnroll];
    int64_t at[kUnroll];
#pragma unroll
    for (int k = 0; k < kUnroll; k++) {
      const int64_t i = first + k * step;
      if (i >= n) continue;
      at[k] = walk_to(w.rank, w.dims, w.strides, static_cast<Index>(i));
      v[k] = from[kScatter ? i : at[k]];
    }
#pragma unroll
    for (int k = 0; k < kUnroll; k++) {
      const int64_t i = first + k * step;
      if (i < n) to[kScatter ? at[k] : i] = v[k];
    }
  }
}

template <class Index>
struct Squares {
  Index count;               // of all
  Index height, width;       // of the matrix: `height` has stride 1 on the strided side, `width` on the dense side
  Index strided, dense;      // the other stride on each side
  Divisor<Index> down, across;  // squares of a matrix
  Walk<Index> outer;         // the other dimensions, on the strided side
  Index outer_dense[kMaxRank];
};

template <class T, class Index, bool kScatter>
__global__ void __launch_bounds__(kSquareThreads)
    transpose_kernel(T* to, const T* from, const __grid_constant__ Squares<Index> p) {
  begin_overlapped();
  __shared__ T square[kSquare][kSquare + 1];
  const int x = static_cast<int>(threadIdx.x) % kSquare, y = static_cast<int>(threadIdx.x) / kSquare;
  for (int64_t task = blockIdx.x; task < p.count; task += gridDim.x) {
    const auto t = static_cast<Index>(task);
    const Index rest = p.across.quotient(t), matrix = p.down.quotient(rest);
    const Index column = (t - rest * p.across.size) * kSquare, row = (rest - matrix * p.down.size) * kSquare;
    const int64_t strided = walk_to(p.outer.rank, p.outer.dims, p.outer.strides, matrix);
    const int64_t dense = walk_to(p.outer.rank, p.outer.dims, p.outer_dense, matrix);
    // The side that is read: x along its stride of 1.
    for (int k = y; k < kSquare; k += kSquareThreads / kSquare) {
      const Index r = row + (kScatter ? k : x), c = column + (kScatter ? x : k);
      if (r >= p.height || c >= p.width) continue;
      square[k][x] = from[kScatter ? dense + int64_t{r} * p.dense + c : strided + r + int64_t{c} * p.strided];
    }
    __syncthreads();
    for (int k = y; k < kSquare; k += kSquareThreads / kSquare) {
      const Index r = row + (kScatter ? x : k), c = column + (kScatter ? k : x);
      if (r >= p.height || c >= p.width) continue;
      to[kScatter ? strided + r + int64_t{c} * p.strided : dense + int64_t{r} * p.dense + c] = square[x][k];
    }
    __syncthreads();
  }
}

template <class T, class Index, bool kScatter>
void transpose(const Path& p, int down, T* to, const T* from, const Launch& on) {
  Squares<Index> s{};
  int64_t dims[kMaxRank], strides[kMaxRank], dense = 1, matrices = 1;
  int rank = 0;
  for (int d = 0; d < p.rank; d++) {
    if (d == down) {
      s.dense = static_cast<Index>(dense);
    } else if (d > 0) {
      dims[rank] = p.dims[d], strides[rank] = p.strides[d];
      s.outer_dense[rank++] = static_cast<Index>(dense);
      matrices *= p.dims[d];
    }
    dense *= p.dims[d];
  }
  s.outer = walk_of<Index>(rank, dims, strides);
  s.height = static_cast<Index>(p.dims[down]), s.width = static_cast<Index>(p.dims[0]);
  s.strided = static_cast<Index>(p.strides[0]);
  const int64_t rows = (p.dims[down] + kSquare - 1) / kSquare, columns = (p.dims[0] + kSquare - 1) / kSquare;
  s.down = Divisor<Index>(rows), s.across = Divisor<Index>(columns);
  s.count = static_cast<Index>(matrices * rows * columns);
  launch(kOverlapped, transpose_kernel<T, Index, kScatter>, grid_for(int64_t{s.count} * kSquareThreads, kSquareThreads, on), kSquareThreads, 0,
         on, to, from, s);
}

template <class T, class Index, bool kScatter>
void walk(const Path& p, std::byte* to_bytes, const std::byte* from_bytes, const Launch& on) {
  T* to = reinterpret_cast<T*>(to_bytes) + (kScatter ? p.offset : 0);
  const T* from = reinterpret_cast<const T*>(from_bytes) + (kScatter ? 0 : p.offset);
  if constexpr (sizeof(T) <= 4) {
    int down = 1;
    while (down < p.rank && p.strides[down] != 1) down++;
    if (down < p.rank && p.strides[0] != 1 && p.dims[0] >= kShortSide && p.dims[down] >= kShortSide) {
      transpose<T, Index, kScatter>(p, down, to, from, on);
      return;
    }
  }
  int64_t n = 1;
  for (int d = 0; d < p.rank; d++) n *= p.dims[d];
  launch(kOverlapped, walk_kernel<T, Index, kScatter>, grid_for((n + kUnroll - 1) / kUnroll, kThreads, on), kThreads, 0, on, to, from, n,
         walk_of<Index>(p.rank, p.dims, p.strides));
}

template <class T, bool kScatter>
void walk_units(const Path& p, bool small, std::byte* to, const std::byte* from, const Launch& on) {
  small ? walk<T, int32_t, kScatter>(p, to, from, on) : walk<T, int64_t, kScatter>(p, to, from, on);
}

template <bool kScatter>
void run(const Instruction& in, const Launch& on) {
  const Operand &x = *in.in[0], &y = *in.out[0], &dense = kScatter ? x : y;
  const int64_t size = dtype_size(dense.dtype);
  if (kScatter && x.shape.size() != y.shape.size()) {  // its places are distinct: as many fill it
    check(cudaMemsetAsync(y.data, 0, static_cast<size_t>(y.shape.size() * size), on.stream));
  }
  if (dense.shape.size() == 0) return;
  Path p = collapse(dense.shape, in);
  const bool small = x.shape.size() < kSmall && y.shape.size() < kSmall;
  int64_t unit = 16;
  while (unit > size && !(is_aligned(x.data, unit) && is_aligned(y.data, unit) && widen(p, size, unit))) unit /= 2;
  switch (unit) {
    case 16: return walk_units<uint4, kScatter>(p, small, y.data, x.data, on);
    case 8: return walk_units<uint2, kScatter>(p, small, y.data, x.data, on);
    case 4: return walk_units<uint32_t, kScatter>(p, small, y.data, x.data, on);
    case 2: return walk_units<uint16_t, kScatter>(p, small, y.data, x.data, on);
    default: return walk_units<uint8_t, kScatter>(p, small, y.data, x.data, on);
  }
}

}  // namespace

void register_strided(KernelTable& t) {
  t.add({"strided_copy", run<false>});
  t.add({"strided_scatter", run<true>});
}

}  // namespace switchyard::cuda
