// Cases of moe_experts: a plan of the CPU's moe_plan, random tokens and weights.
#pragma once
#include "test/cuda/compare.h"
#include "test/cuda/weights.h"

namespace switchyard::test {

using Ids = std::vector<int32_t>;
using Floats = std::vector<float>;

struct ExpertsCase {
  int64_t N, K, E, D, F;
  WeightPtr gate, up, down;  // gate may be nullptr
  Floats x, weights;
  Ids offsets, row_token, slot_row;
  Floats gate_bias = {}, up_bias = {}, down_bias = {};  // [E, F], [E, F], [E, D]; empty: none
};

inline Ids random_ids(int64_t n, int64_t E, int dropped_percent, uint32_t seed) {
  std::mt19937 engine(seed);
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) {
    id = static_cast<int>(engine() % 100) < dropped_percent ? -1 : static_cast<int32_t>(engine() % static_cast<uint32_t>(E));
  }
  return ids;
}

// ids [N, K]: the experts of each token, -1: dropped.
inline ExpertsCase experts_case(int64_t N, int64_t K, const WeightPtr& gate, const WeightPtr& up, const WeightPtr& down,
                                const Ids& ids) {
  static ThreadPool pool(1);
  ExpertsCase l{N,    K,  up->experts(), up->columns(), up->rows(), gate, up, down, normals(N * up->columns(), 41),
                normals(N * K, 42), {}, {}, {}};
  KernelCall plan("moe_plan");
  plan.in({N, K}, ids).out({l.E + 1}, l.offsets).out({N * K}, l.row_token).out({N, K}, l.slot_row);
  plan.run(pool, Tier::kScalar);
  return l;
}

// Beside the activations of the kernel: gpt-oss' clamped one.
constexpr int kClamped = 99;

inline Compare experts_call(const ExpertsCase& l, int activation, int compute) {
  Compare c("moe_experts");
  c.in({l.N, l.D}, l.x).in({l.E + 1}, l.offsets).in({l.N * l.K}, l.row_token).in({l.N, l.K}, l.slot_row);
  c.in({l.N, l.K}, l.weights);
  l.gate ? c.in(*l.gate, {l.E, l.F, l.D}) : c.absent();
  c.in(*l.up, {l.E, l.F, l.D}).in(*l.down, {l.E, l.D, l.F}).out<float>({l.N, l.D});
  if (!l.gate_bias.empty() || !l.up_bias.empty() || !l.down_bias.empty()) {
    for (const Floats* bias : {&l.gate_bias, &l.up_bias, &l.down_bias}) {
      bias->empty() ? c.absent() : c.in({l.E, bias == &l.down_bias ? l.D : l.F}, *bias);
    }
  }
  const bool clamped = activation == kClamped;
  c.attr(clamped ? 0 : activation).attr(compute).attr(clamped ? 0.8 : 0.0).attr(clamped ? 1.702 : 0.0);
  return c;
}
inline Compare run_experts(const ExpertsCase& l, int activation, int compute, ThreadPool& pool) {
  Compare c = experts_call(l, activation, compute);
  c.run(pool);
  return c;
}

}  // namespace switchyard::test
