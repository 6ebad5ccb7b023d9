// checked_logits: router logits pass unless one of them is NaN or +inf, which no gating policy can rank.
#include <cstring>
#include <limits>

#include "runtime/kernel.h"

namespace switchyard {
namespace {

void prepare(Instruction& in) {
  require_counts(in, 1, 1, 1, 1);
  require_tensor(in, in.in[0], "logits", DType::kF32, 2);
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  require_dim(in, "rows of y", in.out[0]->shape[0], in.in[0]->shape[0]);
  require_dim(in, "columns of y", in.out[0]->shape[1], in.in[0]->shape[1]);
}

// On the calling thread: N·E numbers take less time than waking another.
void run(const Instruction& in, const Context&) {
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1];
  const float* logits = in.in[0]->as<float>();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int64_t n = 0; n < N; n++) {
    bool good = true;  // no branch, so that the loop is vectors
    for (int64_t e = 0; e < E; e++) good &= logits[n * E + e] < kInfinity;
    if (good) continue;
    int64_t e = 0;
    while (logits[n * E + e] < kInfinity) e++;
    fail(ErrorCode::kOption, "[router] got logit %g for token %lld and output %lld, expected a number below infinity",
         static_cast<double>(logits[n * E + e]), static_cast<long long>(n), static_cast<long long>(e));
  }
  if (in.out[0]->data != in.in[0]->data) {
    std::memcpy(in.out[0]->data, logits, static_cast<size_t>(N * E) * sizeof(float));
  }
}

}  // namespace

void register_checked_logits(KernelRegistry& r) { r.add({"checked_logits", "", prepare, run, InPlace::kArena}); }

}  // namespace switchyard
