// Routing: router logits to the k chosen experts of each token and their combine weights, in the steps of moe/route_top_k.cc
// and with its bits: scores, sums and ties are the CPU's. A warp owns a token, a lane every 32nd expert; each choice is two
// reductions over the warp. Up to 512 experts live in registers, more in scratch.
#include <algorithm>
#include <stdexcept>

#include "cuda/device/async.h"
#include "cuda/device/report.h"
#include "cuda/moe/lanes.h"

namespace switchyard::cuda {
namespace {

enum Score : int { kSoftmax = 0, kSigmoid = 1, kSoftmaxOfChosen = 2 };

constexpr float kSigmoidFloor = 1e-20f;
constexpr int kWarps = 4;
constexpr int kMostInRegisters = 512;
// Rows of a warp in scratch: scores, those of the chosen, keys, keys of groups, keys of the experts of chosen groups.
constexpr int kRows = 5;
// Warps of a multiprocessor that route tokens with more experts.
constexpr int kWarpsInMemory = 8;

struct Routing {
  const float* logits;  // [N, E]
  const float* bias;    // [E] or nullptr
  int32_t* ids;         // [N, K]
  float* weights;       // [N, K]
  int64_t N;
  int E, K, score, groups, top_groups;
  bool renormalize, two_largest;
  float scale;
  ErrorWord* error;
  uint32_t instruction;
};

// Reports numbers that nothing can rank; routing goes on, with what is no number behind all others.
template <class Row>
__device__ void check_numbers(const Routing& r, Row& x, int64_t first) {
  int bad = -1;
  SWITCHYARD_LANES(j, x) {
    const bool good = r.score == kSigmoid ? x[j] == x[j] : x[j] < INFINITY;
    if (bad < 0 && !good) bad = 32 * j + lane_of();
  }
  if (bad >= 0) report(r.error, r.instruction, ErrorKind::kNotFinite, first + bad, 0, 0, 0);
}

// Only the experts of the best groups stay in `keys`.
template <class Row>
__device__ void keep_best_groups(const Routing& r, Row& keys, Row& groups, Row& open) {
  const int size = r.E / r.groups;
  SWITCHYARD_LANES(j, groups) groups[j] = kTaken, open[j] = kTaken;
  for (int g = 0; g < r.groups; g++) {
    const int begin = g * size, end = begin + size;
    const Best first = best_of(keys, begin, end);
    float score = value_of(first.key);
    if (r.two_largest && size > 1) score = __fadd_rn(score, value_of(best_of(keys, begin, end, first.place).key));
    if (g % 32 == lane_of()) groups.set(g / 32, key_of(score));
  }
  for (int i = 0; i < r.top_groups; i++) {
    const int begin = static_cast<int>(take_best(groups)) * size;
    SWITCHYARD_LANES(j, open) {
      const int e = 32 * j + lane_of();
      if (e >= begin && e < begin + size) open[j] = keys[j];
    }
  }
  SWITCHYARD_LANES(j, keys) keys[j] = open[j];
}

// From the scores of the chosen to their weights.
template <class Row>
__device__ void weigh(const Routing& r, Row& x) {
  if (r.score == kSoftmaxOfChosen) cpu_softmax(x, r.K);
  if (r.renormalize) {
    float sum = r.score == kSigmoid ? kSigmoidFloor : 0.0f;
    SWITCHYARD_LANES(j, x) {
      const int n = r.K - 32 * j < 32 ? r.K - 32 * j : 32;
      for (int i = 0; i < n; i++) sum = __fadd_rn(sum, __shfl_sync(kAllLanes, x[j], i));
    }
    if (sum > 0) {
      SWITCHYARD_LANES(j, x) x[j] = x[j] / sum;
    }
  }
  SWITCHYARD_LANES(j, x) x[j] = __fmul_rn(x[j], r.scale);
}

template <class Floats, class Keys, class Chosen>
__device__ void route_token(const Routing& r, int64_t token, Floats& scores, Keys& keys, Keys& groups, Keys& open,
                            Chosen& chosen) {
  const float* logits = r.logits + token * r.E;
  SWITCHYARD_LANES(j, scores) {
    const int e = 32 * j + lane_of();
    scores[j] = e < r.E ? logits[e] : -INFINITY;
  }
  check_numbers(r, scores, token * r.E);
  if (r.score == kSoftmax) cpu_softmax(scores, r.E);
  if (r.score == kSigmoid) {
    SWITCHYARD_LANES(j, scores) scores[j] = cpu_sigmoid(scores[j]);
  }
  SWITCHYARD_LANES(j, keys) {
    const int e = 32 * j + lane_of();
    const float bias = r.bias != nullptr && e < r.E ? r.bias[e] : 0.0f;
    if (!(bias < INFINITY)) report(r.error, r.instruction, ErrorKind::kNotFinite, e, 0, 0, 0);
    keys[j] = e >= r.E ? kTaken : key_of(r.bias != nullptr ? __fadd_rn(scores[j], bias) : scores[j]);
  }
  if (r.top_groups < r.groups) keep_best_groups(r, keys, groups, open);

  for (int k = 0; k < r.K; k++) {
    const uint32_t best = take_best(keys);
    const float score = __shfl_sync(kAllLanes, scores.get(static_cast<int>(best / 32)), static_cast<int>(best % 32));
    if (k % 32 != lane_of()) continue;
    r.ids[token * r.K + k] = static_cast<int32_t>(best);
    chosen.set(k / 32, score);
  }
  weigh(r, chosen);
  SWITCHYARD_LANES(j, chosen) {
    const int k = 32 * j + lane_of();
    if (k < r.K) r.weights[token * r.K + k] = chosen[j];
  }
}

template <int kPer>
__global__ void route_kernel(const Routing r) {
  wait_for_previous_grid();
  start_next_grid();
  for (int64_t token = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; token < r.N; token += int64_t{gridDim.x} * kWarps) {
    Lanes<float, kPer> scores;
    Lanes<uint32_t, kPer> keys, groups, open;
    Lanes<float, 1> chosen{};
    route_token(r, token, scores, keys, groups, open, chosen);
  }
}

__global__ void route_in_memory_kernel(const Routing r, float* memory, int stride) {
  wait_for_previous_grid();
  start_next_grid();
  const int64_t warp = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const auto floats = [&](int i) { return memory + (warp * kRows + i) * stride; };
  const auto words = [&](int i) { return reinterpret_cast<uint32_t*>(floats(i)); };
  Lanes<float, 0> scores{floats(0), stride / 32}, chosen{floats(1), (r.K + 31) / 32};
  Lanes<uint32_t, 0> keys{words(2), stride / 32}, groups{words(3), stride / 32}, open{words(4), stride / 32};
  for (int64_t token = warp; token < r.N; token += int64_t{gridDim.x} * kWarps) {
    route_token(r, token, scores, keys, groups, open, chosen);
  }
}

bool fits_registers(int64_t E, int64_t K) { return E <= kMostInRegisters && K <= 32; }
int64_t stride_of(int64_t E) { return (E + 31) / 32 * 32; }
int64_t blocks_in_memory(int64_t N, const DeviceLimits& device) {
  return std::min<int64_t>((N + kWarps - 1) / kWarps, int64_t{device.multiprocessors} * kWarpsInMemory / kWarps);
}

int64_t scratch(const Instruction& in, const DeviceLimits& device) {
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1];
  if (fits_registers(E, in.attrs[0].i)) return 0;
  return blocks_in_memory(N, device) * kWarps * kRows * stride_of(E) * static_cast<int64_t>(sizeof(float));
}

void run(const Instruction& in, const Launch& on) {
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1], K = in.attrs[0].i;
  if (stride_of(E) > INT32_MAX) throw std::runtime_error("[route_top_k] got more than 2^31 - 32 experts");
  const auto i32 = [](int64_t v) { return static_cast<int>(v); };
  const Routing r{in.in[0]->as<float>(), in.in[1] != nullptr ? in.in[1]->as<float>() : nullptr, in.out[0]->as<int32_t>(),
                  in.out[1]->as<float>(), N, i32(E), i32(K), i32(in.attrs[1].i), i32(in.attrs[4].i), i32(in.attrs[5].i),
                  in.attrs[2].i != 0, in.attrs[6].i != 0, static_cast<float>(in.attrs[3].f), on.error, in.number};
  if (!fits_registers(E, K)) {
    return launch(Start::kEarly, route_in_memory_kernel, dim3(static_cast<unsigned>(blocks_in_memory(N, *on.device))), kWarps * 32, 0, on, r,
                  reinterpret_cast<float*>(on.scratch), static_cast<int>(stride_of(E)));
  }
  const auto kernel = E <= 32    ? route_kernel<1>
                      : E <= 64  ? route_kernel<2>
                      : E <= 128 ? route_kernel<4>
                      : E <= 256 ? route_kernel<8>
                                 : route_kernel<kMostInRegisters / 32>;
  launch(Start::kEarly, kernel, grid_for(N * 32, kWarps * 32, on), kWarps * 32, 0, on, r);
}

}  // namespace

void register_route_top_k(KernelTable& t) { t.add({"route_top_k", run, scratch}); }

}  // namespace switchyard::cuda
