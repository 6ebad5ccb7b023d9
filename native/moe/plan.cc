// The dispatch plan of an MoE layer: a stable counting sort of the (token, slot) pairs by expert.
//
//   pairs   (t0,s0) (t0,s1) (t1,s0) …      ids of experts, -1 dropped
//   rows    all pairs of expert 0 in order of tokens, then those of expert 1, …
//
// The length of row token is the most rows that the plan may hold: where places are few, most pairs are -1.
//
// 1. Each range of pairs counts its experts. 2. One pass over (expert, range) turns counts into the first row of
// each range in each expert. 3. Each range writes its pairs. The order is that of a serial sort, whatever the ranges.
#include <algorithm>
#include <numeric>

#include "runtime/kernel.h"

namespace switchyard {
namespace {

constexpr int64_t kMaxRanges = 64;
// Measured: waking a thread costs about what 4096 pairs cost.
constexpr int64_t kPairsPerRange = 4096;

void prepare(Instruction& in) {
  require_counts(in, 1, 1, 3, 3);
  require_tensor(in, in.in[0], "expert ids", DType::kI32, 2);
  require_tensor(in, in.out[0], "expert offsets", DType::kI32, 1);
  require_tensor(in, in.out[1], "row token", DType::kI32, 1);
  require_tensor(in, in.out[2], "slot row", DType::kI32, 2);
  const int64_t N = in.in[0]->shape[0], K = in.in[0]->shape[1], pairs = checked_mul(N, K, "moe_plan");
  require_that(in, pairs <= INT32_MAX, "got more than 2^31 - 1 pairs of token and expert");
  require_that(in, in.out[1]->shape[0] <= INT32_MAX, "got room for more than 2^31 - 1 rows");
  require_that(in, in.out[0]->shape[0] >= 2, "got no room for an expert, expected offsets of length 2 or more");
  require_dim(in, "rows of slot row", in.out[2]->shape[0], N);
  require_dim(in, "columns of slot row", in.out[2]->shape[1], K);
  in.shared_scratch = checked_mul(in.out[0]->shape[0] - 1, kMaxRanges * sizeof(int32_t), "moe_plan");
}

void run(const Instruction& in, const Context& context) {
  const int64_t N = in.in[0]->shape[0], K = in.in[0]->shape[1], pairs = N * K;
  const int64_t R = in.out[1]->shape[0], E = in.out[0]->shape[0] - 1;
  const int32_t* ids = in.in[0]->as<int32_t>();
  int32_t* offsets = in.out[0]->as<int32_t>();
  int32_t* row_token = in.out[1]->as<int32_t>();
  int32_t* slot_row = in.out[2]->as<int32_t>();
  int32_t* counts = reinterpret_cast<int32_t*>(context.shared_scratch);  // [ranges, E]

  const int64_t ranges = std::clamp<int64_t>(pairs / kPairsPerRange, 1, std::min<int64_t>(context.threads, kMaxRanges));
  const auto first_of = [&](int64_t range) { return pairs * range / ranges; };

  context.parallel_for(ranges, [&](int64_t range, int) {
    int32_t* count = counts + range * E;
    std::fill_n(count, E, 0);
    for (int64_t i = first_of(range), end = first_of(range + 1); i < end; i++) {
      if (ids[i] == -1) continue;
      if (ids[i] < 0 || ids[i] >= E) {
        fail(ErrorCode::kOption, "[moe_plan] got expert %d for token %lld, expected -1 or 0 to %lld", ids[i],
             static_cast<long long>(i / K), static_cast<long long>(E - 1));
      }
      count[ids[i]]++;
    }
  });

  // Counted before anything is written: row token has no place for more.
  const int64_t kept = std::accumulate(counts, counts + ranges * E, int64_t{0});
  if (kept > R) {
    fail(ErrorCode::kOption, "[moe_plan] got %lld choices that are not -1, expected at most %lld rows",
         static_cast<long long>(kept), static_cast<long long>(R));
  }
  int32_t row = 0;
  for (int64_t e = 0; e < E; e++) {
    offsets[e] = row;
    for (int64_t range = 0; range < ranges; range++) {
      const int32_t count = counts[range * E + e];
      counts[range * E + e] = row;
      row += count;
    }
  }
  offsets[E] = row;
  std::fill(row_token + row, row_token + R, -1);

  context.parallel_for(ranges, [&](int64_t range, int) {
    int32_t* next = counts + range * E;
    int64_t token = first_of(range) / std::max<int64_t>(K, 1), slot = first_of(range) - token * K;
    for (int64_t i = first_of(range), end = first_of(range + 1); i < end; i++) {
      if (ids[i] == -1) {
        slot_row[i] = -1;
      } else {
        const int32_t at = next[ids[i]]++;
        slot_row[i] = at;
        row_token[at] = static_cast<int32_t>(token);
      }
      if (++slot == K) slot = 0, token++;
    }
  });
}

}  // namespace

void register_moe_plan(KernelRegistry& r) { r.add({"moe_plan", "", prepare, run}); }

}  // namespace switchyard
