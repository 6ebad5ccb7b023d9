// `token_logprobs`: of each row of logits the log-probability and the rank of one token, and the n likeliest tokens with theirs.
#include <algorithm>

#include "cuda/device/report.h"
#include "cuda/device/row_total.h"
#include "cuda/device/row_walk.h"
#include "cuda/ops/ranking.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int64_t kMostBlocks = int64_t{1} << 16;

// What logits lose on their way to log-probabilities.
struct Total {
  double max, log_sum;
};
__device__ inline float logprob(float x, const Total& t) { return static_cast<float>(double{x} - t.max - t.log_sum); }

// Block = row. One whose largest value is not finite is reported by the place where it begins.
__global__ void __launch_bounds__(kThreads) rows_kernel(float* logprobs, int32_t* ranks, Total* totals, const float* logits,
                                                        const int32_t* targets, int64_t rows, int64_t v, ErrorWord* error,
                                                        uint32_t instruction) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* x = logits + r * v;
    const int64_t target = targets[r];
    const RowTotal total = row_total<kThreads>(x, v);
    const Total t{total.max, log(total.sum)};
    if (threadIdx.x == 0) {
      const bool finite = fabsf(total.max) < INFINITY && total.sum == total.sum;
      if (!finite) report(error, instruction, ErrorKind::kNotFinite, r * v, 0, 0, 0);
      totals[r] = t;
    }
    if (target < 0 || !in_range(error, instruction, r, target, v)) {
      if (threadIdx.x == 0) logprobs[r] = 0, ranks[r] = 0;
      continue;
    }
    const float own = x[target];
    int32_t above = 0;
    walk_row<kThreads>(x, v, [&](int64_t, float value) { above += value > own; });
    above = block_reduce<kThreads>(above, Add{});
    if (threadIdx.x == 0) logprobs[r] = logprob(own, t), ranks[r] = 1 + above;
  }
}

// top [rows, n]: from logits to log-probabilities.
__global__ void top_kernel(float* top, const Total* totals, int64_t rows, int64_t n) {
  SWITCHYARD_GRID_STRIDE(i, rows * n) top[i] = logprob(top[i], totals[i / n]);
}

Ranking ranking_of(const Instruction& in) {
  const Operand &x = *in.in[0], &tokens = *in.out[2];
  return {x.as<float>(), x.shape[0], x.shape[1], tokens.shape[1], true, in.out[3]->as<float>(), tokens.as<int32_t>()};
}

int64_t totals_bytes(int64_t rows) { return (rows * static_cast<int64_t>(sizeof(Total)) + 255) / 256 * 256; }

int64_t scratch(const Instruction& in, const DeviceLimits&) {
  const Ranking r = ranking_of(in);
  return totals_bytes(r.rows) + ranking_scratch(r);
}

void run(const Instruction& in, const Launch& on) {
  const Ranking r = ranking_of(in);
  auto* totals = reinterpret_cast<Total*>(on.scratch);
  launch(rows_kernel, static_cast<unsigned>(std::min(r.rows, kMostBlocks)), kThreads, 0, on, in.out[0]->as<float>(),
         in.out[1]->as<int32_t>(), totals, r.x, in.in[1]->as<int32_t>(), r.rows, r.n, on.error, in.number);
  launch_ranking(r, on, on.scratch + totals_bytes(r.rows));
  launch(top_kernel, grid_for(r.rows * r.k, 256, on), 256, 0, on, r.values, totals, r.rows, r.k);
}

}  // namespace

void register_token_logprobs(KernelTable& t) { t.add({"token_logprobs", run, scratch}); }

}  // namespace switchyard::cuda
