// Kernels beside the products: the share of the memory's bandwidth that large ones reach, and how long small ones take, of which a
// decoded token has hundreds.
#include <array>
#include <string_view>

#include "cpu/elementwise.h"
#include "cuda/bench/timing.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int kSets = 3;  // of inputs, in turn: of small ones no more than a step would leave in the L2

constexpr int64_t kMostScanned = 1 << 20;

int64_t opcode(std::string_view name) {
  const auto names = elementwise_opcodes();
  return std::find(names.begin(), names.end(), name) - names.begin();
}

class Cases {
 public:
  Cases(Bench& bench, bool smoke) : bench_(bench), smoke_(smoke) {}

  // Bytes: of all operands, each once.
  void time(const char* what, const char* kernel, const std::function<void(Call&)>& build) {
    std::vector<std::unique_ptr<Call>> calls;
    std::vector<std::function<void(const Launch&)>> works;
    double bytes = 0;
    for (int set = 0; set < kSets; set++) {
      calls.push_back(std::make_unique<Call>(kernel));
      build(*calls.back());
      bytes = calls.back()->bytes();
      works.push_back([call = calls.back().get()](const Launch& on) { call->launch(on); });
    }
    const bool small = bytes < 1e7;
    bench_.time(what, "\"kernel\":\"" + std::string(kernel) + "\",\"bytes\":" + std::to_string(static_cast<int64_t>(bytes)), works,
                small ? 60 : 6, bytes);
  }
  // An input of noise: in 16 bits whatever the bits say, which may be NaN.
  void noise(Call& c, DType dtype, std::initializer_list<int64_t> dims) {
    const Operand* x = c.make(dtype, dims);
    bench_.fill(x->as<float>(), x->shape.size() * dtype_size(dtype) / 4, seed_++);
    c.in(x);
  }
  int64_t big(int64_t n) const { return smoke_ ? std::min<int64_t>(n, 40) : n; }

 private:
  Bench& bench_;
  bool smoke_;
  uint32_t seed_ = 1;
};

void time_elementwise(Cases& t, const char* size, int64_t rows, int64_t n) {
  const auto chain = [](std::initializer_list<std::pair<const char*, std::array<int64_t, 3>>> steps) {
    std::vector<int64_t> code;
    for (const auto& [name, a] : steps) code.insert(code.end(), {opcode(name), a[0], a[1], a[2]});
    return code;
  };
  const auto named = [&](const char* what) { return std::string(what) + " " + size; };
  const auto two = [&](const char* what, DType in, DType out, const std::vector<int64_t>& code) {
    t.time(named(what).c_str(), "elementwise", [&](Call& c) {
      t.noise(c, in, {rows, n}), t.noise(c, in, {rows, n});
      c.out(out, {rows, n}).attr(code);
    });
  };
  two("add", DType::kF32, DType::kF32, chain({{"add", {0, 1, 0}}}));
  two("silu times up", DType::kF32, DType::kF32, chain({{"sigmoid", {0, 0, 0}}, {"mul", {0, 2, 0}}, {"mul", {3, 1, 0}}}));
  two("silu times up", DType::kBF16, DType::kBF16, chain({{"sigmoid", {0, 0, 0}}, {"mul", {0, 2, 0}}, {"mul", {3, 1, 0}}}));
  const int64_t half = 0x3f000000, root = 0x3f3504f3, one = 0x3f800000;
  two("gelu times up", DType::kF32, DType::kF32,
      chain({{"const", {half, 0, 0}}, {"const", {root, 0, 0}}, {"const", {one, 0, 0}}, {"mul", {0, 3, 0}}, {"erf", {5, 0, 0}},
             {"add", {6, 4, 0}}, {"mul", {0, 2, 0}}, {"mul", {8, 7, 0}}, {"mul", {9, 1, 0}}}));
  t.time(named("cast f32 to bf16").c_str(), "elementwise", [&](Call& c) {
    t.noise(c, DType::kF32, {rows, n});
    c.out(DType::kBF16, {rows, n}).attr(std::vector<int64_t>{});
  });
  t.time(named("rows plus a row, times a column").c_str(), "elementwise", [&](Call& c) {
    t.noise(c, DType::kF32, {rows, n}), t.noise(c, DType::kF32, {n}), t.noise(c, DType::kF32, {rows, 1});
    c.out(DType::kF32, {rows, n}).attr(chain({{"add", {0, 1, 0}}, {"mul", {3, 2, 0}}}));
  });
}

void time_rows(Cases& t, const char* size, int64_t rows, int64_t n) {
  const auto named = [&](const char* what) { return std::string(what) + " " + size; };
  const auto along = [&](const char* kernel) {
    t.time(named("rows").c_str(), kernel, [&](Call& c) {
      t.noise(c, DType::kF32, {rows, n});
      const bool rms = std::string_view(kernel) == "rms_norm", layer = std::string_view(kernel) == "layer_norm";
      if (rms || layer) t.noise(c, DType::kF32, {n});
      if (layer) t.noise(c, DType::kF32, {n});
      c.out(DType::kF32, {rows, n});
      if (rms || layer) c.attr(1e-5);
      if (rms) c.attr(0.0);
    });
  };
  for (const char* kernel : {"softmax", "log_softmax", "rms_norm", "layer_norm"}) along(kernel);
}

void time_reductions(Cases& t, const char* what, int64_t outer, int64_t n, int64_t inner) {
  for (const char* kernel : {"sum", "max", "argmax"}) {
    t.time(what, kernel, [&](Call& c) {
      t.noise(c, DType::kF32, {outer, n, inner});
      c.out(std::string_view(kernel) == "argmax" ? DType::kI32 : DType::kF32, {outer, inner});
    });
  }
  if (n > kMostScanned) return;  // by one block
  t.time(what, "cumsum", [&](Call& c) {
    t.noise(c, DType::kF32, {outer, n, inner});
    c.out(DType::kF32, {outer, n, inner}).attr(int64_t{0}).attr(int64_t{0});
  });
}

void time_movement(Cases& t, const char* size, int64_t T, int64_t heads, int64_t c) {
  const auto named = [&](const char* what) { return std::string(what) + " " + size; };
  const int64_t width = heads * c;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    t.time(named(dtype == DType::kF32 ? "transposition" : "transposition of 16 bits").c_str(), "strided_copy", [&](Call& k) {
      t.noise(k, dtype, {T, width});
      k.out(dtype, {width, T}).attr(std::vector<int64_t>{1, width}).attr(int64_t{0});
    });
  }
  t.time(named("tokens and heads").c_str(), "strided_copy", [&](Call& k) {
    t.noise(k, DType::kF32, {T, heads, c});
    k.out(DType::kF32, {heads, T, c}).attr(std::vector<int64_t>{c, width, 1}).attr(int64_t{0});
  });
  t.time(named("side by side").c_str(), "concat", [&](Call& k) {
    t.noise(k, DType::kF32, {T, width, 1}), t.noise(k, DType::kF32, {T, c, 1});
    k.out(DType::kF32, {T, width + c, 1});
  });
  for (const int64_t interleaved : {0, 1}) {
    t.time(named(interleaved ? "interleaved" : "halves").c_str(), "rope", [&](Call& k) {
      t.noise(k, DType::kF32, {T, heads, c}), t.noise(k, DType::kF32, {T, c / 2}), t.noise(k, DType::kF32, {T, c / 2});
      k.out(DType::kF32, {T, heads, c}).attr(interleaved);
    });
  }
  t.time(named("normals").c_str(), "random_normal", [&](Call& k) {
    k.out(DType::kF32, {T, width}).attr(int64_t{1}).attr(int64_t{0});
  });
}

int run(bool smoke) {
  Bench bench("dense", smoke);
  bench.time_copy();
  Cases t(bench, smoke);
  time_elementwise(t, "large", t.big(32768), t.big(2048));
  time_elementwise(t, "small", 1, t.big(2048));
  time_rows(t, "[32768, 2048]", t.big(32768), t.big(2048));
  time_rows(t, "[262144, 128]", t.big(262144), t.big(128));
  time_rows(t, "[1, 2048]", 1, t.big(2048));
  time_rows(t, "[32, 128]", t.big(32), t.big(128));
  time_rows(t, "[1, 151936]", 1, t.big(151936));
  time_reductions(t, "along rows [32768, 2048, 1]", t.big(32768), t.big(2048), 1);
  time_reductions(t, "down columns [1, 32768, 2048]", 1, t.big(32768), t.big(2048));
  time_reductions(t, "one row of 2^26", 1, t.big(1 << 26), 1);
  time_movement(t, "large", t.big(8192), t.big(32), smoke ? 8 : 128);
  time_movement(t, "small", 1, t.big(32), smoke ? 8 : 128);
  return bench.good() ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int count, char** words) {
  return switchyard::cuda::bench::run(count > 1 && std::string(words[1]) == "--smoke");
}
