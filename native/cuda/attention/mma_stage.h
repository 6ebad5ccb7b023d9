// How keys, values and queries come into shared memory for products by the tensor cores (mma_tile.h).
#pragma once
#include "cuda/attention/keys.h"
#include "cuda/device/async.h"

namespace switchyard::cuda {

constexpr int kMostMmaWidth = 256;  // channels of keys and of values

// What rounding to T leaves of x.
template <class T>
__device__ inline float rest16(float x) {
  return x - to_float(from_float<T>(x));
}

// Rows of 16-byte pieces, an odd number of them apart, so that eight rows of a matrix lie in different banks.
constexpr int kMmaKeyStride = kKeyBlock * 2 + 16;
__host__ __device__ constexpr int mma_stride(int width) { return width * 2 + 16; }

struct MmaShared {
  int scales, flag, stages, values, stage, total;  // in bytes; queries come first, values after the keys of a stage
};
// rows: of the queries' products.
__host__ __device__ constexpr MmaShared mma_shared(int rows, int C, int Cv, int stages) {
  MmaShared s{};
  s.scales = rows * mma_stride(C);
  s.flag = s.scales + rows * 4;
  s.stages = s.flag + 16;
  s.values = C * kMmaKeyStride;
  s.stage = s.values + kKeyBlock * mma_stride(Cv);
  s.total = s.stages + stages * s.stage;
  return s;
}

// Queries as T. Those for f16 are divided by the power of two of their row's largest, which goes into the scale of the scores.
// kWidth: most channels.
template <class T, bool kPrecise, int kRows, int kWarps, int kWidth>
__device__ void stage_mma_queries(const AttentionProblem& p, const AttentionTile& tile, int g, int C, std::byte* to, float* scales) {
  constexpr int kOwn = kWidth / 32, kOwnRows = kRows / kWarps;
  const int lane = static_cast<int>(threadIdx.x) % 32, group = p.group(), first = static_cast<int>(tile.first);
  const int rows = tile.queries * group - first;
#pragma unroll 2
  for (int i = 0; i < kOwnRows; i++) {
    const int r = static_cast<int>(threadIdx.x) / 32 + i * kWarps, row = first + r, query = row / group;
    const float* from = p.q + ((tile.token + query) * p.H + g * group + (row - query * group)) * C;
    float x[kOwn], factor = 1.0f, unit = 1.0f;
#pragma unroll
    for (int j = 0; j < kOwn; j++) x[j] = r < rows && lane + 32 * j < C ? from[lane + 32 * j] : 0.0f;
    if constexpr (std::is_same_v<T, Half>) {
      float most = 0;
#pragma unroll
      for (int j = 0; j < kOwn; j++) most = fmaxf(most, fabsf(x[j]));
      most = warp_reduce(most, [](float a, float b) { return fmaxf(a, b); });
      const uint32_t exponent = __float_as_uint(most) & 0x7f800000u;
      if (exponent != 0 && exponent < 0x7f000000u) {
        unit = __uint_as_float(exponent), factor = __uint_as_float(0x7f000000u - exponent);
      }
    }
    const int at = kPrecise ? r / 8 * 16 + r % 8 : r;
    if (lane == 0) scales[r] = unit * p.scale;
    T* high = reinterpret_cast<T*>(to + at * mma_stride(C));
    T* low = reinterpret_cast<T*>(to + (at + 8) * mma_stride(C));
#pragma unroll
    for (int j = 0; j < kOwn; j++) {
      if (lane + 32 * j >= C) break;
      const float scaled = x[j] * factor;
      high[lane + 32 * j] = from_float<T>(scaled);
      if constexpr (kPrecise) low[lane + 32 * j] = from_float<T>(rest16<T>(scaled));
    }
  }
}

// Where the keys of a walk lie: lane 4·b + i of each warp knows vector i of block b of eight, and what the table says of the next
// eight, so that nothing waits for the table.
template <class T>
struct FoundBlocks {
  const PagedKeys<T>& keys;
  const AttentionProblem& p;
  const KeyWalk& walk;
  int sequence, g, end;
  FoundVector mine{};
  int64_t entry = kUnseen;

  // Blocks from `first` on.
  __device__ void read_table(int first) {
    const int lane = static_cast<int>(threadIdx.x) % 32, block = first + lane / 4;
    entry = block < end ? entry_of(keys, sequence, walk.all, walk.base(block), lane % 4) : kUnseen;
  }
  __device__ void find(int first) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    mine = vector_of(keys, p, sequence, g, walk.base(first + lane / 4), lane % 4, entry);
    read_table(first + 8);
  }
  __device__ const std::byte* key_vector(int block_of_eight, int i) const { return shared(mine.k, 4 * block_of_eight + i); }
  __device__ const std::byte* value_vector(int block_of_eight, int i) const { return shared(mine.v, 4 * block_of_eight + i); }

 private:
  __device__ static const std::byte* shared(const std::byte* own, int lane) {
    return reinterpret_cast<const std::byte*>(__shfl_sync(kAllLanes, reinterpret_cast<uint64_t>(own), lane));
  }
};

// Asks for a block of keys and values; zeros for values that no row sees. C and Cv are multiples of kThreads / 8. kExact: Cv, if it
// is known when this is compiled, else 0. Called by all threads.
template <int kThreads, int kExact, class T>
__device__ void copy_block(const FoundBlocks<T>& found, int block_of_eight, int base, int C, int Cv, std::byte* to_keys,
                           std::byte* to_values) {
  constexpr int kChannels = kThreads / 8;  // that threads copy at once: eight pieces each
  const PagedKeys<T>& keys = found.keys;
  const SeenKeys& seen = found.walk.all;
  const int thread = static_cast<int>(threadIdx.x);
  {
    const int c = thread / 8, piece = thread % 8;
    const std::byte* const vector = found.key_vector(block_of_eight, piece / 2);
    const bool there = vector != nullptr;
    const int64_t channel = int64_t{there ? keys.page.size : 0} * 2;
    const std::byte* from = (there ? vector + piece % 2 * 16 : keys.k) + c * channel;
    std::byte* to = to_keys + c * kMmaKeyStride + piece * 16;
#pragma unroll
    for (int j = 0; j < C / kChannels; j++) {
      copy_16(to + j * kChannels * kMmaKeyStride, from + j * kChannels * channel, there ? 16 : 0);
    }
  }
  const bool all = base + kKeyBlock <= seen.prefix || (base >= seen.low && base + kKeyBlock <= seen.high);
  if constexpr (kExact != 0) {
    constexpr int kPieces = kExact / 8, kKeys = kThreads / kPieces;  // that threads copy at once
    static_assert(kKeys % 16 == 0 || 16 % kKeys == 0);
    const int first = thread / kPieces, piece = thread % kPieces;
    const std::byte* vector = nullptr;
    const int64_t at = (first % 16 * kExact + piece * 8) * 2;
    std::byte* to = to_values + first * mma_stride(kExact) + piece * 16;
#pragma unroll
    for (int j = 0; j < kKeyBlock / kKeys; j++) {
      if (kKeys >= 16 || j * kKeys % 16 == 0) vector = found.value_vector(block_of_eight, (j * kKeys + (kKeys > 16 ? first : 0)) / 16);
      const bool there = vector != nullptr && (all || seen.sees(base + j * kKeys + first));
      copy_16(to + j * kKeys * mma_stride(kExact), there ? vector + at + j * kKeys % 16 * kExact * 2 : keys.v, there ? 16 : 0);
    }
  } else {
    const int pieces = Cv / 8;
#pragma unroll 2
    for (int j = 0; j < Cv / kChannels; j++) {
      const int i = thread + j * kThreads, key = i / pieces, piece = i % pieces;
      const std::byte* const vector = found.value_vector(block_of_eight, key / 16);
      const bool there = vector != nullptr && (all || seen.sees(base + key));
      copy_16(to_values + key * mma_stride(Cv) + piece * 16, there ? vector + (key % 16 * Cv + piece * 8) * 2 : keys.v, there ? 16 : 0);
    }
  }
}

// Whether some of [64, Cv] values are no finite numbers; all threads get the answer. found: in shared memory.
template <int kThreads, class T>
__device__ bool any_not_finite(const std::byte* values, int Cv, int* found) {
  constexpr uint32_t kExponent = std::is_same_v<T, Half> ? 0x7c00u : 0x7f80u;
  if (threadIdx.x == 0) *found = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kKeyBlock * Cv / 2; i += kThreads) {
    const int key = i / (Cv / 2), pair = i % (Cv / 2);
    const uint32_t word = *reinterpret_cast<const uint32_t*>(values + key * mma_stride(Cv) + pair * 4);
    if ((word & kExponent) == kExponent || (word >> 16 & kExponent) == kExponent) atomicOr(found, 1);
  }
  __syncthreads();
  return *found != 0;
}

}  // namespace switchyard::cuda
