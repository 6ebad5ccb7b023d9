// A radix sort from the lowest digit of 8 bits up. For each digit
//   1. each tile counts how often every digit stands in it,
//   2. a scan over [digit][tile] makes of a count the place where those of the tile begin,
//   3. each tile sends its pairs there, in order.
#include "cuda/ops/radix_sort.h"

#include <utility>

#include "cuda/device/reduce.h"

namespace switchyard::cuda {
namespace {

constexpr int kBits = 8, kDigits = 1 << kBits;
constexpr int kThreads = kDigits;  // so that a thread takes a digit where digits are dealt out
constexpr int kWarps = kThreads / 32;
constexpr int kItems = 8;          // of a thread
constexpr int kWarpItems = 32 * kItems, kTile = kWarps * kWarpItems;
constexpr int kScanThreads = 1024, kScanItems = 8;

// Block = (segment, tile).
__global__ void __launch_bounds__(kThreads) count_kernel(uint32_t* counts, const uint32_t* keys, int64_t n, int64_t tiles, int shift) {
  __shared__ uint32_t found[kDigits];
  const int64_t segment = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t begin = tile * kTile, end = min(n, begin + kTile);
  found[threadIdx.x] = 0;
  __syncthreads();
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    atomicAdd(&found[keys[segment * n + i] >> shift & (kDigits - 1)], 1u);
  }
  __syncthreads();
  counts[(segment * kDigits + threadIdx.x) * tiles + tile] = found[threadIdx.x];
}

// Exclusive sums of a segment's `length` counts, in place. Block = segment.
__global__ void __launch_bounds__(kScanThreads) scan_kernel(uint32_t* counts, int64_t length) {
  uint32_t* const at = counts + blockIdx.x * length;
  uint32_t before = 0;
  for (int64_t begin = 0; begin < length; begin += kScanThreads * kScanItems) {
    const int64_t first = begin + threadIdx.x * kScanItems;
    uint32_t own[kScanItems], sum = 0;
#pragma unroll
    for (int i = 0; i < kScanItems; i++) {
      own[i] = first + i < length ? at[first + i] : 0;
      sum += own[i];
    }
    uint32_t total;
    uint32_t place = before + block_scan<kScanThreads>(sum, &total) - sum;
#pragma unroll
    for (int i = 0; i < kScanItems; i++) {
      if (first + i < length) at[first + i] = place;
      place += own[i];
    }
    before += total;
  }
}

// The lanes of the warp that are `present` and have the same digit.
__device__ unsigned peers_of(uint32_t digit, bool present) {
  unsigned peers = __ballot_sync(kAllLanes, present);
#pragma unroll
  for (int bit = 0; bit < kBits; bit++) {
    const bool set = digit >> bit & 1;
    const unsigned with = __ballot_sync(kAllLanes, set);
    peers &= set ? with : ~with;
  }
  return peers;
}

// A warp takes consecutive pairs, 32 at a time, so that equal digits keep their order. Block = (segment, tile).
__global__ void __launch_bounds__(kThreads) send_kernel(RadixSort::Pairs to, RadixSort::Pairs from, const uint32_t* starts, int64_t n,
                                                        int64_t tiles, int shift) {
  __shared__ uint32_t places[kWarps][kDigits];  // first counts, then where the digits of a warp go
  const int64_t segment = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int w = 0; w < kWarps; w++) places[w][threadIdx.x] = 0;
  __syncthreads();
  const int64_t first = tile * kTile + warp * kWarpItems + lane, base = segment * n;
  uint32_t keys[kItems], values[kItems], ranks[kItems];
#pragma unroll
  for (int i = 0; i < kItems; i++) {
    const int64_t at = first + 32 * i;
    keys[i] = at < n ? from.keys[base + at] : 0;
    values[i] = at < n ? from.values[base + at] : 0;
  }
#pragma unroll
  for (int i = 0; i < kItems; i++) {
    const bool present = first + 32 * i < n;
    const uint32_t digit = keys[i] >> shift & (kDigits - 1);
    const unsigned peers = peers_of(digit, present);
    const auto earlier = static_cast<uint32_t>(__popc(peers & ((1u << lane) - 1)));
    const uint32_t so_far = places[warp][digit];
    __syncwarp();
    if (present && earlier == 0) places[warp][digit] = so_far + static_cast<uint32_t>(__popc(peers));
    __syncwarp();
    ranks[i] = so_far + earlier;
  }
  __syncthreads();
  uint32_t place = starts[(segment * kDigits + threadIdx.x) * tiles + tile];
  for (int w = 0; w < kWarps; w++) {
    const uint32_t count = places[w][threadIdx.x];
    places[w][threadIdx.x] = place;
    place += count;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; i++) {
    if (first + 32 * i >= n) continue;
    const int64_t at = base + places[warp][keys[i] >> shift & (kDigits - 1)] + ranks[i];
    to.keys[at] = keys[i];
    to.values[at] = values[i];
  }
}

int64_t tiles_of(int64_t n) { return (n + kTile - 1) / kTile; }

}  // namespace

int64_t RadixSort::bytes(int64_t segments, int64_t n) {
  return segments * (4 * n + kDigits * tiles_of(n)) * static_cast<int64_t>(sizeof(uint32_t));
}

RadixSort::RadixSort(std::byte* scratch, int64_t segments, int64_t n) : segments_(segments), n_(n), tiles_(tiles_of(n)) {
  auto* words = reinterpret_cast<uint32_t*>(scratch);
  const int64_t size = segments * n;
  from_ = {words, words + size};
  to_ = {words + 2 * size, words + 3 * size};
  counts_ = words + 4 * size;
}

RadixSort::Pairs RadixSort::run(int bits, const Launch& on) {
  const auto blocks = static_cast<unsigned>(segments_ * tiles_);
  for (int shift = 0; shift < bits; shift += kBits) {
    launch(count_kernel, blocks, kThreads, 0, on, counts_, from_.keys, n_, tiles_, shift);
    launch(scan_kernel, static_cast<unsigned>(segments_), kScanThreads, 0, on, counts_, kDigits * tiles_);
    launch(send_kernel, blocks, kThreads, 0, on, to_, from_, counts_, n_, tiles_, shift);
    std::swap(from_, to_);
  }
  return from_;
}

}  // namespace switchyard::cuda
