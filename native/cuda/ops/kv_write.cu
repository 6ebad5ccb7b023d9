// `kv_write`: new keys or values go to their slots in a paged cache, in place (the layout: cpu/kv_write.cc).
#include "cuda/device/float16.h"
#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;  // a warp for each head of a row
// Up to that many rows, a block looks itself whether a later one has its slot; a launch costs more than the look.
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

// A warp stores x[0…n) at `place` of a page.
template <class T>
__device__ void store(const Cache& cache, std::byte* page, int64_t place, const float* x, int64_t n, int lane) {
  T* const to = reinterpret_cast<T*>(page) + (cache.transpose ? place : place * n);
  const int64_t apart = cache.transpose ? cache.block : 1;
  for (int64_t c = lane; c < n; c += 32) to[c * apart] = from_float<T>(x[c]);
}

// x ≈ scale · code, scale = max|x| / 127, codes to nearest even; the CPU's rounding steps, none of them fused. A row that is not
// finite has the scale NaN and codes 0.
template <>
__device__ void store<Codes>(const Cache& cache, std::byte* page, int64_t place, const float* x, int64_t n, int lane) {
  const float largest = largest_of(x, n, lane);
  const bool finite = largest < INFINITY, zero = !finite || largest < 1e-30f;  // the inverse of less might overflow
  const float inverse = zero ? 0.0f : 127.0f / largest;
  const float scale = !finite ? __int_as_float(0x7fc00000) : zero ? 0.0f : largest / 127.0f;
  auto* const to = reinterpret_cast<int8_t*>(page) + (cache.transpose ? place : place * n);
  const int64_t apart = cache.transpose ? cache.block : 1;
  constexpr float kRound = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
  for (int64_t c = lane; c < n; c += 32) {
    to[c * apart] = zero ? int8_t{0} : static_cast<int8_t>(__fadd_rn(__fadd_rn(__fmul_rn(x[c], inverse), kRound), -kRound));
  }
  // Byte by byte: block · n need not be a multiple of 4.
  if (lane < 4) page[cache.block * n + 4 * place + lane] = static_cast<std::byte>(__float_as_uint(scale) >> 8 * lane);
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

// Block (row, heads). Of two rows that name one slot the later one stays. owner: nullptr, where blocks look themselves.
template <class T>
__global__ void __launch_bounds__(kThreads) write_kernel(Cache cache, const float* x, const int32_t* slots, int64_t rows, int64_t n,
                                                         const int32_t* owner, ErrorWord* error, uint32_t instruction) {
  const int64_t row = blockIdx.x, slot = slots[row];
  if (!in_range_or_none(error, instruction, row, slot, cache.places)) return;
  if (owner != nullptr) {
    if (owner[slot] != row) return;
  } else {
    int later = 0;
    for (int64_t i = row + 1 + threadIdx.x; i < rows; i += kThreads) later |= slots[i] == slot;
    if (block_reduce<kThreads>(later, Largest{}) != 0) return;
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warps = int64_t{gridDim.y} * (kThreads / 32), block = slot / cache.block, place = slot % cache.block;
  for (int64_t head = blockIdx.y * (kThreads / 32) + threadIdx.x / 32; head < cache.heads; head += warps) {
    store<T>(cache, cache.data + (block * cache.heads + head) * cache.page, place, x + (row * cache.heads + head) * n, n, lane);
  }
}

Cache cache_of(const Instruction& in) {
  const Operand& cache = *in.out[0];
  const bool transpose = in.attrs[0].i != 0;
  const int64_t block = cache.shape[transpose ? 3 : 2];
  return {cache.data, cache.shape[1], block, cache.shape[0] * block, cache.shape[2] * cache.shape[3] * dtype_size(cache.dtype), transpose};
}

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
  const auto write = [&](auto* kernel) {
    constexpr int64_t kHeads = kThreads / 32;
    const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(std::min<int64_t>((cache.heads + kHeads - 1) / kHeads, 65535)));
    launch(kernel, grid, kThreads, 0, on, cache, x.as<float>(), slots, rows, x.shape[2], owner, on.error, in.number);
  };
  switch (out.dtype) {
    case DType::kU8: write(write_kernel<Codes>); break;
    case DType::kF16: write(write_kernel<Half>); break;
    case DType::kBF16: write(write_kernel<Bf16>); break;
    default: write(write_kernel<float>); break;
  }
}

}  // namespace

void register_kv_write(KernelTable& t) { t.add({"kv_write", run, scratch}); }

}  // namespace switchyard::cuda
