// moe_experts against the composition take_rows → grouped_linear → act(gate)·up → grouped_linear → moe_combine, bit for
// bit: formats, compute modes, activations, tiers, threads, few rows and many, empty experts, dropped tokens.
// Arguments: `--bench` prints what a layer costs at 1 to 2048 tokens.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "check.h"
#include "formats/format_table.h"
#include "formats/half.h"
#include "opcode.h"
#include "random_weight.h"
#include "run_kernel.h"
#include "runtime/weight.h"
#include "tiers.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

using Ids = std::vector<int32_t>;
using Floats = std::vector<float>;

ThreadPool& pool_of(int threads) {
  static std::map<int, std::unique_ptr<ThreadPool>> pools;
  auto& pool = pools[threads];
  if (!pool) pool = std::make_unique<ThreadPool>(threads);
  return *pool;
}

WeightPtr small_weight(Format f, int64_t experts, int64_t rows, int64_t columns, uint32_t seed) {
  return random_weight(f, experts, rows, columns, seed, 0.1f);
}

struct Layer {
  int64_t N, K, E, D, F;
  WeightPtr gate, up, down;
  Floats x, weights;
  Ids offsets, row_token, slot_row;
  Floats gate_bias = {}, up_bias = {}, down_bias = {};  // [E, F], [E, F], [E, D]; empty: none
};

void plan(Layer& l, const Ids& ids) {
  KernelCall call("moe_plan");
  call.in({l.N, l.K}, ids).out({l.E + 1}, l.offsets).out({l.N * l.K}, l.row_token).out({l.N, l.K}, l.slot_row);
  call.run(pool_of(1), Tier::kScalar);
}

Ids random_ids(int64_t n, int64_t E, int dropped_percent, uint32_t seed) {
  std::mt19937 engine(seed);
  Ids ids(n);
  for (int32_t& id : ids) id = static_cast<int>(engine() % 100) < dropped_percent ? -1 : static_cast<int32_t>(engine() % E);
  return ids;
}

Layer make_layer(int64_t N, int64_t K, int64_t E, int64_t D, int64_t F, const WeightPtr& gate, const WeightPtr& up,
                 const WeightPtr& down, const Ids& ids) {
  Layer l{N, K, E, D, F, gate, up, down, normals(N * D, 41), normals(N * K, 42), {}, {}, {}};
  for (int64_t n = 0; n < N; n += 3) l.x[n * D + n * 5 % D] = 20;  // outliers, from four chunks on
  plan(l, ids);
  return l;
}

// Beside the activations of the kernel: bounds on gate and up, and another slope.
constexpr int kClamped = 99;
constexpr float kLimit = 0.8f, kSlope = 1.702f;

Floats fused(const Layer& l, int activation, int compute, int threads, Tier tier) {
  Floats y;
  KernelCall call("moe_experts");
  call.in({l.N, l.D}, l.x).in({l.E + 1}, l.offsets).in({l.N * l.K}, l.row_token).in({l.N, l.K}, l.slot_row);
  call.in({l.N, l.K}, l.weights);
  l.gate ? call.in(*l.gate, {l.E, l.F, l.D}) : call.absent();
  call.in(*l.up, {l.E, l.F, l.D}).in(*l.down, {l.E, l.D, l.F}).out({l.N, l.D}, y);
  if (!l.gate_bias.empty() || !l.up_bias.empty() || !l.down_bias.empty()) {
    for (const Floats* bias : {&l.gate_bias, &l.up_bias, &l.down_bias}) {
      bias->empty() ? call.absent() : call.in({l.E, bias == &l.down_bias ? l.D : l.F}, *bias);
    }
  }
  const bool clamped = activation == kClamped;
  call.attr(int64_t{clamped ? 0 : activation}).attr(int64_t{compute});
  call.attr(double{clamped ? kLimit : 0}).attr(double{clamped ? kSlope : 0}).run(pool_of(threads), tier);
  return y;
}

// act(gate)·up in the steps of src/core/ops/hidden.ts.
Floats activate(int activation, const Floats& gate, const Floats* up, Tier tier) {
  std::vector<int64_t> code;
  int64_t next = up != nullptr ? 2 : 1;
  const auto op = [&](const char* name, int64_t a, int64_t b = 0) {
    code.insert(code.end(), {test::op(name), a, b, 0});
    return next++;
  };
  const auto number = [&](float v) {
    int32_t bits;
    std::memcpy(&bits, &v, 4);
    return op("const", bits);
  };
  int64_t y = 0;
  if (activation == 0) y = op("mul", 0, op("sigmoid", 0));
  if (activation == 1) {
    const int64_t half = op("mul", 0, number(0.5f));
    y = op("mul", half, op("add", op("erf", op("mul", 0, number(static_cast<float>(M_SQRT1_2)))), number(1)));
  }
  if (activation == 2) {
    const int64_t half = op("mul", 0, number(0.5f)), cube = op("mul", 0, op("mul", 0, 0));
    const int64_t sum = op("add", 0, op("mul", number(0.044715f), cube));
    const int64_t scaled = op("mul", number(static_cast<float>(std::sqrt(2 / M_PI))), sum);
    y = op("mul", half, op("add", op("tanh", scaled), number(1)));
  }
  if (activation == 3) y = op("max", 0, number(0));
  if (activation == kClamped) {
    const int64_t g = op("min", 0, number(kLimit));
    const int64_t u = op("add", op("min", op("max", 1, number(-kLimit)), number(kLimit)), number(1));
    op("mul", u, op("mul", g, op("sigmoid", op("mul", g, number(kSlope)))));
  } else if (up != nullptr) {
    op("mul", y, 1);
  }
  const int64_t n = static_cast<int64_t>(gate.size());
  Floats h;
  KernelCall call("elementwise");
  call.in({n}, gate);
  if (up != nullptr) call.in({n}, *up);
  call.out({n}, h).attr(code).run(pool_of(1), tier);
  return h;
}

Floats composed(const Layer& l, int activation, int compute, Tier tier) {
  const int64_t R = l.N * l.K;
  Floats rows(R * l.D, 0.0f), gate, up, down, y;
  for (int64_t r = 0; r < R; r++) {
    if (l.row_token[r] >= 0) std::copy_n(l.x.begin() + l.row_token[r] * l.D, l.D, rows.begin() + r * l.D);
  }
  const auto product = [&](const WeightPtr& w, const Floats& x, const Floats& bias, Floats& out) {
    KernelCall call("grouped_linear");
    call.in({R, w->columns()}, x).in({l.E + 1}, l.offsets).in(*w, {l.E, w->rows(), w->columns()});
    call.out({R, w->rows()}, out).attr(int64_t{compute}).run(pool_of(1), tier);
    for (int64_t e = 0; !bias.empty() && e < l.E; e++) {
      for (int64_t r = l.offsets[e]; r < l.offsets[e + 1]; r++) {
        for (int64_t i = 0; i < w->rows(); i++) out[r * w->rows() + i] += bias[e * w->rows() + i];
      }
    }
  };
  product(l.up, rows, l.up_bias, up);
  if (l.gate) product(l.gate, rows, l.gate_bias, gate);
  product(l.down, activate(activation, l.gate ? gate : up, l.gate ? &up : nullptr, tier), l.down_bias, down);
  KernelCall combine("moe_combine");
  combine.in({R, l.D}, down).in({l.N, l.K}, l.slot_row).in({l.N, l.K}, l.weights).out({l.N, l.D}, y).run(pool_of(1), tier);
  return y;
}

void same_as_composed(const char* name, const Layer& l, int activation, int compute, Tier tier) {
  const Floats expected = composed(l, activation, compute, tier);
  const bool finite = std::all_of(expected.begin(), expected.end(), [](float v) { return std::isfinite(v); });
  CHECK(finite);
  for (int threads : {1, 4}) {
    if (CHECK(same_bits(fused(l, activation, compute, threads, tier), expected))) continue;
    std::fprintf(stderr, "  %s: activation %d, compute %d, %d threads, %s\n", name, activation, compute, threads, tier_name(tier));
  }
}

// Modes that differ from f32 for a format: int8 for scaled integers, bf16 for the others.
bool differs(Format f, int compute) { return compute == 0 || (compute == 2) == is_integer_format(f); }

// Every format, alone and beside another one, in every mode.
void formats() {
  const int64_t E = 3, D = 256, F = 256;
  std::map<Format, std::pair<WeightPtr, WeightPtr>> weights;
  const auto pair_of = [&](Format f) {
    auto& w = weights[f];
    if (!w.first) w = {small_weight(f, E, F, D, 1), small_weight(f, E, F, D, 2)};
    return w;
  };
  const int count = static_cast<int>(Format::kCount);
  for (int64_t N : {1, 26}) {
    const Ids ids = random_ids(N * 2, E, 10, 3);
    for (int i = 0; i < count; i++) {
      const Format f = static_cast<Format>(i), other = static_cast<Format>((i * 5 + 1) % count);
      const auto a = pair_of(f), b = pair_of(other);
      for (Tier tier : tested_tiers()) {
        for (int compute : {0, 1, 2}) {
          if (!differs(f, compute)) continue;
          // Many rows for a third of the formats on each tier: under a sanitizer they cost most of the time.
          if (N > 1 && (i + static_cast<int>(tier)) % 3 != 0) continue;
          const bool mixed = differs(f, compute) && !differs(other, compute) && tier == best_tier();
          same_as_composed("one format", make_layer(N, 2, E, D, F, a.first, a.second, a.second, ids), 0, compute, tier);
          if (compute == 0 || !mixed) continue;
          same_as_composed("two formats", make_layer(N, 2, E, D, F, a.first, b.second, a.second, ids), 0, compute, tier);
          same_as_composed("another down", make_layer(N, 2, E, D, F, a.first, a.second, b.first, ids), 0, compute, tier);
        }
      }
    }
  }
}

void activations_and_odd_sizes() {
  const int64_t E = 3, D = 37, F = 53;
  const WeightPtr gate = small_weight(Format::kF32, E, F, D, 1), up = small_weight(Format::kF16, E, F, D, 2),
                  down = small_weight(Format::kBF16, E, D, F, 3);
  for (Tier tier : tested_tiers()) {
    for (int activation : {0, 1, 2, 3}) {
      for (int compute : {0, 1}) {
        const Ids ids = random_ids(40 * 3, E, 0, 4);
        same_as_composed("odd", make_layer(40, 3, E, D, F, gate, up, down, ids), activation, compute, tier);
        same_as_composed("no gate", make_layer(40, 3, E, D, F, nullptr, up, down, ids), activation, compute, tier);
        if (activation == 0) same_as_composed("clamped", make_layer(40, 3, E, D, F, gate, up, down, ids), kClamped, compute, tier);
      }
    }
  }
}

// One expert of many, all rows to one, all dropped, more rows than a tile holds.
void uneven_routing() {
  const int64_t E = 4, D = 64, F = 64;
  const WeightPtr q = small_weight(Format::kQ8_0, E, F, D, 1), f = small_weight(Format::kF16, E, F, D, 2);
  const WeightPtr wide = small_weight(Format::kInt4G128, E, F, D, 7), narrower = small_weight(Format::kInt4G64, E, F, D, 8);
  const WeightPtr down = small_weight(Format::kQ8_0, E, D, F, 3), float_down = small_weight(Format::kF32, E, D, F, 4);
  for (Tier tier : tested_tiers()) {
    for (int compute : {0, 1, 2}) {
      for (int64_t N : {1, 150, 2100}) {
        if (N > 1000 && (tier != best_tier() || compute == 1)) continue;
        const Ids one(N, 2);
        same_as_composed("all to one", make_layer(N, 1, E, D, F, q, q, down, one), 0, compute, tier);
        same_as_composed("all to one, two formats", make_layer(N, 1, E, D, F, q, f, down, one), 0, compute, tier);
        same_as_composed("all to one, two groups", make_layer(N, 1, E, D, F, wide, narrower, down, one), 0, compute, tier);
        same_as_composed("all to one, wide and narrow", make_layer(N, 1, E, D, F, q, wide, down, one), 0, compute, tier);
        same_as_composed("all to one, float down", make_layer(N, 1, E, D, F, q, q, float_down, one), 0, compute, tier);
      }
      same_as_composed("all dropped", make_layer(5, 2, E, D, F, q, q, down, Ids(10, -1)), 0, compute, tier);
    }
  }
  const WeightPtr same = small_weight(Format::kQ8_0, 1, F, D, 5)->repeated(E);
  same_as_composed("equal experts", make_layer(20, 2, E, D, F, same, same, down, random_ids(40, E, 0, 6)), 0, 2, best_tier());
}

// Each bias alone and all of them; an empty expert, dropped tokens, few rows and more than a tile holds.
void biases() {
  const int64_t E = 4, D = 37, F = 53;
  const WeightPtr gate = small_weight(Format::kF32, E, F, D, 1), up = small_weight(Format::kF32, E, F, D, 2),
                  down = small_weight(Format::kBF16, E, D, F, 3);
  for (Tier tier : tested_tiers()) {
    for (int compute : {0, 1}) {
      for (int64_t N : {1, 40, 900}) {
        if (N > 100 && tier != best_tier()) continue;
        Ids ids = random_ids(N * 2, E - 1, 10, 4);
        for (int which = 1; which < 8; which++) {
          if (which != 7 && N != 40) continue;
          Layer l = make_layer(N, 2, E, D, F, gate, up, down, ids);
          if (which & 1) l.gate_bias = normals(E * F, 5);
          if (which & 2) l.up_bias = normals(E * F, 6);
          if (which & 4) l.down_bias = normals(E * D, 7);
          same_as_composed("biases", l, 0, compute, tier);
          if (which & 1) continue;
          l.gate = nullptr;
          same_as_composed("biases, no gate", l, 1, compute, tier);
        }
      }
    }
  }
}

// Experts with so many rows that tasks are runs of rows: groups of all sizes and a slab of h that they do not fill, experts
// of one block and of several tasks, one without rows, and outputs that leave the caches alone.
void many_rows() {
  const int64_t E = 9, K = 2, D = 96, F = 352;
  struct {
    Format format;
    int compute;
  } cases[] = {{Format::kInt8, 2}, {Format::kInt8G64, 2}, {Format::kInt4G128, 2}, {Format::kQ8_0, 2},
               {Format::kQ4_1, 2}, {Format::kQ4_0, 0},    {Format::kBF16, 1},     {Format::kF32, 1}};
  for (const auto& c : cases) {
    const WeightPtr gate = small_weight(c.format, E, F, D, 1), up = small_weight(c.format, E, F, D, 2),
                    down = small_weight(c.format, E, D, F, 3);
    for (Tier tier : tested_tiers()) {
      const int64_t N = tier == best_tier() ? 700 : 160;
      Ids ids = random_ids(N * K, E - 1, 5, 3);
      for (int64_t i = 0; i < N; i += 2) ids[i * K] = 1;
      Layer l = make_layer(N, K, E, D, F, gate, up, down, ids);
      same_as_composed("many rows", l, 0, c.compute, tier);
      if (tier != best_tier()) continue;
      l.gate_bias = normals(E * F, 5), l.up_bias = normals(E * F, 6), l.down_bias = normals(E * D, 7);
      same_as_composed("many rows, biases", l, kClamped, c.compute, tier);
      l.gate = nullptr, l.gate_bias = {};
      same_as_composed("many rows, no gate", l, 2, c.compute, tier);
    }
  }
  const int64_t wide = 1056;  // 4100 rows of it are more than 16 MiB; and of one value more, which is not a multiple of 4
  for (int64_t width : {wide, wide + 1}) {
    const WeightPtr up = small_weight(Format::kBF16, 4, 32, width, 1), down = small_weight(Format::kBF16, 4, width, 32, 2);
    same_as_composed("large outputs", make_layer(2050, 2, 4, width, 32, up, up, down, random_ids(4100, 4, 0, 3)), 0, 1,
                     best_tier());
  }
}

// A token alone gives the bits it has in a batch.
void alone_as_in_a_batch(Format f, int64_t D) {
  const int64_t N = 64, K = 3, E = 6, F = 64;
  const WeightPtr w = small_weight(f, E, F, D, 1), down = small_weight(f, E, D, F, 2);
  const Ids ids = random_ids(N * K, E, 5, 3);
  const Layer batch = make_layer(N, K, E, D, F, w, w, down, ids);
  for (Tier tier : tested_tiers()) {
    for (int compute : {0, 2}) {
      const Floats y = fused(batch, 0, compute, 4, tier);
      for (int64_t n : {0, 17, 63}) {
        Layer one{1, K, E, D, F, w, w, down, {}, {}, {}, {}, {}};
        one.x.assign(batch.x.begin() + n * D, batch.x.begin() + (n + 1) * D);
        one.weights.assign(batch.weights.begin() + n * K, batch.weights.begin() + (n + 1) * K);
        plan(one, Ids(ids.begin() + n * K, ids.begin() + (n + 1) * K));
        CHECK(std::memcmp(fused(one, 0, compute, 4, tier).data(), y.data() + n * D, D * sizeof(float)) == 0);
      }
    }
  }
}

void errors() {
  const WeightPtr w = small_weight(Format::kF32, 2, 8, 8, 1);
  const Layer good = make_layer(3, 2, 2, 8, 8, w, w, w, {0, 1, 1, 0, 0, 1});
  const auto error = [](const Layer& l) { return error_of([&] { fused(l, 0, 0, 1, best_tier()); }); };
  CHECK(error(good).empty());
  Layer l = good;
  l.row_token[3] = 3;
  CHECK(holds(error(l), "token 3 for row 3"));
  l = good;
  l.row_token[0] = -1;
  CHECK(holds(error(l), "token -1 for row 0"));
  l = good;
  l.offsets[1] = 7;
  CHECK(holds(error(l), "expert offset"));
  l = good;
  l.slot_row[1] = 6;
  CHECK(holds(error(l), "slot row 6 for token 0"));
  l = good;
  l.gate_bias.assign(2 * 8, 0.0f);
  l.gate = nullptr;
  CHECK(holds(error(l), "gate bias without a gate"));
  l = good;
  l.down = small_weight(Format::kF32, 2, 8, 9, 2);
  CHECK(holds(error(l), "columns of down"));
  CHECK(holds(error_of([&] { fused(good, kClamped + 1, 0, 1, best_tier()); }), "unknown activation"));
}

void bench() {
  const int64_t E = 64, K = 8, D = 2048, F = 1024;
  for (Format f : {Format::kQ8_0, Format::kQ4_0}) {
    const WeightPtr gate = small_weight(f, E, F, D, 1), up = small_weight(f, E, F, D, 2), down = small_weight(f, E, D, F, 3);
    for (int64_t N : {1, 8, 64, 512, 2048}) {
      Layer l = make_layer(N, K, E, D, F, gate, up, down, random_ids(N * K, E, 0, 7));
      Floats y;
      KernelCall call("moe_experts");
      call.in({N, D}, l.x).in({E + 1}, l.offsets).in({N * K}, l.row_token).in({N, K}, l.slot_row).in({N, K}, l.weights);
      call.in(*gate, {E, F, D}).in(*up, {E, F, D}).in(*down, {E, D, F}).out({N, D}, y).attr(int64_t{0}).attr(int64_t{2}).attr(0.0).attr(0.0);
      call.run_under(pool_of(2), best_tier(), [&](const auto& run) {
        std::vector<double> ms;
        for (int i = 0; i < (N < 64 ? 50 : 5); i++) {
          const auto start = std::chrono::steady_clock::now();
          run();
          ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
        }
        std::sort(ms.begin(), ms.end());
        const double flop = 6.0 * static_cast<double>(N * K * D * F);
        std::printf("%s T=%-5lld %9.3f ms %8.1f GFLOP/s\n", format_info(f).name, static_cast<long long>(N), ms[ms.size() / 2],
                    flop / ms[ms.size() / 2] / 1e6);
      });
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  print_tiers();
  formats();
  activations_and_odd_sizes();
  uneven_routing();
  biases();
  many_rows();
  alone_as_in_a_batch(Format::kQ4_0, 128);
  for (const Format f : {Format::kInt8, Format::kInt8G64, Format::kInt4G128}) alone_as_in_a_batch(f, 160);
  errors();
  return report();
}
