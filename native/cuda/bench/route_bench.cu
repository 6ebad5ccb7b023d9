// What an MoE layer costs besides its experts: routing, plan and combine of E128 k8 d2048, each alone and all of them.
#include "cuda/bench/timing.h"
#include "cuda/device/float16.h"
#include "cuda/moe/combine.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int64_t kE = 128, kK = 8, kD = 2048;

struct Layer {
  Call route{"route_top_k"}, plan{"moe_plan"}, combine{"moe_combine"};
};

// Rows of several layers would not fit; one is far larger than the L2 anyway, where there are many tokens.
std::unique_ptr<Layer> layer_of(const Bench& bench, int64_t T, const Operand* rows, uint32_t seed) {
  auto l = std::make_unique<Layer>();
  const Operand* logits = l->route.make(DType::kF32, {T, kE});
  bench.fill(logits->as<float>(), T * kE, seed);
  l->route.in(logits).in(nullptr).out(DType::kI32, {T, kK}).out(DType::kF32, {T, kK});
  l->route.attr(kK).attr(int64_t{0}).attr(int64_t{1}).attr(1.0).attr(int64_t{1}).attr(int64_t{1}).attr(int64_t{0});
  l->plan.in(l->route.result(0)).out(DType::kI32, {kE + 1}).out(DType::kI32, {T * kK}).out(DType::kI32, {T, kK});
  l->combine.in(rows).in(l->plan.result(2)).in(l->route.result(1)).out(DType::kF32, {T, kD});
  l->route.launch(bench.on()), l->plan.launch(bench.on());
  check(cudaStreamSynchronize(bench.on().stream));
  return l;
}

void time_tokens(Bench& bench, int64_t T, int sets, int repeats) {
  Call memory("");
  const Operand* rows = memory.make(DType::kF32, {T * kK, kD});
  bench.fill(rows->as<float>(), T * kK * kD, 7);
  std::vector<std::unique_ptr<Layer>> layers;
  for (int i = 0; i < sets; i++) layers.push_back(layer_of(bench, T, rows, static_cast<uint32_t>(i + 11)));
  const std::string about = "\"tokens\":" + std::to_string(T) + ",\"experts\":128,\"choices\":8,\"width\":2048";
  const auto time = [&](const char* what, auto work, double bytes) {
    std::vector<std::function<void(const Launch&)>> works;
    for (auto& l : layers) works.push_back([&work, &l](const Launch& on) { work(*l, on); });
    bench.time(what, about, works, repeats, bytes);
  };
  const double pairs = static_cast<double>(T * kK), out = static_cast<double>(T * kD) * 4;
  const double routing = static_cast<double>(T * kE) * 4 + pairs * 8, planning = pairs * 12 + (kE + 1) * 4;
  const double summing = pairs * (kD * 4 + 8) + out, summing16 = pairs * (kD * 2 + 8) + out;
  time("route", [](Layer& l, const Launch& on) { l.route.launch(on); }, routing);
  time("plan", [](Layer& l, const Launch& on) { l.plan.launch(on); }, planning);
  time("combine f32", [](Layer& l, const Launch& on) { l.combine.launch(on); }, summing);
  // The same bytes read as bf16: half of the rows.
  time("combine bf16", [&](Layer& l, const Launch& on) {
    launch_combine(rows->as<Bf16>(), l.plan.result(2)->as<int32_t>(), l.route.result(1)->as<float>(), T * kK, T, kK, kD,
                   l.combine.result()->as<float>(), 0, on);
  }, summing16);
  time("all f32", [](Layer& l, const Launch& on) { l.route.launch(on), l.plan.launch(on), l.combine.launch(on); },
       routing + planning + summing);
}

int run(bool smoke) {
  Bench bench("route", smoke);
  bench.time_copy();
  if (smoke) {
    time_tokens(bench, 3, 2, 2);
  } else {
    time_tokens(bench, 1, 8, 32);
    time_tokens(bench, 64, 8, 32);
    time_tokens(bench, 4096, 4, 8);
    time_tokens(bench, 32768, 2, 4);
  }
  return bench.good() ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int count, char** words) {
  return switchyard::cuda::bench::run(count > 1 && std::string(words[1]) == "--smoke");
}
