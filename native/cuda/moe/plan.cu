// The dispatch plan of an MoE layer: a stable counting sort of the (token, slot) pairs by expert (moe/plan.cc has the picture).
//
// Pairs are cut in chunks, one a block, and a chunk in runs, one a warp. 1. Each chunk counts its experts; a single chunk skips
// this. 2. Each block adds up the counts of the chunks before its own and of all, which tells where its rows of each expert
// begin; its warps count their runs and write their pairs, in order. Integer atomics only count, so that nothing depends on
// who comes first.
#include <algorithm>
#include <stdexcept>

#include "cuda/device/async.h"
#include "cuda/device/reduce.h"
#include "cuda/device/report.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {
namespace {

constexpr int kMostWarps = 32;
// A warp's run at least.
constexpr int64_t kPairsPerWarp = 64;
// Up to here one block is faster than two launches.
constexpr int64_t kOneBlock = 4096;
constexpr int64_t kPairsPerChunk = 2048;
// Each block reads the counts of all chunks: of many experts there are fewer chunks.
constexpr int64_t kPairsPerExpert = 4;
constexpr int64_t kWord = sizeof(int32_t);

struct Plan {
  const int32_t* ids;    // [pairs]
  int32_t *offsets, *row_token, *slot_row;  // [E + 1], [R], [pairs]
  int32_t* counts;       // [chunks, E]; unused where one chunk is all
  int64_t pairs, R, chunk, run;  // chunk, run: pairs of a block, of a warp
  int E, chunks;
  Divisor<int32_t> K;
  ErrorWord* error;
  uint32_t instruction;
};

// The expert of a pair, or -1.
__device__ inline int32_t expert_of(const Plan& p, int64_t i) {
  const int32_t e = p.ids[i];
  return e >= 0 && e < p.E ? e : -1;
}

__global__ void __launch_bounds__(32 * kMostWarps) count_kernel(const Plan p) {
  SWITCHYARD_SHARED(bytes);
  int32_t* count = reinterpret_cast<int32_t*>(bytes);  // [E]
  for (int e = threadIdx.x; e < p.E; e += blockDim.x) count[e] = 0;
  wait_for_previous_grid();
  start_next_grid();
  __syncthreads();
  const int64_t begin = blockIdx.x * p.chunk, end = min(begin + p.chunk, p.pairs);
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const int32_t e = expert_of(p, i);
    if (e >= 0) atomicAdd(&count[e], 1);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < p.E; e += blockDim.x) p.counts[int64_t{blockIdx.x} * p.E + e] = count[e];
}

// What this block's warps counted becomes the pairs of earlier warps; the sum goes to total.
__device__ void scan_warps(const Plan& p, int32_t* count, int32_t* total) {
  const int warps = blockDim.x / 32;
  for (int e = threadIdx.x; e < p.E; e += blockDim.x) {
    int32_t sum = 0;
#pragma unroll 8
    for (int w = 0; w < warps; w++) {
      const int32_t here = count[w * p.E + e];
      count[w * p.E + e] = sum;
      sum += here;
    }
    if (p.chunks == 1) total[e] = sum;
  }
}

// Of each expert: the pairs of the chunks before this one, added to `first`, and of all, to `total`. Neighbouring threads read
// neighbouring experts.
__device__ void sum_chunks(const Plan& p, int32_t* first, int32_t* total) {
  const int across = min(p.E, static_cast<int>(blockDim.x)), parts = blockDim.x / across;
  const int part = threadIdx.x / across, chunk = blockIdx.x;
  if (part >= parts) return;
  for (int e = threadIdx.x % across; e < p.E; e += across) {
    int32_t before = 0, sum = 0;
#pragma unroll 8
    for (int c = part; c < p.chunks; c += parts) {
      const int32_t count = p.counts[int64_t{c} * p.E + e];
      sum += count;
      before += c < chunk ? count : 0;
    }
    atomicAdd(&first[e], before);
    atomicAdd(&total[e], sum);
  }
}

// By one warp: from the pairs of each expert to the first row of each, which is added to `first`. Returns the rows used.
__device__ int32_t scan_experts(const Plan& p, int32_t* first, const int32_t* total) {
  const int lane = threadIdx.x % 32;
  int32_t row = 0;
  for (int base = 0; base < p.E; base += 32) {
    const int e = base + lane;
    const int32_t count = e < p.E ? total[e] : 0, until = row + warp_scan(count);
    if (e < p.E) {
      first[e] += until - count;
      if (blockIdx.x == 0) p.offsets[e] = static_cast<int32_t>(min(int64_t{until - count}, p.R));
    }
    row = __shfl_sync(kAllLanes, until, 31);
  }
  if (blockIdx.x == 0 && lane == 0) {
    p.offsets[p.E] = static_cast<int32_t>(min(int64_t{row}, p.R));
    if (row > p.R) report(p.error, p.instruction, ErrorKind::kIndex, 0, row, 0, p.R);
  }
  return row;
}

__global__ void __launch_bounds__(32 * kMostWarps) scatter_kernel(const Plan p) {
  SWITCHYARD_SHARED(bytes);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  int32_t* count = reinterpret_cast<int32_t*>(bytes);  // [warps, E]
  int32_t *first = count + warps * p.E, *total = first + p.E;  // [E]
  int32_t* next = count + warp * p.E;
  for (int i = threadIdx.x; i < (warps + 2) * p.E; i += blockDim.x) count[i] = 0;
  wait_for_previous_grid();
  start_next_grid();
  __syncthreads();

  const int64_t begin = blockIdx.x * p.chunk + warp * p.run;
  const int64_t end = min(min(begin + p.run, blockIdx.x * p.chunk + p.chunk), p.pairs);
#pragma unroll 2
  for (int64_t i = begin + lane; i < end; i += 32) {
    const int32_t id = p.ids[i];
    if (id < -1 || id >= p.E) report(p.error, p.instruction, ErrorKind::kIndex, i, id, -1, p.E - 1);
    const int32_t e = expert_of(p, i);
    if (e >= 0) atomicAdd(&next[e], 1);
  }
  if (p.chunks > 1) sum_chunks(p, first, total);
  __syncthreads();
  scan_warps(p, count, total);
  __syncthreads();
  if (warp == 0) {
    const int32_t rows = scan_experts(p, first, total);
    if (lane == 0) total[0] = rows;  // from here on: the rows used
  }
  __syncthreads();

  for (int64_t base = begin; base < end; base += 32) {
    const int64_t i = base + lane;
    const int32_t e = i < end ? expert_of(p, i) : -1;
    const unsigned same = __match_any_sync(kAllLanes, e);
    const int before = __popc(same & ((1u << lane) - 1));
    const int32_t row = e < 0 ? -1 : first[e] + next[e] + before;
    __syncwarp();
    if (e >= 0 && before == 0) next[e] += __popc(same);
    __syncwarp();
    if (i >= end) continue;
    const bool fits = row >= 0 && row < p.R;
    p.slot_row[i] = fits ? row : -1;
    if (fits) p.row_token[row] = p.K.quotient(static_cast<int32_t>(i));
  }
  for (int64_t r = total[0] + int64_t{blockIdx.x} * blockDim.x + threadIdx.x; r < p.R; r += int64_t{gridDim.x} * blockDim.x) {
    p.row_token[r] = -1;
  }
}

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Pairs of a block, and how many blocks that makes.
void cut(Plan& p, const DeviceLimits& device) {
  p.chunk = std::max<int64_t>(p.pairs, 1);
  if (p.pairs > kOneBlock) {
    const int64_t even = (p.pairs + device.multiprocessors - 1) / device.multiprocessors;
    p.chunk = round_up(std::max({even, kPairsPerChunk, kPairsPerExpert * p.E}), 32);
  }
  p.chunks = static_cast<int>(std::max<int64_t>(1, (p.pairs + p.chunk - 1) / p.chunk));
}

Plan plan_of(const Instruction& in, const DeviceLimits& device) {
  const Shape& ids = in.in[0]->shape;
  const int64_t E = in.out[0]->shape[0] - 1, most = device.shared_per_block / kWord / 3;
  if (E > most) {
    throw std::runtime_error("[moe_plan] got " + std::to_string(E) + " experts, expected at most " + std::to_string(most) +
                             " on this GPU");
  }
  Plan p{};
  p.ids = in.in[0]->as<int32_t>();
  p.offsets = in.out[0]->as<int32_t>(), p.row_token = in.out[1]->as<int32_t>(), p.slot_row = in.out[2]->as<int32_t>();
  p.pairs = ids.size(), p.R = in.out[1]->shape[0], p.E = static_cast<int>(E), p.instruction = in.number;
  p.K = Divisor<int32_t>(p.pairs > 0 ? ids[1] : 1);
  cut(p, device);
  return p;
}

int64_t scratch(const Instruction& in, const DeviceLimits& device) {
  const Plan p = plan_of(in, device);
  return p.chunks > 1 ? p.chunks * p.E * kWord : 0;
}

void run(const Instruction& in, const Launch& on) {
  Plan p = plan_of(in, *on.device);
  p.counts = reinterpret_cast<int32_t*>(on.scratch), p.error = on.error;
  // As many warps as have pairs to sort and memory for their counts.
  const int64_t room = on.device->shared_per_block / kWord / p.E - 2, useful = (p.chunk + kPairsPerWarp - 1) / kPairsPerWarp;
  const int64_t warps = std::min({room, useful, int64_t{kMostWarps}});
  p.run = round_up((p.chunk + warps - 1) / warps, 32);
  if (p.chunks > 1) launch(Start::kEarly, count_kernel, dim3(p.chunks), dim3(32 * kMostWarps), p.E * kWord, on, p);
  launch(Start::kEarly, scatter_kernel, dim3(p.chunks), dim3(static_cast<unsigned>(32 * warps)), (warps + 2) * p.E * kWord, on, p);
}

}  // namespace

void register_moe_plan(KernelTable& t) { t.add({"moe_plan", run, scratch}); }

}  // namespace switchyard::cuda
