// The streaming products of few rows (linear/few.cu, moe/experts_few.cu) against the CPU's kernels in f32. x is rounded to bf16
// beforehand, so that a product differs by the order of its sums alone, and a layer by what is between its products.
#include "cuda/linear/few.h"
#include "cuda/moe/experts_few.h"
#include "test/cuda/compare.h"
#include "test/cuda/weights.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

using Ids = std::vector<int32_t>;
using Floats = std::vector<float>;

ThreadPool& pool() {
  static ThreadPool one(1);
  return one;
}

Floats rounded(Floats x) {
  for (float& v : x) v = bf16_to_f32(f32_to_bf16(v));
  return x;
}

// What the kernels below run with; nullptr: what the backend would choose.
const gpu::StreamTuning* tuning = nullptr;

// --- Products: linear and grouped_linear
std::vector<gpu::Product> products_of(const gpu::Instruction& in) {
  std::vector<gpu::Product> all;
  for (size_t i = 0; i < in.out.size(); i++) {
    gpu::Product p;
    const size_t first = in.in.size() - in.out.size();
    p.x = in.in[0]->as<float>(), p.tokens = p.rows = in.in[0]->shape[0];
    if (first == 2) p.offsets = in.in[1]->as<int32_t>(), p.experts = in.in[1]->shape[0] - 1;
    p.weight = in.in[first + i]->weight;
    p.y = in.out[i]->as<float>();
    all.push_back(p);
  }
  return all;
}
const gpu::Kernel kProduct{
    "linear by few rows",
    [](const gpu::Instruction& in, const gpu::Launch& on) {
      const auto all = products_of(in);
      tuning == nullptr ? gpu::launch_few(all, in.number, on, on.scratch) : gpu::launch_few(all, *tuning, in.number, on, on.scratch);
    },
    [](const gpu::Instruction& in, const gpu::DeviceLimits& device) { return gpu::few_scratch(products_of(in)[0], device); }};

void check_linear(Format f, int64_t rows, int64_t columns, int64_t outputs) {
  const WeightPtr w = random_weight(f, 1, outputs, columns, 5);
  Compare c("linear");
  c.in({rows, columns}, rounded(normals(rows * columns, 6))).in(*w, {outputs, columns}).out<float>({rows, outputs}).attr(0);
  c.run_cpu(pool()).run_device(kProduct);
  if (!CHECK(c.distance() < 1e-5)) {
    std::fprintf(stderr, "  %s: %lld rows of %lld columns to %lld outputs, distance %g\n", format_info(f).name, (long long)rows,
                 (long long)columns, (long long)outputs, c.distance());
  }
}

Compare grouped(const Ids& offsets, int64_t rows, int64_t columns, int64_t outputs) {
  const auto experts = static_cast<int64_t>(offsets.size()) - 1;
  static std::vector<WeightPtr> kept;
  kept.push_back(random_weight(Format::kBF16, experts, outputs, columns, 7));
  Compare c("grouped_linear");
  c.in({rows, columns}, rounded(normals(rows * columns, 8))).in({experts + 1}, offsets).in(*kept.back(), {experts, outputs, columns});
  c.out<float>({rows, outputs}).attr(0);
  return c;
}

// Six weights of two formats, with and without experts: two grids share the rows of one, the others are one grid.
void several_weights() {
  const Ids offsets{0, 4, 4, 9};
  for (const bool experts : {false, true}) {
    const int64_t rows = 12, columns = 96, E = experts ? 3 : 1;
    Compare c(experts ? "grouped_linear" : "linear");
    c.in({rows, columns}, rounded(normals(rows * columns, 20)));
    if (experts) c.in({E + 1}, offsets);
    std::vector<WeightPtr> weights;
    for (uint32_t i = 0; i < 6; i++) {
      const int64_t outputs = 17 + 30 * i;
      weights.push_back(random_weight(i == 1 ? Format::kQ8_0 : Format::kBF16, E, outputs, columns, 30 + i));
      experts ? c.in(*weights.back(), {E, outputs, columns}) : c.in(*weights.back(), {outputs, columns});
    }
    for (uint32_t i = 0; i < 6; i++) c.out<float>({rows, 17 + 30 * i});
    c.attr(0).run_cpu(pool()).run_device(kProduct);
    for (size_t i = 0; i < 6; i++) CHECK(c.distance(i) < 1e-5);
  }
}

void products() {
  for (const int64_t rows : {1, 3, 8, 9, 17, 31, 64}) check_linear(Format::kBF16, rows, 200, 50);
  for (const int64_t columns : {1, 2, 15, 16, 31, 100, 1000}) check_linear(Format::kBF16, 2, columns, 33);
  for (const int64_t outputs : {1, 16, 17, 300}) check_linear(Format::kBF16, 5, 64, outputs);
  check_linear(Format::kBF16, 0, 64, 32);
  // Empty experts, one of more rows than a task has, rows past the last offset.
  for (const Ids& offsets : {Ids{0, 0, 3, 3, 43, 43}, Ids{0, 50}, Ids{0, 0}, Ids{0, 9, 18, 27, 36, 45, 50}}) {
    Compare c = grouped(offsets, 50, 72, 40);
    CHECK(c.run_cpu(pool()).run_device(kProduct).distance() < 1e-5);
    CHECK(c.error().kind == 0);
  }
  // Wrong offsets: told, and nothing else happens.
  for (const Ids& offsets : {Ids{0, 5, 3, 50}, Ids{1, 5, 50}, Ids{0, 51}, Ids{0, -1, 50}, Ids{0, 1 << 30}}) {
    Compare c = grouped(offsets, 50, 72, 40);
    c.run_device(kProduct);
    CHECK(c.error().kind == static_cast<int>(gpu::ErrorKind::kIndex));
  }
}

// Every format, of a few chunks and of several slots.
void formats() {
  for (const Format f : all_formats()) {
    if (!gpu::has_few(f)) continue;
    check_linear(f, 3, odd_columns(f, 1), 20);
    check_linear(f, 18, odd_columns(f, format_info(f).values_per_block >= 256 ? 2 : 14), 20);
  }
}

// --- Layers
const gpu::Kernel kLayer{
    "moe_experts by few rows",
    [](const gpu::Instruction& in, const gpu::Launch& on) {
      const gpu::ExpertLayer l = gpu::layer_of(in);
      tuning == nullptr ? gpu::launch_few(l, in.number, on) : gpu::launch_few(l, gpu::FewTuning{*tuning, *tuning}, in.number, on);
    },
    [](const gpu::Instruction& in, const gpu::DeviceLimits& device) { return gpu::few_scratch(gpu::layer_of(in), device); }};

struct LayerCase {
  int64_t N, K, E, D, F;
  Format format = Format::kBF16;
  bool gate = true, biases = false;
  int activation = 0;
  float limit = 0;
  int dropped_percent = 0;
  int hot = 1;  // every choice is among the first E / hot experts
};

// Distinct experts for each token, some choices dropped.
Ids random_choices(const LayerCase& c) {
  std::mt19937 engine(11);
  Ids ids;
  for (int64_t n = 0; n < c.N; n++) {
    const auto first = static_cast<int64_t>(engine() % static_cast<uint32_t>(c.E));
    for (int64_t k = 0; k < c.K; k++) {
      const bool dropped = static_cast<int>(engine() % 100) < c.dropped_percent;
      ids.push_back(dropped ? -1 : static_cast<int32_t>((first + k) % c.E / c.hot));
    }
  }
  return ids;
}

void check_layer(const LayerCase& c) {
  Compare plan("moe_plan");
  plan.in({c.N, c.K}, random_choices(c)).out<int32_t>({c.E + 1}).out<int32_t>({c.N * c.K}).out<int32_t>({c.N, c.K}).run_cpu(pool());
  const WeightPtr gate = random_weight(c.format, c.E, c.F, c.D, 1), up = random_weight(c.format, c.E, c.F, c.D, 2);
  const WeightPtr down = random_weight(c.format, c.E, c.D, c.F, 3);
  Compare layer("moe_experts");
  layer.in({c.N, c.D}, rounded(normals(c.N * c.D, 4, 0.1f))).in({c.E + 1}, plan.cpu<int32_t>(0));
  layer.in({c.N * c.K}, plan.cpu<int32_t>(1)).in({c.N, c.K}, plan.cpu<int32_t>(2)).in({c.N, c.K}, normals(c.N * c.K, 9));
  c.gate ? layer.in(*gate, {c.E, c.F, c.D}) : layer.absent();
  layer.in(*up, {c.E, c.F, c.D}).in(*down, {c.E, c.D, c.F});
  if (c.biases) {
    c.gate ? layer.in({c.E, c.F}, normals(c.E * c.F, 12)) : layer.absent();
    layer.in({c.E, c.F}, normals(c.E * c.F, 13)).in({c.E, c.D}, normals(c.E * c.D, 14));
  }
  layer.out<float>({c.N, c.D}).attr(c.activation).attr(0).attr(double{c.limit}).attr(c.limit > 0 ? 1.702 : 0.0);
  layer.run_cpu(pool()).run_device(kLayer);
  CHECK(layer.error().kind == 0);
  if (!CHECK(layer.distance() < 5e-3)) {
    std::fprintf(stderr, "  %s: N %lld K %lld E %lld D %lld F %lld: distance %g\n", format_info(c.format).name, (long long)c.N,
                 (long long)c.K, (long long)c.E, (long long)c.D, (long long)c.F, layer.distance());
  }
}

void layers() {
  for (const int64_t N : {1, 2, 7, 16, 33, 64}) check_layer({N, 2, 5, 96, 40});
  check_layer({4, 3, 8, 130, 51});
  check_layer({9, 2, 6, 64, 32, Format::kBF16, false, true, 2});
  for (const int activation : {0, 1, 2, 3}) check_layer({3, 1, 4, 48, 33, Format::kBF16, true, true, activation});
  check_layer({5, 2, 4, 48, 48, Format::kBF16, true, true, 0, 0.7f});
  check_layer({20, 2, 8, 64, 48, Format::kBF16, true, false, 0, 0, 40});
  check_layer({60, 2, 8, 64, 48, Format::kBF16, true, false, 0, 0, 0, 8});
  check_layer({3, 2, 8, 64, 48, Format::kBF16, true, false, 0, 0, 100});
  check_layer({0, 2, 8, 64, 48});
  for (const Format f : all_formats()) {
    if (gpu::has_few(f)) check_layer({3, 2, 3, odd_columns(f, 1), odd_columns(f, 1), f, true, true});
  }
}

// Wrong plans on the device: told, and nothing outside the operands is touched.
void wrong_plans() {
  const auto run = [](Ids offsets, Ids tokens, Ids slots) {
    const WeightPtr up = random_weight(Format::kBF16, 2, 24, 32, 1), down = random_weight(Format::kBF16, 2, 32, 24, 2);
    Compare c("moe_experts");
    c.in({2, 32}, normals(64, 3)).in({3}, offsets).in({4}, tokens).in({2, 2}, slots).in({2, 2}, normals(4, 4)).absent();
    c.in(*up, {2, 24, 32}).in(*down, {2, 32, 24}).out<float>({2, 32}).attr(0).attr(0).attr(0.0).attr(0.0);
    return c.run_device(kLayer).error().kind;
  };
  const int wrong = static_cast<int>(gpu::ErrorKind::kIndex);
  CHECK(run({0, 2, 4}, {0, 1, 0, 1}, {0, 2, 1, 3}) == 0);
  CHECK(run({0, 2, 5}, {0, 1, 0, 1}, {0, 2, 1, 3}) == wrong);
  CHECK(run({0, 2, 4}, {0, 1, 2, 1}, {0, 2, 1, 3}) == wrong);
  CHECK(run({0, 2, 4}, {0, 1, -1, 1}, {0, 2, 1, 3}) == wrong);
  CHECK(run({0, 2, 4}, {0, 1, 0, 1}, {0, 2, 1, 4}) == wrong);
}

// What a launch throws; "" where it throws nothing.
template <class F>
std::string refusal(const F& launch) {
  try {
    launch();
  } catch (const std::length_error& e) {
    return e.what();
  }
  return "";
}

// As many experts as the table has room for; more go another way, and are refused where that is forced.
void many_experts() {
  for (const int64_t experts : {gpu::kFewExperts, gpu::kFewExperts + 1, int64_t{60'000}}) {
    Ids offsets(static_cast<size_t>(experts) + 1, 2);
    offsets[0] = 0, offsets.back() = 3;
    const WeightPtr w = random_weight(Format::kQ8_0, experts, 3, 32, 15);
    Compare c("grouped_linear");
    c.in({3, 32}, rounded(normals(3 * 32, 16))).in({experts + 1}, offsets).in(*w, {experts, 3, 32}).out<float>({3, 3}).attr(2);
    CHECK(c.run_cpu(pool()).run_device().distance() < 2e-2);  // the CPU rounds to 8 bits
    CHECK(c.error().kind == 0);
    const bool fits = experts <= gpu::kFewExperts;
    CHECK(refusal([&] { c.run_device(kProduct); }).empty() == fits);
  }
  const int64_t most = gpu::kFewExperts;
  for (const int64_t experts : {most, most + 1}) {
    Ids offsets(static_cast<size_t>(experts) + 1, 1);
    offsets[0] = 0, offsets.back() = 2;
    const WeightPtr up = random_weight(Format::kBF16, experts, 2, 16, 17), down = random_weight(Format::kBF16, experts, 16, 2, 18);
    Compare c("moe_experts");
    c.in({2, 16}, rounded(normals(32, 19))).in({experts + 1}, offsets).in({2}, Ids{0, 1}).in({2, 1}, Ids{0, 1});
    c.in({2, 1}, Floats{1, 1}).absent().in(*up, {experts, 2, 16}).in(*down, {experts, 16, 2}).out<float>({2, 16});
    c.attr(2).attr(1).attr(0.0).attr(0.0);
    CHECK(c.run_cpu(pool()).run_device().distance() < 5e-3);
    CHECK(c.error().kind == 0);
    const std::string refused = refusal([&] { c.run_device(kLayer); });
    CHECK(experts == most ? refused.empty() : refused.find("got 4097 experts, expected at most 4096") != std::string::npos);
  }
}

// Every choice of the tuning, with rings that are shorter than a task and longer than all.
void tunings() {
  for (const int blocks : {1, 3}) {
    for (const int slot_bytes : {4096, 16384}) {
      gpu::StreamTuning t;
      t.slot_bytes = slot_bytes, t.blocks = blocks;
      tuning = &t;
      check_linear(Format::kBF16, 20, 300, 50);
      check_layer({10, 2, 3, 150, 40});
      tuning = nullptr;
    }
  }
}

}  // namespace

int main() {
  products();
  several_weights();
  formats();
  layers();
  wrong_plans();
  many_experts();
  tunings();
  return report();
}
