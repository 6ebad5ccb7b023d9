// moe_capacity: which of the experts that tokens wish for they get (moe/capacity.cc has the rules). A block serves a group.
//
//   drop       A wish is granted if fewer than `capacity` earlier ones are for its expert: ranks of a stable sort. Warps take runs
//              of the wishes, count them, and rank them after the wishes of earlier warps.
//   next best  What a token takes depends on who is full when it comes. A tile of tokens, one a thread, chooses among the experts
//              that have room now; the tokens before the first that would meet a full one have chosen right. The tile then goes on
//              from that one: an expert has become full, so that there are at most E such steps beside those that take all.
#include <algorithm>

#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

enum Overflow : int64_t { kDrop = 0, kNextBest = 1 };

constexpr int kDropWarps = 32, kTileWarps = 8;
constexpr int kHeader = 16;  // bytes before the counts: what all threads of a block must know
constexpr int64_t kWord = sizeof(int32_t);
// Wishes that a lane reads before it needs the first.
constexpr int kAtOnce = 4;

struct Capacity {
  const int32_t* ranking;  // [N, M]
  const int32_t* order;    // [N], of each group; nullptr: as they come
  int32_t* ids;            // [N, k]
  int64_t M, k, capacity, group, groups;
  int E;
  int32_t* owner;          // [blocks, group]: the place of each token in the order
  int32_t* memory;         // [blocks, words]: the counts of blocks where shared memory does not hold them
  int64_t words;
  ErrorWord* error;
  uint32_t instruction;
};

struct Group {
  int64_t first;         // token
  const int32_t* order;  // nullptr: as they come

  __device__ int64_t token(int64_t i) const { return first + (order != nullptr ? order[i] : i); }
};

// Looks at all values of a group; all threads call. Wishes for experts that there are not count as none, an order that is none as
// that of the tokens. `wrong`: a word of shared memory.
__device__ Group checked_group(const Capacity& c, int64_t g, int32_t* wrong) {
  const int64_t first = g * c.group;
  for (int64_t i = threadIdx.x; i < c.group * c.M; i += blockDim.x) {
    const int32_t e = c.ranking[first * c.M + i];
    if (e < -1 || e >= c.E) report(c.error, c.instruction, ErrorKind::kIndex, first * c.M + i, e, -1, c.E - 1);
  }
  if (c.order == nullptr) return {first, nullptr};
  int32_t* owner = c.owner + blockIdx.x * c.group;
  const int32_t* order = c.order + first;
  if (threadIdx.x == 0) *wrong = 0;
  for (int64_t i = threadIdx.x; i < c.group; i += blockDim.x) owner[i] = INT32_MAX;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < c.group; i += blockDim.x) {
    if (order[i] >= 0 && order[i] < c.group) atomicMin(&owner[order[i]], static_cast<int32_t>(i));
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < c.group; i += blockDim.x) {
    if (order[i] >= 0 && order[i] < c.group && owner[order[i]] == i) continue;
    report(c.error, c.instruction, ErrorKind::kIndex, first + i, order[i], 0, c.group - 1);
    atomicExch(wrong, 1);
  }
  __syncthreads();
  return {first, *wrong != 0 ? nullptr : order};
}

// An expert, or -1.
__device__ inline int32_t wish(const Capacity& c, int64_t token, int64_t choice) {
  const int32_t e = c.ranking[token * c.M + choice];
  return e >= 0 && e < c.E ? e : -1;
}

__device__ int32_t* counts_of(const Capacity& c, std::byte* shared) {
  return c.memory != nullptr ? c.memory + blockIdx.x * c.words : reinterpret_cast<int32_t*>(shared + kHeader);
}

__global__ void __launch_bounds__(32 * kDropWarps) drop_kernel(const Capacity c) {
  SWITCHYARD_SHARED(bytes);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  int32_t* count = counts_of(c, bytes);  // [warps, E]
  int32_t* next = count + int64_t{warp} * c.E;
  const int64_t wishes = c.group * c.k, run = (wishes + blockDim.x - 1) / blockDim.x * 32;
  const int64_t begin = warp * run, end = min(begin + run, wishes);
  for (int64_t g = blockIdx.x; g < c.groups; g += gridDim.x) {
    for (int64_t i = threadIdx.x; i < c.words; i += blockDim.x) count[i] = 0;
    const Group group = checked_group(c, g, reinterpret_cast<int32_t*>(bytes));
    __syncthreads();
    // fn(expert or -1, where its id goes) for the wishes of this warp: all first choices before all second ones.
    const auto each = [&](const auto& fn) {
      for (int64_t base = begin; base < end; base += 32 * kAtOnce) {
        int32_t e[kAtOnce];
        int64_t at[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; j++) {
          const int64_t q = base + 32 * j + lane;
          const int64_t choice = q / c.group, token = q < end ? group.token(q - choice * c.group) : 0;
          e[j] = q < end ? wish(c, token, choice) : -1;
          at[j] = q < end ? token * c.k + choice : -1;
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; j++) fn(e[j], at[j]);
      }
    };
    each([&](int32_t e, int64_t) {
      if (e >= 0) atomicAdd(&next[e], 1);
    });
    __syncthreads();
    for (int e = threadIdx.x; e < c.E; e += blockDim.x) {
      int32_t sum = 0;
      for (int w = 0; w < warps; w++) {
        int32_t& here = count[int64_t{w} * c.E + e];
        const int32_t own = here;
        here = sum, sum += own;
      }
    }
    __syncthreads();
    each([&](int32_t e, int64_t at) {
      const unsigned same = __match_any_sync(kAllLanes, e);
      const int before = __popc(same & ((1u << lane) - 1));
      const bool fits = e >= 0 && next[e] + before < c.capacity;
      __syncwarp();
      if (e >= 0 && before == 0) next[e] += __popc(same);
      __syncwarp();
      if (at >= 0) c.ids[at] = fits ? e : -1;
    });
    __syncthreads();
  }
}

// The first k experts of a token's ranking that have room, each once; returns how many there are.
__device__ int64_t choose(const Capacity& c, const int32_t* taken, int64_t token, int32_t* own) {
  int64_t held = 0;
  for (int64_t m = 0; m < c.M && held < c.k; m++) {
    const int32_t e = wish(c, token, m);
    if (e < 0 || taken[e] >= c.capacity) continue;
    bool mine = false;
    for (int64_t j = 0; j < held; j++) mine = mine || own[j] == e;
    if (!mine) own[held++] = e;
  }
  for (int64_t j = held; j < c.k; j++) own[j] = -1;
  return held;
}

__global__ void __launch_bounds__(32 * kTileWarps) next_best_kernel(const Capacity c) {
  SWITCHYARD_SHARED(bytes);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  int32_t* const wrong = reinterpret_cast<int32_t*>(bytes);
  int32_t* const stop = wrong + 1;
  int32_t* taken = counts_of(c, bytes);                              // [E]
  uint32_t* chosen = reinterpret_cast<uint32_t*>(taken) + c.E;       // [warps, E]: a bit for each token of the warp
  uint32_t* chosen_here = chosen + int64_t{warp} * c.E;
  for (int64_t g = blockIdx.x; g < c.groups; g += gridDim.x) {
    for (int64_t i = threadIdx.x; i < c.E * (warps + int64_t{1}); i += blockDim.x) taken[i] = 0;
    const Group group = checked_group(c, g, wrong);
    __syncthreads();
    for (int64_t done = 0; done < c.group;) {
      const int64_t i = done + threadIdx.x;
      int32_t* own = c.ids + (i < c.group ? group.token(i) * c.k : 0);
      const int64_t held = i < c.group ? choose(c, taken, group.token(i), own) : 0;
      for (int64_t j = 0; j < held; j++) atomicOr(&chosen_here[own[j]], 1u << lane);
      if (threadIdx.x == 0) *stop = static_cast<int32_t>(min(int64_t{blockDim.x}, c.group - done));
      __syncthreads();
      for (int64_t j = 0; j < held; j++) {
        int before = __popc(chosen_here[own[j]] & ((1u << lane) - 1));
        for (int w = 0; w < warp; w++) before += __popc(chosen[int64_t{w} * c.E + own[j]]);
        if (taken[own[j]] + before >= c.capacity) atomicMin(stop, static_cast<int32_t>(threadIdx.x));
      }
      __syncthreads();
      const int accepted = *stop;
      for (int64_t j = 0; j < held; j++) {
        atomicExch(&chosen_here[own[j]], 0u);
        if (static_cast<int>(threadIdx.x) < accepted) atomicAdd(&taken[own[j]], 1);
      }
      done += accepted;
      __syncthreads();
    }
  }
}

// How the groups are served: with fewer warps where shared memory is short of counts, with counts in scratch where it holds not
// one warp's.
struct Form {
  Capacity c;
  bool drop;
  int blocks, warps;
  int64_t owner_words, memory_words;
};

Form form_of(const Instruction& in, const DeviceLimits& device) {
  Form f{};
  Capacity& c = f.c;
  c.ranking = in.in[0]->as<int32_t>(), c.order = in.in[1] != nullptr ? in.in[1]->as<int32_t>() : nullptr;
  c.ids = in.out[0]->as<int32_t>(), c.instruction = in.number;
  c.M = in.in[0]->shape[1], c.k = in.attrs[0].i, c.capacity = in.attrs[1].i, c.group = in.attrs[2].i;
  c.E = static_cast<int>(in.attrs[4].i), f.drop = in.attrs[3].i == kDrop;
  const int64_t N = in.in[0]->shape[0];
  if (N == 0) return f;
  c.groups = N / c.group;
  f.blocks = static_cast<int>(std::min<int64_t>(c.groups, 2 * device.multiprocessors));
  const int64_t threads = f.drop ? c.group * c.k : c.group, useful = (threads + 31) / 32;
  const int64_t rows = (device.shared_per_block - kHeader) / kWord / c.E, extra = f.drop ? 0 : 1;
  const int64_t most = std::min<int64_t>(useful, f.drop ? kDropWarps : kTileWarps);
  const bool in_shared = rows > extra;
  f.warps = static_cast<int>(in_shared ? std::min(most, rows - extra) : most);
  c.words = (f.warps + extra) * c.E;
  f.owner_words = c.order != nullptr ? f.blocks * c.group : 0;
  f.memory_words = in_shared ? 0 : f.blocks * c.words;
  return f;
}

int64_t scratch(const Instruction& in, const DeviceLimits& device) {
  const Form f = form_of(in, device);
  return (f.owner_words + f.memory_words) * kWord;
}

void run(const Instruction& in, const Launch& on) {
  Form f = form_of(in, *on.device);
  f.c.error = on.error;
  f.c.owner = reinterpret_cast<int32_t*>(on.scratch);
  if (f.memory_words > 0) f.c.memory = f.c.owner + f.owner_words;
  launch(f.drop ? drop_kernel : next_best_kernel, dim3(f.blocks), dim3(32 * f.warps),
         kHeader + (f.memory_words > 0 ? 0 : f.c.words * kWord), on, f.c);
}

}  // namespace

void register_moe_capacity(KernelTable& t) { t.add({"moe_capacity", run, scratch}); }

}  // namespace switchyard::cuda
