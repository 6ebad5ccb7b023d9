// `sort` and `top_k` along rows.
#include "cuda/ops/ranking.h"

namespace switchyard::cuda {
namespace {

Ranking ranking_of(const Instruction& in, bool falling) {
  const Operand &x = *in.in[0], &values = *in.out[0];
  return {x.as<float>(), x.shape[0], x.shape[1], values.shape[1], falling, values.as<float>(), in.out[1]->as<int32_t>()};
}

int64_t scratch(const Instruction& in, const DeviceLimits&) { return ranking_scratch(ranking_of(in, true)); }

void run_sort(const Instruction& in, const Launch& on) { launch_ranking(ranking_of(in, in.attrs[0].i != 0), on, on.scratch); }
void run_top_k(const Instruction& in, const Launch& on) { launch_ranking(ranking_of(in, true), on, on.scratch); }

}  // namespace

void register_sort(KernelTable& t) {
  t.add({"sort", run_sort, scratch});
  t.add({"top_k", run_top_k, scratch});
}

}  // namespace switchyard::cuda
