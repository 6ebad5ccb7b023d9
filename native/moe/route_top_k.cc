// Routing: router logits to the k chosen experts of each token and their combine weights.
//
// For one token: 1. scores from logits; 2. selection = score + bias; 3. the k best selections, ties to the lower
// index; 4. weights from the unbiased scores of the chosen; 5. divided by their sum if asked; 6. times `scale`.
// Bias for selection only: arXiv 2408.15664. Softmax over the chosen: Mixtral, arXiv 2401.04088.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/route_tile.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

enum Score : int64_t { kSoftmax = 0, kSigmoid = 1, kSoftmaxOfChosen = 2 };

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
};

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

// scores, selection: scratch, E rounded up to 16 each.
void route_token(const Routing& r, const RouteKernels& kernels, int64_t token, const float* logits, float* scores,
                 float* selection, int32_t* ids, float* weights) {
  bool good = true;  // no branch, so that the loop is vectors
  for (int64_t e = 0; e < r.E; e++) good &= logits[e] < std::numeric_limits<float>::infinity();
  if (!good) refuse_logit(logits, r.E, token, r.score == kSigmoid);
  std::copy_n(logits, r.E, scores);
  if (r.score == kSoftmax) kernels.softmax(scores, r.E);
  if (r.score == kSigmoid) kernels.sigmoid(scores, r.E);
  for (int64_t e = 0; e < r.E; e++) selection[e] = r.bias != nullptr ? scores[e] + r.bias[e] : scores[e];
  r.K > kRoundsLimit ? heap_top_k(selection, r.E, r.K, ids) : kernels.top_k(selection, r.E, r.K, ids);

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
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1], K = in.attrs[0].i;
  if (in.in[1] != nullptr) {
    require_tensor(in, in.in[1], "bias", DType::kF32, 1);
    require_dim(in, "length of bias", in.in[1]->shape[0], E);
  }
  require_that(in, K >= 1 && K <= E, "got k outside 1 to the number of experts");
  require_that(in, in.attrs[1].i >= kSoftmax && in.attrs[1].i <= kSoftmaxOfChosen, "got an unknown score, expected 0 to 2");
  require_tensor(in, in.out[0], "expert ids", DType::kI32, 2);
  require_tensor(in, in.out[1], "combine weights", DType::kF32, 2);
  for (const Operand* out : in.out) {
    require_dim(in, "rows of an output", out->shape[0], N);
    require_dim(in, "columns of an output", out->shape[1], K);
  }
  in.worker_scratch = checked_mul(checked_add(E, 15, "route_top_k") / 16 * 16, 2 * sizeof(float), "route_top_k");
}

void run(const Instruction& in, const Context& context) {
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1], K = in.attrs[0].i;
  const Routing routing{in.in[1] != nullptr ? in.in[1]->as<float>() : nullptr, E, K, in.attrs[1].i,
                        in.attrs[2].i != 0, static_cast<float>(in.attrs[3].f)};
  for (int64_t e = 0; routing.bias != nullptr && e < E; e++) {
    if (!std::isnan(routing.bias[e])) continue;
    fail(ErrorCode::kOption, "[route_top_k] got a bias that is not a number for expert %lld, expected a number",
         static_cast<long long>(e));
  }
  const float* logits = in.in[0]->as<float>();
  int32_t* ids = in.out[0]->as<int32_t>();
  float* weights = in.out[1]->as<float>();
  const RouteKernels& kernels = route_kernels(context.tier);
  const int64_t tokens_per_task = std::max<int64_t>(1, kLogitsPerTask / E);
  context.parallel_for((N + tokens_per_task - 1) / tokens_per_task, [&](int64_t task, int worker) {
    float* scores = reinterpret_cast<float*>(context.scratch_of(worker));
    const int64_t end = std::min(N, (task + 1) * tokens_per_task);
    for (int64_t n = task * tokens_per_task; n < end; n++) {
      route_token(routing, kernels, n, logits + n * E, scores, scores + (E + 15) / 16 * 16, ids + n * K, weights + n * K);
    }
  });
}

}  // namespace

void register_route_top_k(KernelRegistry& r) {
  r.add({"route_top_k", "k:int,score:int,renormalize:int,scale:float", prepare, run});
}

}  // namespace switchyard
