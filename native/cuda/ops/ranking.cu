// Three ways: short rows are sorted in shared memory; of long ones a few are selected, and those sorted; or all are sorted by
// their digits. A word is the key of a value and its place below: no two are equal, so the order is one.
#include "cuda/ops/ranking.h"

#include <algorithm>
#include <bit>

#include "cuda/device/bitonic.h"
#include "cuda/device/reduce.h"
#include "cuda/device/row_walk.h"
#include "cuda/ops/radix_sort.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kShort = 2048;    // a row that is sorted whole by a block
constexpr int64_t kSelected = 2048;  // how many of a long row a block selects
constexpr int64_t kBatch = int64_t{1} << 22;  // elements sorted by digits at once: 64 MiB of scratch
constexpr int64_t kMostBlocks = int64_t{1} << 16;

__device__ inline uint32_t key_of(float x, bool falling) { return falling ? falling_key(x) : rising_key(x); }
__device__ inline uint64_t word_of(float x, int64_t i, bool falling) {
  return uint64_t{key_of(x, falling)} << 32 | static_cast<uint32_t>(i);
}

__device__ void write(const Ranking& r, int64_t row, const uint64_t* words) {
  for (int64_t i = threadIdx.x; i < r.k; i += blockDim.x) {
    const auto place = static_cast<int32_t>(words[i] & 0xffffffffu);
    r.places[row * r.k + i] = place;
    r.values[row * r.k + i] = r.x[row * r.n + place];
  }
  __syncthreads();  // before the words are others
}

// room: the power of two for n words.
__global__ void short_kernel(Ranking r, int room) {
  SWITCHYARD_SHARED(shared);
  auto* words = reinterpret_cast<uint64_t*>(shared);
  for (int64_t row = blockIdx.x; row < r.rows; row += gridDim.x) {
    for (int i = static_cast<int>(threadIdx.x); i < room; i += static_cast<int>(blockDim.x)) {
      words[i] = i < r.n ? word_of(r.x[row * r.n + i], i, r.falling) : ~uint64_t{0};
    }
    __syncthreads();
    bitonic_sort(words, room);
    write(r, row, words);
  }
}

constexpr int kSelectThreads = 1024, kMostBins = 2048;
// Digits of a word from the highest down: three of the key, three of the place, which counts where keys are equal.
struct Digit {
  int shift, bits;
};
__device__ inline Digit digit(int i) {
  const int below = i % 3, half = i < 3 ? 32 : 0;
  return below == 0 ? Digit{half + 21, 11} : below == 1 ? Digit{half + 10, 11} : Digit{half, 10};
}

// The k-th smallest word of a row, or one between it and the next: digit by digit, the bin in which it lies. All threads call.
__device__ uint64_t kth_word(const float* x, const Ranking& r, uint32_t* bins) {
  __shared__ uint32_t chosen, rank, size;
  uint64_t prefix = 0;
  auto wanted = static_cast<uint32_t>(r.k);  // of the words with this prefix
  for (int d = 0; d < 6; d++) {
    const Digit at = digit(d);
    const int shift = at.shift, bits = at.bits;
    const uint32_t mask = (1u << bits) - 1;
    for (int i = static_cast<int>(threadIdx.x); i < kMostBins; i += kSelectThreads) bins[i] = 0;
    __syncthreads();
    walk_row<kSelectThreads>(x, r.n, [&](int64_t i, float v) {
      const uint64_t word = word_of(v, i, r.falling);
      if (d == 0 || word >> (shift + bits) == prefix) atomicAdd(&bins[word >> shift & mask], 1u);
    });
    __syncthreads();
    const uint32_t first = bins[2 * threadIdx.x], second = bins[2 * threadIdx.x + 1];
    uint32_t total;
    const uint32_t before = block_scan<kSelectThreads>(first + second, &total) - first - second;
    if (before < wanted && wanted <= before + first + second) {
      const bool later = wanted > before + first;
      chosen = 2 * threadIdx.x + later;
      rank = wanted - before - (later ? first : 0);
      size = later ? second : first;
    }
    __syncthreads();
    prefix = prefix << bits | chosen;
    wanted = rank;
    const bool whole = size == rank;
    __syncthreads();
    if (whole) return ((prefix + 1) << shift) - 1;  // all of the bin are taken
  }
  return prefix;
}

// room: the power of two for k words.
__global__ void __launch_bounds__(kSelectThreads) select_kernel(Ranking r, int room) {
  __shared__ uint32_t bins[kMostBins];
  __shared__ uint64_t words[kSelected];
  __shared__ uint32_t found;
  for (int64_t row = blockIdx.x; row < r.rows; row += gridDim.x) {
    const float* x = r.x + row * r.n;
    const uint64_t last = kth_word(x, r, bins);
    if (threadIdx.x == 0) found = 0;
    for (int i = static_cast<int>(threadIdx.x); i < room; i += kSelectThreads) words[i] = ~uint64_t{0};
    __syncthreads();
    walk_row<kSelectThreads>(x, r.n, [&](int64_t i, float v) {
      const uint64_t word = word_of(v, i, r.falling);
      if (word <= last) words[atomicAdd(&found, 1u)] = word;  // k of them, in any order
    });
    __syncthreads();
    bitonic_sort(words, room);
    write(r, row, words);
  }
}

// Rows `first` … of a batch of `count` elements.
__global__ void keys_kernel(RadixSort::Pairs pairs, Ranking r, int64_t first, int64_t count) {
  SWITCHYARD_GRID_STRIDE(i, count) {
    pairs.keys[i] = key_of(r.x[first * r.n + i], r.falling);
    pairs.values[i] = static_cast<uint32_t>(i % r.n);
  }
}
__global__ void places_kernel(Ranking r, RadixSort::Pairs pairs, int64_t first, int64_t rows) {
  SWITCHYARD_GRID_STRIDE(i, rows * r.k) {
    const int64_t row = i / r.k, place = pairs.values[row * r.n + i % r.k];
    r.places[first * r.k + i] = static_cast<int32_t>(place);
    r.values[first * r.k + i] = r.x[(first + row) * r.n + place];
  }
}

int64_t batch_of(const Ranking& r) { return std::clamp<int64_t>(kBatch / r.n, 1, std::max<int64_t>(1, r.rows)); }
bool by_digits(const Ranking& r) { return r.n > kShort && r.k > kSelected; }

void sort_by_digits(const Ranking& r, const Launch& on, std::byte* scratch) {
  const int64_t batch = batch_of(r);
  for (int64_t first = 0; first < r.rows; first += batch) {
    const int64_t rows = std::min(batch, r.rows - first), count = rows * r.n;
    RadixSort sort(scratch, rows, r.n);
    launch(keys_kernel, grid_for(count, 256, on), 256, 0, on, sort.pairs(), r, first, count);
    const RadixSort::Pairs sorted = sort.run(32, on);
    launch(places_kernel, grid_for(rows * r.k, 256, on), 256, 0, on, r, sorted, first, rows);
  }
}

int room_for(int64_t words) { return static_cast<int>(std::bit_ceil(static_cast<uint64_t>(words))); }

}  // namespace

int64_t ranking_scratch(const Ranking& r) { return by_digits(r) ? RadixSort::bytes(batch_of(r), r.n) : 0; }

void launch_ranking(const Ranking& r, const Launch& on, std::byte* scratch) {
  if (r.k == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(r.rows, kMostBlocks));
  if (by_digits(r)) {
    sort_by_digits(r, on, scratch);
  } else if (r.n > kShort) {
    launch(select_kernel, blocks, kSelectThreads, 0, on, r, room_for(r.k));
  } else {
    const int room = room_for(r.n);
    launch(short_kernel, blocks, std::clamp(room / 2, 32, 1024), room * static_cast<int64_t>(sizeof(uint64_t)), on, r, room);
  }
}

}  // namespace switchyard::cuda
