// A training step of a sparse layer, forward and back, as the rules of src/core/ops (linalg, routing, expert-layer, combine) make
// it: a chain of kernels on the device beside the same chain on the CPU. Nothing passes from one chain to the other.
#include <functional>

#include "runtime/tier.h"
#include "test/cuda/compare.h"
#include "test/opcode.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

// On both chains.
struct Value {
  std::vector<int64_t> dims;
  std::vector<float> floats[2];
  std::vector<int32_t> ints[2];  // instead, where `whole`
  bool whole = false;

  Value as(std::vector<int64_t> other) const {
    Value v = *this;
    v.dims = std::move(other);
    return v;
  }
};
enum { kCpu, kDevice };

struct Out {
  std::vector<int64_t> dims;
  bool whole = false;
};

class Chain {
 public:
  explicit Chain(ThreadPool& pool) : pool_(pool) {}

  Value given(std::vector<int64_t> dims, uint32_t seed, float scale) const {
    int64_t n = 1;
    for (const int64_t d : dims) n *= d;
    const auto values = normals(n, seed, scale);
    return {std::move(dims), {values, values}, {}, false};
  }
  // Inputs that are nullptr are absent.
  std::vector<Value> run(const char* name, const std::vector<const Value*>& in, const std::vector<Out>& out,
                         const std::function<void(Compare&)>& attributes = [](Compare&) {}) {
    std::vector<Value> values(out.size());
    for (const int side : {kCpu, kDevice}) {
      Compare call(name);
      for (const Value* v : in) {
        if (v == nullptr) call.absent();
        else v->whole ? call.in(v->dims, v->ints[side]) : call.in(v->dims, v->floats[side]);
      }
      for (const Out& o : out) o.whole ? call.out<int32_t>(o.dims) : call.out<float>(o.dims);
      attributes(call);
      side == kCpu ? call.run_cpu(pool_, best_tier()) : call.run_device();
      if (!CHECK(call.error().kind == 0)) std::fprintf(stderr, "  %s\n", name);
      for (size_t i = 0; i < out.size(); i++) {
        Value& v = values[i];
        v.dims = out[i].dims, v.whole = out[i].whole;
        if (v.whole) v.ints[side] = side == kCpu ? call.cpu<int32_t>(i) : call.device<int32_t>(i);
        else v.floats[side] = side == kCpu ? call.cpu<float>(i) : call.device<float>(i);
      }
    }
    return values;
  }
  Value one(const char* name, const std::vector<const Value*>& in, std::vector<int64_t> dims,
            const std::function<void(Compare&)>& attributes = [](Compare&) {}) {
    return run(name, in, {{std::move(dims)}}, attributes)[0];
  }
  Value elementwise(const std::vector<const Value*>& in, std::vector<int64_t> dims, std::vector<int64_t> code) {
    return one("elementwise", in, std::move(dims), [&](Compare& c) { c.attr(code); });
  }
  Value matmul(const Value& a, const Value& b, int transpose_a, int transpose_b, std::vector<int64_t> dims) {
    return one("matmul", {&a, &b}, std::move(dims), [&](Compare& c) { c.attr(transpose_a).attr(transpose_b); });
  }
  Value grouped(const std::vector<const Value*>& in, int transpose, std::vector<int64_t> dims) {
    return one("grouped_matmul", in, std::move(dims), [&](Compare& c) { c.attr(transpose); });
  }

 private:
  ThreadPool& pool_;
};

void close(const char* what, const Value& v) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < v.floats[kCpu].size(); i++) {
    const double a = v.floats[kCpu][i], b = v.floats[kDevice][i];
    difference += (b - a) * (b - a), norm += a * a;
  }
  const double distance = std::sqrt(difference / norm);
  if (!CHECK(norm > 0 && distance < 2e-6)) std::fprintf(stderr, "  %s: distance %g\n", what, distance);
}
void same(const char* what, const Value& v) {
  if (!CHECK(v.ints[kCpu] == v.ints[kDevice])) std::fprintf(stderr, "  %s\n", what);
}

struct Sizes {
  int64_t N, K, D, F, E;  // tokens, choices, d_model, d_ff, experts
};

void step(ThreadPool& pool, const Sizes& s) {
  Chain c(pool);
  const int64_t N = s.N, K = s.K, D = s.D, F = s.F, E = s.E, R = N * K;
  const float narrow = 1 / std::sqrt(static_cast<float>(D));
  const Value x = c.given({1, N, D}, 1, 1), router = c.given({1, E, D}, 2, narrow), target = c.given({N, D}, 3, 1);
  const Value gate = c.given({E, F, D}, 4, narrow), up = c.given({E, F, D}, 5, narrow), down = c.given({E, D, F}, 6, narrow);
  const Value gate_bias = c.given({E, F, 1}, 7, 0.1f), tokens = x.as({N, D});
  const int64_t mul = op("mul"), sub = op("sub"), add = op("add"), sigmoid = op("sigmoid"), one = 0x3f800000;

  // Forward.
  const Value logits = c.matmul(x, router, 0, 1, {1, N, E});
  const Value flat = logits.as({N, E});
  const auto route = c.run("route_top_k", {&flat, nullptr}, {{{N, K}, true}, {{N, K}}}, [&](Compare& call) {
    call.attr(K).attr(2).attr(0).attr(1.0).attr(1).attr(1).attr(0);  // the softmax of the chosen
  });
  const Value& weights = route[1];
  const auto plan = c.run("moe_plan", {&route[0]}, {{{E + 1}, true}, {{R}, true}, {{N, K}, true}});
  const Value &offsets = plan[0], &row_token = plan[1], &slot_row = plan[2];
  const Value ones = c.elementwise({}, {R, 1}, {op("const"), one, 0, 0});
  const Value pre_gate = c.grouped({&tokens, &gate, &offsets, &row_token, &ones, &gate_bias}, 0, {R, F});
  const Value pre_up = c.grouped({&tokens, &up, &offsets, &row_token, nullptr, nullptr}, 0, {R, F});
  const Value hidden = c.elementwise({&pre_gate, &pre_up}, {R, F}, {sigmoid, 0, 0, 0, mul, 0, 2, 0, mul, 3, 1, 0});
  const Value rows = c.grouped({&hidden, &down, &offsets, nullptr, nullptr, nullptr}, 0, {R, D});
  const Value y = c.one("moe_combine", {&rows, &slot_row, &weights}, {N, D});
  same("expert ids", route[0]), same("offsets", offsets), same("row token", row_token), same("slot row", slot_row);
  close("y", y);

  // Back from ½ (y - target)².
  const Value dy = c.elementwise({&y, &target}, {N, D}, {sub, 0, 1, 0});
  const Value slots = slot_row.as({R}), by_slot = weights.as({R, 1});
  const Value scale = c.one("scatter_add_rows", {&by_slot, &slots}, {R, 1});
  const Value raw = c.grouped({&dy, &down, &offsets, &row_token, nullptr, nullptr}, 1, {R, F});
  const Value product = c.elementwise({&raw, &hidden}, {R, F}, {mul, 0, 1, 0});
  const Value product_rows = product.as({R, F, 1});
  const Value d_scale = c.one("sum", {&product_rows}, {R, 1});
  const Value d_weights = c.one("take_rows", {&d_scale, &slots}, {R, 1}).as({N, K});
  const Value scaled = c.elementwise({&hidden, &scale}, {R, F}, {mul, 0, 1, 0});
  close("down", c.one("grouped_matmul_grad", {&dy, &scaled, &offsets, &row_token, nullptr}, {E, D, F}));
  // d up = raw·s·silu(g), d gate = raw·s·u·σ(g)·(1 + g·(1 - σ(g)))
  const Value d_up = c.elementwise({&raw, &scale, &pre_gate}, {R, F}, {mul, 0, 1, 0, sigmoid, 2, 0, 0, mul, 2, 4, 0, mul, 3, 5, 0});
  const Value d_gate = c.elementwise({&raw, &scale, &pre_gate, &pre_up}, {R, F},
                                     {mul, 0, 1, 0, mul, 4, 3, 0, sigmoid, 2, 0, 0, op("const"), one, 0, 0, sub, 7, 6, 0, mul, 2, 8, 0,
                                      add, 7, 9, 0, mul, 6, 10, 0, mul, 5, 11, 0});
  close("gate", c.one("grouped_matmul_grad", {&d_gate, &tokens, &offsets, nullptr, &row_token}, {E, F, D}));
  close("up", c.one("grouped_matmul_grad", {&d_up, &tokens, &offsets, nullptr, &row_token}, {E, F, D}));
  close("gate bias", c.one("grouped_matmul_grad", {&ones, &d_gate, &offsets, nullptr, nullptr}, {E, 1, F}));
  const Value d_rows = c.grouped({&d_gate, &gate, &offsets, nullptr, &d_up, &up}, 1, {R, D});
  const Value dx_experts = c.one("moe_combine", {&d_rows, &slot_row, nullptr}, {N, D});
  // The softmax of the chosen: dz = w·(dw - Σ w·dw).
  const Value weighted = c.elementwise({&weights, &d_weights}, {N, K}, {mul, 0, 1, 0}).as({N, K, 1});
  const Value total = c.one("sum", {&weighted}, {N, 1});
  const Value dz = c.elementwise({&weights, &d_weights, &total}, {N, K}, {sub, 1, 2, 0, mul, 0, 3, 0}).as({N, K, 1});
  const Value ids = route[0].as({N, K, 1});
  const Value d_logits = c.one("scatter_add_along", {&dz, &ids}, {N, E, 1}).as({1, N, E});
  close("router", c.matmul(d_logits, x, 1, 0, {1, E, D}));
  const Value dx_router = c.matmul(d_logits, router, 0, 0, {1, N, D}).as({N, D});
  close("x", c.elementwise({&dx_experts, &dx_router}, {N, D}, {add, 0, 1, 0}));
}

}  // namespace

int main() {
  ThreadPool pool(1);
  step(pool, {37, 2, 20, 24, 5});
  step(pool, {5, 3, 9, 7, 11});
  // Rows and widths that tensor cores take, for the device at hand.
  const int64_t experts = device_limits().multiprocessors <= 8 ? 4 : 70;
  step(pool, {55 * experts, 2, 128, 120, experts});
  return report();
}
