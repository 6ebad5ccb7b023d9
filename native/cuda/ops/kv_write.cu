// `kv_write`: new keys or values go to their slots in a paged cache, in place (the layout: cpu/kv_write.cc). Values go row by row, many keys by tiles.
#include <algorithm>
#include <type_traits>

#include "cuda/device/float16.h"
#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kTileRows = 32, kTileChannels = 64;
// Up to that many rows, warps look themselves whether a later one has its slot; a launch costs more than the look.
constexpr int64_t kLookedThrough = 1024;

struct Cache {
  std::byte* data;
  int64_t heads, block, places, page;  // page: bytes of a block and head
  bool transpose;
};

struct Codes {};  // of 8 bits, with a scale for each place

// The largest magnitude of a row, by bits: those of magnitudes are ordered as the magnitudes are, NaN last.
__device__ float largest_of(const float* x, int64_t n, int lane) {
  int top = 0;
  for (int64_t c = lane; c < n; c += 32) top = max(top, static_cast<int>(__float_as_uint(x[c]) & 0x7fffffffu));
  return __int_as_float(warp_reduce(top, Largest{}));
}

template <class T>
struct Cell {
  using Type = T;
  __device__ static T of(float x, float) { return from_float<T>(x); }
};
// x ≈ scale · code, codes to nearest even: the CPU's rounding steps, none of them fused. inverse: of the scale, 0 for codes 0.
template <>
struct Cell<Codes> {
  using Type = int8_t;
  __device__ static int8_t of(float x, float inverse) {
    constexpr float kRound = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
    if (inverse == 0) return 0;
    return static_cast<int8_t>(__fadd_rn(__fadd_rn(__fmul_rn(x, inverse), kRound), -kRound));
  }
};

// Where a row of a head goes.
struct Target {
  std::byte* page;
  int64_t place;
};
__device__ inline Target target_of(const Cache& cache, int64_t slot, int64_t head) {
  return {cache.data + (slot / cache.block * cache.heads + head) * cache.page, slot % cache.block};
}

// A warp writes the scale of a row, if the cache has scales: max|x| / 127, NaN for a row that is not finite. Returns the inverse.
template <class T>
__device__ float scale_row(const Cache& cache, const Target& to, const float* x, int64_t n, int lane) {
  if constexpr (!std::is_same_v<T, Codes>) return 0;
  const float largest = largest_of(x, n, lane);
  const bool finite = largest < INFINITY, zero = !finite || largest < 1e-30f;  // the inverse of less might overflow
  const float scale = !finite ? __int_as_float(0x7fc00000) : zero ? 0.0f : largest / 127.0f;
  // Byte by byte: block · n need not be a multiple of 4.
  if (lane < 4) to.page[cache.block * n + 4 * to.place + lane] = static_cast<std::byte>(__float_as_uint(scale) >> 8 * lane);
  return zero ? 0.0f : 127.0f / largest;
}

// owner[slot] = the last row that goes there. Two steps: only slots that are written to are looked at.
__global__ void clear_owners_kernel(int32_t* owner, const int32_t* slots, int64_t rows, int64_t places) {
  SWITCHYARD_GRID_STRIDE(i, rows) {
    if (slots[i] >= 0 && slots[i] < places) owner[slots[i]] = -1;
  }
}
__global__ void find_owners_kernel(int32_t* owner, const int32_t* slots, int64_t rows, int64_t places) {
  SWITCHYARD_GRID_STRIDE(i, rows) {
    if (slots[i] >= 0 && slots[i] < places) atomicMax(&owner[slots[i]], static_cast<int32_t>(i));
  }
}

struct Rows {
  const float* x;         // [rows, heads, n]
  const int32_t* slots;
  const int32_t* owner;   // nullptr, where blocks look themselves
  int64_t rows, n;
};

// Whether a warp's row goes to its slot: of two rows that name one the later stays.
__device__ bool stays(const Rows& in, int64_t row, int64_t slot, int lane) {
  if (in.owner != nullptr) return in.owner[slot] == row;
  int later = 0;
  for (int64_t i = row + 1 + lane; i < in.rows; i += 32) later |= in.slots[i] == slot;
  return __any_sync(kAllLanes, later) == 0;
}

// A warp for each head of a row. Block (row, heads).
template <class T>
__global__ void __launch_bounds__(kThreads) write_kernel(Cache cache, Rows in, ErrorWord* error, uint32_t instruction) {
  using Type = typename Cell<T>::Type;
  const int64_t row = blockIdx.x, slot = in.slots[row], n = in.n;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (!in_range_or_none(error, instruction, row, slot, cache.places) || !stays(in, row, slot, lane)) return;
  const int64_t warps = int64_t{gridDim.y} * kWarps, apart = cache.transpose ? cache.block : 1;
  for (int64_t head = int64_t{blockIdx.y} * kWarps + threadIdx.x / 32; head < cache.heads; head += warps) {
    const float* x = in.x + (row * cache.heads + head) * n;
    const Target target = target_of(cache, slot, head);
    const float inverse = scale_row<T>(cache, target, x, n, lane);
    auto* const to = reinterpret_cast<Type*>(target.page) + (cache.transpose ? target.place : target.place * n);
    for (int64_t c = lane; c < n; c += 32) to[c * apart] = Cell<T>::of(x[c], inverse);
  }
}

// Keys of many rows: a block turns 32 rows of a head in shared memory, so that channels of neighbouring places are written side
// by side. Block (rows, head).
template <class T>
__global__ void __launch_bounds__(kThreads) write_keys_kernel(Cache cache, Rows in, ErrorWord* error, uint32_t instruction) {
  using Type = typename Cell<T>::Type;
  __shared__ Type tile[kTileChannels][kTileRows + 1];
  __shared__ int32_t slots[kTileRows];  // -1: the row goes nowhere
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t first = int64_t{blockIdx.x} * kTileRows, n = in.n;
  for (int r = warp; r < kTileRows; r += kWarps) {
    const int64_t row = first + r, slot = row < in.rows ? in.slots[row] : -1;
    const bool goes = in_range_or_none(error, instruction, row, slot, cache.places) && stays(in, row, slot, lane);
    if (lane == 0) slots[r] = goes ? static_cast<int32_t>(slot) : -1;
  }
  __syncthreads();
  for (int64_t head = blockIdx.y; head < cache.heads; head += gridDim.y) {
    const Target target = target_of(cache, max(slots[lane], 0), head);
    float inverse[kTileRows / kWarps];
#pragma unroll
    for (int i = 0; i < kTileRows / kWarps; i++) {
      const int r = warp + i * kWarps;
      if (slots[r] < 0) continue;
      inverse[i] = scale_row<T>(cache, target_of(cache, slots[r], head), in.x + ((first + r) * cache.heads + head) * n, n, lane);
    }
    for (int64_t begin = 0; begin < n; begin += kTileChannels) {
      const int channels = static_cast<int>(min(int64_t{kTileChannels}, n - begin));
#pragma unroll
      for (int i = 0; i < kTileRows / kWarps; i++) {
        const int r = warp + i * kWarps;
        if (slots[r] < 0) continue;
        const float* x = in.x + ((first + r) * cache.heads + head) * n + begin;
        for (int c = lane; c < channels; c += 32) tile[c][r] = Cell<T>::of(x[c], inverse[i]);
      }
      __syncthreads();
      for (int c = warp; c < channels && slots[lane] >= 0; c += kWarps) {
        reinterpret_cast<Type*>(target.page)[(begin + c) * cache.block + target.place] = tile[c][lane];
      }
      __syncthreads();
    }
  }
}

Cache cache_of(const Instruction& in) {
  const Operand& cache = *in.out[0];
  const bool transpose = in.attrs[0].i != 0;
  const int64_t block = cache.shape[transpose ? 3 : 2];
  return {cache.data, cache.shape[1], block, cache.shape[0] * block, cache.shape[2] * cache.shape[3] * dtype_size(cache.dtype), transpose};
}

unsigned most(int64_t blocks) { return static_cast<unsigned>(std::min<int64_t>(blocks, 65535)); }
bool needs_owners(const Instruction& in) { return in.in[1]->shape[0] > kLookedThrough; }

int64_t scratch(const Instruction& in, const DeviceLimits&) {
  return needs_owners(in) ? cache_of(in).places * static_cast<int64_t>(sizeof(int32_t)) : 0;
}

void run(const Instruction& in, const Launch& on) {
  const Operand &out = *in.out[0], &x = *in.in[1];
  const Cache cache = cache_of(in);
  const int64_t rows = x.shape[0], bytes = out.shape.size() * dtype_size(out.dtype);
  const int32_t* slots = in.in[2]->as<int32_t>();
  if (out.data != in.in[0]->data && bytes > 0) {
    check(cudaMemcpyAsync(out.data, in.in[0]->data, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on.stream));
  }
  int32_t* owner = nullptr;
  if (needs_owners(in)) {
    owner = reinterpret_cast<int32_t*>(on.scratch);
    launch(clear_owners_kernel, grid_for(rows, 256, on), 256, 0, on, owner, slots, rows, cache.places);
    launch(find_owners_kernel, grid_for(rows, 256, on), 256, 0, on, owner, slots, rows, cache.places);
  }
  const Rows in_rows{x.as<float>(), slots, owner, rows, x.shape[2]};
  const auto write = [&]<class T>() {
    if (cache.transpose && rows >= kTileRows) {
      const dim3 grid(static_cast<unsigned>((rows + kTileRows - 1) / kTileRows), most(cache.heads));
      launch(write_keys_kernel<T>, grid, kThreads, 0, on, cache, in_rows, on.error, in.number);
    } else {
      const dim3 grid(static_cast<unsigned>(rows), most((cache.heads + kWarps - 1) / kWarps));
      launch(write_kernel<T>, grid, kThreads, 0, on, cache, in_rows, on.error, in.number);
    }
  };
  switch (out.dtype) {
    case DType::kU8: write.template operator()<Codes>(); break;
    case DType::kF16: write.template operator()<Half>(); break;
    case DType::kBF16: write.template operator()<Bf16>(); break;
    default: write.template operator()<float>(); break;
  }
}

}  // namespace

void register_kv_write(KernelTable& t) { t.add({"kv_write", run, scratch}); }

}  // namespace switchyard::cuda
