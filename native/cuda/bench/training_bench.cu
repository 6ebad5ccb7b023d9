// Products of plain f32 tensors: dense ones of 4096³ in every way of lying and in every tile, and what a training step of a sparse
// layer of E128 k8 d2048 n768 multiplies at 4096 tokens, forward and back.
#include "cuda/bench/timing.h"
#include "cuda/linear/matmul_tiles.h"
#include "cuda/moe/grouped_tiles.h"

namespace switchyard::cuda::bench {
namespace {

// Tiles that are not chosen yet: what another shape of warps, more blocks or more stages would bring.
struct Wide : Tensor128 {
  static constexpr int kColumns = 256, kDepth = 16, kStages = 4;
};
struct Shallow : Tensor128 {
  static constexpr int kDepth = 16, kStages = 5;
};
struct Tall : Tensor128 {
  static constexpr int kWarpsDown = 4, kWarpsAcross = 2;
};
struct MultiplyAdd128 : Tensor128 {
  static constexpr bool kTensor = false;
  static constexpr int kDepth = 16, kStages = 4, kPadAlong = 4, kPadAcross = 4;
};

using Work = std::function<void(const Launch&)>;

template <class C>
void time_tile(Bench& bench, const char* what, const Matmul& p, const std::string& about) {
  const double size = static_cast<double>(p.m) * static_cast<double>(p.n), k = static_cast<double>(p.k);
  const double bytes = 4 * (size + k * static_cast<double>(p.m + p.n)), flops = 2 * size * k;
  const Work work = [&](const Launch& on) { launch_matmul<C, false, true>(p, 0, on); };
  bench.time(what, about + ",\"transposed\":\"b\"", {work}, 2, bytes, flops);
}

void dense(Bench& bench, int64_t n) {
  Call memory("");
  const auto matrix = [&] { return memory.make(DType::kF32, {n, n})->as<float>(); };
  const Matmul p{matrix(), matrix(), matrix(), 1, n, n, n, true, 0, 0};
  bench.fill(const_cast<float*>(p.a), n * n, 1), bench.fill(const_cast<float*>(p.b), n * n, 2);
  const std::string about = "\"size\":" + std::to_string(n);
  time_tile<Tensor128>(bench, "tensor 128x128", p, about);
  time_tile<Tall>(bench, "tensor 128x128, warps 32x64", p, about);
  time_tile<Shallow>(bench, "tensor 128x128, depth 16", p, about);
  time_tile<Wide>(bench, "tensor 128x256, depth 16", p, about);
  time_tile<Tensor64>(bench, "tensor 64x128", p, about);
  time_tile<MultiplyAdd128>(bench, "multiply-adds 128x128", p, about);
  time_tile<MultiplyAdd64>(bench, "multiply-adds 64x64", p, about);
  const double size = static_cast<double>(n * n);
  const char* layouts[] = {"none", "b", "a", "both"};
  for (const int ta : {0, 1}) {
    for (const int tb : {0, 1}) {
      Call call("matmul");
      const Operand *a = call.make(DType::kF32, {1, n, n}), *b = call.make(DType::kF32, {1, n, n});
      bench.fill(a->as<float>(), n * n, 1), bench.fill(b->as<float>(), n * n, 2);
      call.in(a).in(b).out(DType::kF32, {1, n, n}).attr(int64_t{ta}).attr(int64_t{tb});
      const Work work = [&](const Launch& on) { call.launch(on); };
      bench.time("matmul", about + ",\"transposed\":\"" + layouts[2 * ta + tb] + "\"", {work}, 2, 12 * size,
                 2 * size * static_cast<double>(n));
    }
  }
}

struct Layer {
  int64_t T, K, E, D, F;
};

// The kinds of tiles that are not chosen, on the operands of a call.
template <class C>
void time_kind(Bench& bench, const char* kind, const GroupedProduct& up, const GroupedGradient& gradient, const std::string& about,
               double bytes, double flops) {
  const DeviceMemory scratch(grouped_scratch(up.rows, up.experts));
  const Work forward = [&](const Launch& on) { launch_grouped<C>(up, false, 0, on, scratch.data()); };
  const Work back = [&](const Launch& on) { launch_gradient<C>(gradient, 0, on); };
  bench.time((std::string("gate or up, forward, ") + kind).c_str(), about, {forward}, 2, bytes, flops);
  bench.time((std::string("gradient of gate or up, ") + kind).c_str(), about, {back}, 2, bytes, flops);
}

void layer(Bench& bench, const Layer& l) {
  const int64_t R = l.T * l.K;
  Call memory(""), route("route_top_k"), plan("moe_plan");
  const auto make = [&](std::initializer_list<int64_t> dims, uint32_t seed) {
    const Operand* o = memory.make(DType::kF32, dims);
    bench.fill(o->as<float>(), o->shape.size(), seed);
    return o;
  };
  route.in(make({l.T, l.E}, 1)).in(nullptr).out(DType::kI32, {l.T, l.K}).out(DType::kF32, {l.T, l.K});
  route.attr(l.K).attr(int64_t{0}).attr(int64_t{1}).attr(1.0).attr(int64_t{1}).attr(int64_t{1}).attr(int64_t{0});
  plan.in(route.result()).out(DType::kI32, {l.E + 1}).out(DType::kI32, {R}).out(DType::kI32, {l.T, l.K});
  route.launch(bench.on()), plan.launch(bench.on());
  const Operand *offsets = plan.result(0), *tokens = plan.result(1);
  const Operand *x = make({l.T, l.D}, 2), *d_hidden = make({R, l.F}, 3), *lift = make({l.E, l.F, l.D}, 4), *down = make({l.E, l.D, l.F}, 5);

  Call up("grouped_matmul"), lower("grouped_matmul"), back("grouped_matmul"), to_rows("grouped_matmul"), d_lift("grouped_matmul_grad"),
      d_down("grouped_matmul_grad");
  up.in(x).in(lift).in(offsets).in(tokens).in(nullptr).in(nullptr).out(DType::kF32, {R, l.F}).attr(int64_t{0});
  lower.in(d_hidden).in(down).in(offsets).in(nullptr).in(nullptr).in(nullptr).out(DType::kF32, {R, l.D}).attr(int64_t{0});
  back.in(x).in(down).in(offsets).in(tokens).in(nullptr).in(nullptr).out(DType::kF32, {R, l.F}).attr(int64_t{1});
  to_rows.in(d_hidden).in(lift).in(offsets).in(nullptr).in(d_hidden).in(lift).out(DType::kF32, {R, l.D}).attr(int64_t{1});
  d_lift.in(d_hidden).in(x).in(offsets).in(nullptr).in(tokens).out(DType::kF32, {l.E, l.F, l.D});
  d_down.in(x).in(d_hidden).in(offsets).in(tokens).in(nullptr).out(DType::kF32, {l.E, l.D, l.F});
  const double rows = static_cast<double>(R), flops = 2 * rows * static_cast<double>(l.D * l.F);
  const double weight = 4 * static_cast<double>(l.E * l.D * l.F), wide = 4 * rows * static_cast<double>(l.D), narrow = 4 * rows * static_cast<double>(l.F);
  const double once = 4 * static_cast<double>(l.T * l.D);
  const std::string about = "\"tokens\":" + std::to_string(l.T) + ",\"experts\":" + std::to_string(l.E) + ",\"choices\":" +
                            std::to_string(l.K) + ",\"width\":" + std::to_string(l.D) + ",\"hidden\":" + std::to_string(l.F);
  const auto time = [&](const char* what, Call& call, double bytes, double products) {
    const Work work = [&](const Launch& on) { call.launch(on); };
    bench.time(what, about, {work}, 2, bytes, products * flops);
  };
  time("gate or up, forward", up, weight + once + narrow, 1);
  time("down, forward", lower, weight + narrow + wide, 1);
  time("down, back to the hidden", back, weight + once + narrow, 1);
  time("gate and up, back to the rows", to_rows, 2 * (weight + narrow) + wide, 2);
  time("gradient of gate or up", d_lift, weight + once + narrow, 1);
  time("gradient of down", d_down, weight + once + narrow, 1);
  const auto* ids = tokens->as<int32_t>();
  const auto* starts = offsets->as<int32_t>();
  const GroupedProduct product{{{x->as<float>(), lift->as<float>(), ids, l.T, l.D}, {}}, 1, starts, l.E, R, l.F, up.result()->as<float>()};
  const GroupedGradient gradient{{d_hidden->as<float>(), nullptr, R, l.F}, {x->as<float>(), ids, l.T, l.D}, starts, l.E, R,
                                 d_lift.result()->as<float>()};
  const double moved = weight + once + narrow;
  time_kind<Tensor128>(bench, "tensor 128x128", product, gradient, about, moved, flops);
  time_kind<Tall>(bench, "tensor 128x128, warps 32x64", product, gradient, about, moved, flops);
  time_kind<Wide>(bench, "tensor 128x256, depth 16", product, gradient, about, moved, flops);
  time_kind<Tensor64>(bench, "tensor 64x128", product, gradient, about, moved, flops);
  time_kind<MultiplyAdd64>(bench, "multiply-adds 64x64", product, gradient, about, moved, flops);
  // What a step of SwiGLU experts multiplies.
  const Work step = [&](const Launch& on) {
    for (Call* call : {&up, &up, &lower, &back, &to_rows, &d_lift, &d_lift, &d_down}) call->launch(on);
  };
  bench.time("all products of a step", about, {step}, 1, 9 * weight, 9 * flops);
}

int run(bool smoke) {
  Bench bench("training", smoke);
  if (smoke) {
    dense(bench, 64), layer(bench, {9, 2, 4, 24, 20});
  } else {
    dense(bench, 4096), layer(bench, {4096, 8, 128, 2048, 768});
  }
  return bench.good() ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int count, char** words) {
  return switchyard::cuda::bench::run(count > 1 && std::string(words[1]) == "--smoke");
}
