// Routing: router logits to the k chosen experts of each token and their combine weights.
//
// For one token: 1. scores from logits; 2. selection = score + bias; 3. the experts of the best groups only, if asked;
// 4. the k best selections, ties to the lower index; 5. weights from the unbiased scores of the chosen; 6. divided by
// their sum if asked; 7. times `scale`.
// Bias for selection only: arXiv 2408.15664. Softmax over the chosen: Mixtral, arXiv 2401.04088. Groups of experts, by
// the largest selection: DeepSeek-V2, arXiv 2405.04434 (2.1.2); by the sum of the two largest: DeepSeek-V3, arXiv
// 2412.19437 (2.1.2).
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/route_tile.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

enum Score : int64_t { kSoftmax = 0, kSigmoid = 1, kSoftmaxOfChosen = 2 };
enum GroupScore : int64_t { kLargest = 0, kTwoLargest = 1 };

// Keeps a zero sum of sigmoids from dividing by zero (DeepSeek-V3 uses the same number).
constexpr float kSigmoidFloor = 1e-20f;
// Up to here k rounds of a vector maximum beat a heap over all experts.
constexpr int64_t kRoundsLimit = 16;
// One task's worth of logits; fewer than two tasks run on the calling thread.
constexpr int64_t kLogitsPerTask = 4096;

struct Routing {
  const float* bias;  // [E] or nullptr
  int64_t E, K, score;
  bool renormalize;
  float scale;
  int64_t groups, top_groups, group_score;
};

Routing routing_of(const Instruction& in) {
  return {in.in[1] != nullptr ? in.in[1]->as<float>() : nullptr,
          in.in[0]->shape[1],
          in.attrs[0].i,
          in.attrs[1].i,
          in.attrs[2].i != 0,
          static_cast<float>(in.attrs[3].f),
          in.attrs[4].i,
          in.attrs[5].i,
          in.attrs[6].i};
}

// Vectors of 16 lanes may write past the last value.
int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// Memory of one worker.
struct Scratch {
  float *scores, *selection, *group_scores;
  int32_t* groups;  // the chosen ones
};

int64_t scratch_bytes(const Routing& r) {
  const int64_t experts = checked_mul(checked_add(r.E, 15, "route_top_k") / 16 * 16, 2 * sizeof(float), "route_top_k");
  return checked_add(experts, padded(r.groups) * 2 * static_cast<int64_t>(sizeof(float)), "route_top_k");
}

Scratch scratch_at(const Routing& r, std::byte* memory) {
  float* scores = reinterpret_cast<float*>(memory);
  float* group_scores = scores + 2 * padded(r.E);
  return {scores, scores + padded(r.E), group_scores, reinterpret_cast<int32_t*>(group_scores + padded(r.groups))};
}

void heap_top_k(const float* selection, int64_t n, int64_t k, int32_t* ids) {
  // `ids` holds k places only, so a heap of the best so far lives there: its root is the worst of them.
  const auto better = [selection](int32_t a, int32_t b) {
    return selection[a] != selection[b] ? selection[a] > selection[b] : a < b;
  };
  for (int64_t e = 0; e < k; e++) ids[e] = static_cast<int32_t>(e);
  std::make_heap(ids, ids + k, better);
  for (int64_t e = k; e < n; e++) {
    if (!(selection[e] > selection[ids[0]])) continue;
    std::pop_heap(ids, ids + k, better);
    ids[k - 1] = static_cast<int32_t>(e);
    std::push_heap(ids, ids + k, better);
  }
  std::sort_heap(ids, ids + k, better);
}

void refuse_logit(const float* logits, int64_t E, int64_t token, bool infinity_is_fine) {
  for (int64_t e = 0; e < E; e++) {
    if (infinity_is_fine ? !std::isnan(logits[e]) : logits[e] < std::numeric_limits<float>::infinity()) continue;
    fail(ErrorCode::kOption, "[route_top_k] got logit %g for token %lld and expert %lld, expected a finite number",
         static_cast<double>(logits[e]), static_cast<long long>(token), static_cast<long long>(e));
  }
}

void top_k(const RouteKernels& kernels, float* selection, int64_t n, int64_t k, int32_t* ids) {
  k > kRoundsLimit ? heap_top_k(selection, n, k, ids) : kernels.top_k(selection, n, k, ids);
}

// The experts of the best groups move together, in their order, so that one search serves with and without groups.
void top_k_of_groups(const Routing& r, const RouteKernels& kernels, const Scratch& s, int32_t* ids) {
  const int64_t size = r.E / r.groups;
  kernels.group_scores(s.selection, r.groups, size, r.group_score == kTwoLargest, s.group_scores);
  top_k(kernels, s.group_scores, r.groups, r.top_groups, s.groups);
  std::sort(s.groups, s.groups + r.top_groups);  // a tie of experts goes to the lower one, not to the better group
  for (int64_t g = 0; g < r.top_groups; g++) {
    if (s.groups[g] == g) continue;
    std::copy_n(s.selection + s.groups[g] * size, size, s.selection + g * size);  // down: never over what is still read
  }
  top_k(kernels, s.selection, r.top_groups * size, r.K, ids);
  for (int64_t k = 0; k < r.K; k++) ids[k] = static_cast<int32_t>(s.groups[ids[k] / size] * size + ids[k] % size);
}

void route_token(const Routing& r, const RouteKernels& kernels, int64_t token, const float* logits, const Scratch& s,
                 int32_t* ids, float* weights) {
  float *scores = s.scores, *selection = s.selection;
  bool good = true;  // no branch, so that the loop is vectors
  for (int64_t e = 0; e < r.E; e++) good &= logits[e] < std::numeric_limits<float>::infinity();
  if (!good) refuse_logit(logits, r.E, token, r.score == kSigmoid);
  std::copy_n(logits, r.E, scores);
  if (r.score == kSoftmax) kernels.softmax(scores, r.E);
  if (r.score == kSigmoid) kernels.sigmoid(scores, r.E);
  for (int64_t e = 0; e < r.E; e++) selection[e] = r.bias != nullptr ? scores[e] + r.bias[e] : scores[e];
  r.top_groups < r.groups ? top_k_of_groups(r, kernels, s, ids) : top_k(kernels, selection, r.E, r.K, ids);

  for (int64_t k = 0; k < r.K; k++) weights[k] = scores[ids[k]];
  if (r.score == kSoftmaxOfChosen) kernels.softmax(weights, r.K);
  if (r.renormalize) {
    float sum = r.score == kSigmoid ? kSigmoidFloor : 0.0f;
    for (int64_t k = 0; k < r.K; k++) sum += weights[k];
    if (sum > 0) {
      for (int64_t k = 0; k < r.K; k++) weights[k] /= sum;
    }
  }
  for (int64_t k = 0; k < r.K; k++) weights[k] *= r.scale;
}

void prepare(Instruction& in) {
  require_counts(in, 2, 2, 2, 2);
  require_tensor(in, in.in[0], "logits", DType::kF32, 2);
  if (in.in[1] != nullptr) {
    require_tensor(in, in.in[1], "bias", DType::kF32, 1);
    require_dim(in, "length of bias", in.in[1]->shape[0], in.in[0]->shape[1]);
  }
  const Routing r = routing_of(in);
  require_that(in, r.K >= 1 && r.K <= r.E, "got k outside 1 to the number of experts");
  require_that(in, r.score >= kSoftmax && r.score <= kSoftmaxOfChosen, "got an unknown score, expected 0 to 2");
  require_that(in, r.groups >= 1 && r.E % r.groups == 0, "got experts that are no multiple of the groups");
  require_that(in, r.top_groups >= 1 && r.top_groups <= r.groups, "got top groups outside 1 to the number of groups");
  require_that(in, r.K <= r.top_groups * (r.E / r.groups), "got k above the experts of the top groups");
  require_that(in, r.group_score == kLargest || r.group_score == kTwoLargest,
               "got an unknown group score, expected 0 or 1");
  require_tensor(in, in.out[0], "expert ids", DType::kI32, 2);
  require_tensor(in, in.out[1], "combine weights", DType::kF32, 2);
  for (const Operand* out : in.out) {
    require_dim(in, "rows of an output", out->shape[0], in.in[0]->shape[0]);
    require_dim(in, "columns of an output", out->shape[1], r.K);
  }
  in.worker_scratch = scratch_bytes(r);
}

void run(const Instruction& in, const Context& context) {
  const Routing routing = routing_of(in);
  const int64_t N = in.in[0]->shape[0], E = routing.E, K = routing.K;
  // Infinity would meet -infinity: no selection may be NaN.
  for (int64_t e = 0; routing.bias != nullptr && e < E; e++) {
    if (routing.bias[e] < std::numeric_limits<float>::infinity()) continue;
    fail(ErrorCode::kOption, "[route_top_k] got bias %g for expert %lld, expected a number below infinity",
         static_cast<double>(routing.bias[e]), static_cast<long long>(e));
  }
  const float* logits = in.in[0]->as<float>();
  int32_t* ids = in.out[0]->as<int32_t>();
  float* weights = in.out[1]->as<float>();
  const RouteKernels& kernels = route_kernels(context.tier);
  const int64_t tokens_per_task = std::max<int64_t>(1, kLogitsPerTask / E);
  context.parallel_for((N + tokens_per_task - 1) / tokens_per_task, [&](int64_t task, int worker) {
    const Scratch scratch = scratch_at(routing, context.scratch_of(worker));
    const int64_t end = std::min(N, (task + 1) * tokens_per_task);
    for (int64_t n = task * tokens_per_task; n < end; n++) {
      route_token(routing, kernels, n, logits + n * E, scratch, ids + n * K, weights + n * K);
    }
  });
}

}  // namespace

void register_route_top_k(KernelRegistry& r) {
  r.add({"route_top_k", "k:int,score:int,renormalize:int,scale:float,groups:int,top_groups:int,group_score:int",
         prepare, run});
}

}  // namespace switchyard
