// Kernels over the rows of a matrix of f32: a row belongs to `kThreads` neighbouring threads (a warp, or a block), which keep it
// in registers, or read it again at each pass where it is too long for that.
#pragma once
#include "cuda/device/reduce.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {

constexpr int kRowVector = 4;

// How a row kernel is cut. kItems: elements a thread keeps; 0: none.
template <int kThreads_, int kItems_>
struct RowShape {
  static constexpr int kThreads = kThreads_, kItems = kItems_;
  static constexpr int kBlock = kThreads < 128 ? 128 : kThreads;  // threads of a block
  static constexpr int kRows = kBlock / kThreads;                 // rows of a block
};

// The part of one row that a thread has. All threads of the row call the same functions in the same order.
template <class S>
class Row {
 public:
  // `packed`: x and y are 16-byte aligned and n is a multiple of 4. `present`: false where there is no such row.
  __device__ Row(const float* x, int64_t n, bool packed, bool present)
      : x_(x), n_(present ? n : 0), packed_(packed), thread_(static_cast<int>(threadIdx.x) % S::kThreads) {
    if constexpr (S::kItems > 0) {
#pragma unroll
      for (int j = 0; j < S::kItems; j += kRowVector) load(j, items_ + j);
    }
  }
  // do_it(value, place) for each element of this thread.
  template <class F>
  __device__ void each(const F& do_it) const {
    if constexpr (S::kItems > 0) {
#pragma unroll
      for (int j = 0; j < S::kItems; j += kRowVector) visit(j, items_ + j, do_it);
    } else {
      batches([&](int64_t j, const float* v) { visit(j, v, do_it); });
    }
  }
  // y[place] = of(value, place, item); y may be x. `item` names the same place in another row of the same
  // shape and packing.
  template <class F>
  __device__ void write(float* y, const F& of) const {
    if constexpr (S::kItems > 0) {
#pragma unroll
      for (int j = 0; j < S::kItems; j += kRowVector) store(y, j, items_ + j, of);
    } else {
      batches([&](int64_t j, const float* v) { store(y, j, v, of); });
    }
  }
  __device__ float value(int64_t place, int item) const {
    if constexpr (S::kItems > 0) return items_[item];
    else return x_[place];
  }
  template <class T, class Op>
  __device__ static T reduce(T v, Op op) {
    if constexpr (S::kThreads == 32) return warp_reduce(v, op);
    else return block_reduce<S::kThreads>(v, op);
  }

 private:
  // Elements j to j + 3 of this thread: four neighbours where packed, else one from each of four runs of kThreads.
  __device__ int64_t place(int64_t j, int k) const {
    return packed_ ? j * S::kThreads + thread_ * kRowVector + k : (j + k) * S::kThreads + thread_;
  }
  __device__ void load(int64_t j, float* v) const {
    if (packed_) {
      Pack<float, kRowVector> four{};
      if (place(j, 0) < n_) four = load_pack<kRowVector>(x_ + place(j, 0));
#pragma unroll
      for (int k = 0; k < kRowVector; k++) v[k] = four.v[k];
    } else {
#pragma unroll
      for (int k = 0; k < kRowVector; k++) v[k] = place(j, k) < n_ ? x_[place(j, k)] : 0.0f;
    }
  }
  // do_it(j, elements j to j + 3) over a row that is not kept; several loads are under way at once.
  template <class F>
  __device__ void batches(const F& do_it) const {
    constexpr int kBatch = 4 * kRowVector;
    for (int64_t first = 0; first * S::kThreads < n_; first += kBatch) {
      float v[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; j += kRowVector) load(first + j, v + j);
#pragma unroll
      for (int j = 0; j < kBatch; j += kRowVector) do_it(first + j, v + j);
    }
  }
  template <class F>
  __device__ void visit(int64_t j, const float* v, const F& do_it) const {
#pragma unroll
    for (int k = 0; k < kRowVector; k++) {
      if (place(j, k) < n_) do_it(v[k], place(j, k));
    }
  }
  template <class F>
  __device__ void store(float* y, int64_t j, const float* v, const F& of) const {
    if (packed_) {
      if (place(j, 0) >= n_) return;
      Pack<float, kRowVector> four;
#pragma unroll
      for (int k = 0; k < kRowVector; k++) four.v[k] = of(v[k], place(j, k), static_cast<int>(j) + k);
      store_pack(y + place(j, 0), four);
    } else {
#pragma unroll
      for (int k = 0; k < kRowVector; k++) {
        if (place(j, k) < n_) y[place(j, k)] = of(v[k], place(j, k), static_cast<int>(j) + k);
      }
    }
  }

  const float* x_;
  int64_t n_;
  bool packed_;
  int thread_;
  float items_[S::kItems > 0 ? S::kItems : 1];
};

inline bool rows_packed(const void* x, const void* y, int64_t n) {
  return n % kRowVector == 0 && is_aligned(x, 16) && is_aligned(y, 16);
}

// with(shape) for the shape that fits rows of n: short rows by warps; a block has few elements a thread, so that one row, as in
// decoding, takes little time.
template <class F>
void choose_rows(int64_t n, const F& with) {
  if (n <= 128) return with(RowShape<32, 4>{});
  if (n <= 512) return with(RowShape<32, 16>{});
  if (n <= 1024) return with(RowShape<128, 8>{});
  if (n <= 2048) return with(RowShape<256, 8>{});
  if (n <= 4096) return with(RowShape<512, 8>{});
  if (n <= 8192) return with(RowShape<1024, 8>{});
  if (n <= 32768) return with(RowShape<1024, 32>{});
  return with(RowShape<1024, 0>{});
}

// The row of this thread and whether it is one of `rows`; blocks have S::kRows each.
template <class S>
__device__ inline int64_t row_of_thread() {
  return int64_t{blockIdx.x} * S::kRows + static_cast<int>(threadIdx.x) / S::kThreads;
}
template <class S>
dim3 row_grid(int64_t rows) {
  return dim3(static_cast<unsigned>((rows + S::kRows - 1) / S::kRows));
}

}  // namespace switchyard::cuda
