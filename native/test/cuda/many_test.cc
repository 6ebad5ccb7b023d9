// Many rows on tensor cores. Expert layers of bf16 by every way of many_way.h, against plain loops in double; products, and layers
// of every format, against the CPU.
#include <cmath>
#include <random>
#include <vector>

#include "cuda/linear/many.h"
#include "cuda/moe/experts_many.h"
#include "formats/half.h"
#include "test/check.h"
#include "test/cuda/compare.h"
#include "test/cuda/experts_layer.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

float rounded(float x) { return bf16_to_f32(f32_to_bf16(x)); }

// A weight of bf16: what it holds, and its panels on the device.
struct DevicePanels {
  Floats values;  // [experts, rows, columns]
  gpu::DeviceWeight weight;
  std::unique_ptr<DeviceBytes> memory;

  DevicePanels(int64_t experts, int64_t rows, int64_t columns, uint32_t seed) : values(normals(experts * rows * columns, seed, 0.1f)) {
    for (float& v : values) v = rounded(v);
    weight.format = Format::kBF16, weight.experts = experts, weight.rows = rows, weight.columns = columns;
    weight.layout = panel_layout(weight.format, columns);
    weight.expert_stride = weight.panels() * weight.layout.bytes;
    std::vector<std::byte> panels(static_cast<size_t>(experts * weight.expert_stride));
    for (int64_t r = 0; r < experts * rows; r++) {
      const int64_t row = r % rows;
      pack_float_row(Format::kF32, Format::kBF16, reinterpret_cast<const std::byte*>(&values[static_cast<size_t>(r * columns)]), 4, 0,
                     columns, panels.data() + r / rows * weight.expert_stride + row / kPanel * weight.layout.bytes,
                     static_cast<int>(row % kPanel));
    }
    memory = std::make_unique<DeviceBytes>(panels.data(), static_cast<int64_t>(panels.size()));
    weight.data = memory->data();
  }
  const float* row(int64_t e, int64_t r) const { return &values[static_cast<size_t>((e * weight.rows + r) * weight.columns)]; }
};

struct LayerCase {
  const char* name;
  int64_t N, K, D, F;
  Ids rows;              // of each expert
  int64_t spare = 0;     // rows of the plan past the last offset
  bool gate = true, biases = false;
  int activation = 0;
  float limit = 0, slope = 0;
  int64_t E() const { return static_cast<int64_t>(rows.size()); }
};

double activated(int activation, double x) {
  switch (activation) {
    case 0: return x / (1 + std::exp(-x));
    case 1: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case 2: return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    default: return x > 0 ? x : 0;
  }
}

double dot(const float* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += double{a[i]} * b[i];
  return sum;
}

// A layer on the host and on the device.
struct Layer {
  const LayerCase& c;
  int64_t R;
  Floats x, weights, gate_bias, up_bias, down_bias;
  Ids offsets{0}, row_token, slot_row;
  DevicePanels gate, up, down;

  explicit Layer(const LayerCase& given)
      : c(given),
        gate(c.E(), c.F, c.D, 1),
        up(c.E(), c.F, c.D, 2),
        down(c.E(), c.D, c.F, 3) {
    std::mt19937 engine(7);
    for (const int32_t n : c.rows) offsets.push_back(offsets.back() + n);
    const int64_t used = offsets.back();
    R = used + c.spare;
    x = normals(c.N * c.D, 4, 1), weights = normals(c.N * c.K, 5, 1);
    if (c.biases) {
      if (c.gate) gate_bias = normals(c.E() * c.F, 8, 1);
      up_bias = normals(c.E() * c.F, 9, 1), down_bias = normals(c.E() * c.D, 10, 1);
    }
    for (int64_t r = 0; r < R; r++) row_token.push_back(r < used ? static_cast<int32_t>(engine() % static_cast<uint32_t>(c.N)) : -7);
    // Any row of any token: what a slot names is summed, whoever's it is.
    for (int64_t i = 0; i < c.N * c.K; i++) slot_row.push_back(static_cast<int32_t>(engine() % static_cast<uint32_t>(R + 1)) - 1);
  }

  Floats reference() const {
    std::vector<double> rows(static_cast<size_t>(R * c.D)), hidden(static_cast<size_t>(c.F)), token(static_cast<size_t>(c.D));
    for (int64_t e = 0; e < c.E(); e++) {
      for (int64_t r = offsets[static_cast<size_t>(e)]; r < offsets[static_cast<size_t>(e + 1)]; r++) {
        for (int64_t d = 0; d < c.D; d++) token[static_cast<size_t>(d)] = rounded(x[static_cast<size_t>(row_token[static_cast<size_t>(r)] * c.D + d)]);
        for (int64_t f = 0; f < c.F; f++) {
          const auto bias = [&](const Floats& b) { return b.empty() ? 0.0 : double{b[static_cast<size_t>(e * c.F + f)]}; };
          const double u = dot(up.row(e, f), token.data(), c.D) + bias(up_bias);
          const double g = c.gate ? dot(gate.row(e, f), token.data(), c.D) + bias(gate_bias) : 0;
          double& h = hidden[static_cast<size_t>(f)];
          if (!c.gate) {
            h = activated(c.activation, u);
          } else if (c.limit > 0) {
            const double low = std::min(g, double{c.limit}), v = std::max(-double{c.limit}, std::min(u, double{c.limit}));
            h = (v + 1) * low / (1 + std::exp(-c.slope * low));
          } else {
            h = activated(c.activation, g) * u;
          }
        }
        for (int64_t d = 0; d < c.D; d++) {
          rows[static_cast<size_t>(r * c.D + d)] =
              dot(down.row(e, d), hidden.data(), c.F) + (down_bias.empty() ? 0 : down_bias[static_cast<size_t>(e * c.D + d)]);
        }
      }
    }
    Floats y(static_cast<size_t>(c.N * c.D));
    for (int64_t n = 0; n < c.N; n++) {
      for (int64_t d = 0; d < c.D; d++) {
        double sum = 0;
        for (int64_t k = 0; k < c.K; k++) {
          const int32_t r = slot_row[static_cast<size_t>(n * c.K + k)];
          if (r >= 0) sum += double{weights[static_cast<size_t>(n * c.K + k)]} * rows[static_cast<size_t>(r * c.D + d)];
        }
        y[static_cast<size_t>(n * c.D + d)] = static_cast<float>(sum);
      }
    }
    return y;
  }

  Floats device(gpu::many::Way way, gpu::ErrorWord& error) const {
    const gpu::DeviceLimits limits = device_limits();
    const auto bytes = [](const auto& v) { return std::make_unique<DeviceBytes>(v.data(), static_cast<int64_t>(v.size() * 4)); };
    const auto px = bytes(x), pw = bytes(weights), po = bytes(offsets), pt = bytes(row_token), ps = bytes(slot_row);
    const auto pg = bytes(gate_bias), pu = bytes(up_bias), pd = bytes(down_bias);
    const auto floats = [](const DeviceBytes& b, const Floats& v) { return v.empty() ? nullptr : reinterpret_cast<const float*>(b.data()); };
    const auto ids = [](const DeviceBytes& b) { return reinterpret_cast<const int32_t*>(b.data()); };
    Floats y(static_cast<size_t>(c.N * c.D), NAN);
    const DeviceBytes py(y.data(), static_cast<int64_t>(y.size() * 4)), word(&error, sizeof error);
    gpu::ExpertLayer l;
    l.N = c.N, l.K = c.K, l.R = R, l.D = c.D, l.F = c.F, l.E = c.E();
    l.x = floats(*px, x), l.offsets = ids(*po), l.row_token = ids(*pt), l.slot_row = ids(*ps), l.weights = floats(*pw, weights);
    l.gate = c.gate ? &gate.weight : nullptr, l.up = &up.weight, l.down = &down.weight;
    l.gate_bias = floats(*pg, gate_bias), l.up_bias = floats(*pu, up_bias), l.down_bias = floats(*pd, down_bias);
    l.activation = c.activation, l.limit = c.limit, l.slope = c.slope;
    l.y = reinterpret_cast<float*>(py.data());
    const DeviceBytes scratch(nullptr, gpu::many_scratch(l, limits));
    gpu::Launch on;
    gpu::check(cudaStreamCreateWithFlags(&on.stream, cudaStreamNonBlocking));
    on.device = &limits, on.scratch = scratch.data(), on.error = reinterpret_cast<gpu::ErrorWord*>(word.data());
    gpu::check(cudaDeviceSynchronize());
    gpu::launch_many(l, gpu::ManyTuning{way}, 3, on);
    gpu::check(cudaStreamSynchronize(on.stream));
    gpu::check(cudaStreamDestroy(on.stream));
    py.read(y.data());
    word.read(&error);
    return y;
  }
};

double distance(const Floats& a, const Floats& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); i++) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / (norm > 0 ? norm : 1));
}

const LayerCase kLayers[] = {
    {.name = "experts of all sizes", .N = 40, .K = 3, .D = 96, .F = 80, .rows = {0, 300, 1, 64, 0, 129, 17}, .spare = 5},
    {.name = "one hot expert", .N = 600, .K = 1, .D = 128, .F = 64, .rows = {0, 600, 0}},
    {.name = "odd widths", .N = 9, .K = 2, .D = 37, .F = 21, .rows = {5, 70, 3}},
    {.name = "several groups of outputs, odd number of stages", .N = 30, .K = 2, .D = 320, .F = 192, .rows = {33, 27}},
    {.name = "no gate, gelu, biases", .N = 20, .K = 2, .D = 72, .F = 136, .rows = {10, 0, 30}, .gate = false, .biases = true, .activation = 1},
    {.name = "no gate, relu", .N = 20, .K = 2, .D = 64, .F = 70, .rows = {40}, .gate = false, .activation = 3},
    {.name = "clamped, biases", .N = 20, .K = 4, .D = 90, .F = 90, .rows = {40, 40}, .biases = true, .limit = 1, .slope = 1.702f},
    {.name = "gelu by tanh", .N = 20, .K = 2, .D = 66, .F = 34, .rows = {20, 20}, .activation = 2},
    {.name = "gelu and a gate", .N = 20, .K = 2, .D = 66, .F = 34, .rows = {20, 20}, .activation = 1},
    {.name = "relu and a gate", .N = 20, .K = 2, .D = 66, .F = 34, .rows = {20, 20}, .biases = true, .activation = 3},
    {.name = "no rows", .N = 3, .K = 2, .D = 66, .F = 34, .rows = {0, 0}},
};

void check_layers() {
  for (const LayerCase& c : kLayers) {
    const Layer layer(c);
    const Floats expected = layer.reference();
    for (int i = 0; i < gpu::many::kWays; i++) {
      const auto way = static_cast<gpu::many::Way>(i);
      gpu::ErrorWord error{};
      const double d = distance(layer.device(way, error), expected);
      if (!CHECK(d < 5e-3)) std::fprintf(stderr, "%s, way %d: distance %g\n", c.name, i, d);
      CHECK(error.kind == 0);
    }
  }
}

// Offsets and tokens that are wrong are reported with their place, and nothing else happens.
void check_hostile() {
  const LayerCase c{.name = "hostile", .N = 10, .K = 2, .D = 64, .F = 64, .rows = {20, 20, 20}};
  struct Wrong {
    size_t place;
    int32_t value;
    bool token;
  };
  for (const Wrong w : {Wrong{1, 1 << 30, false}, Wrong{2, -5, false}, Wrong{3, 61, false}, Wrong{0, 7, false}, Wrong{33, 10, true},
                        Wrong{59, -1, true}}) {
    Layer layer(c);
    (w.token ? layer.row_token : layer.offsets)[w.place] = w.value;
    gpu::ErrorWord error{};
    layer.device(gpu::many::Way::kWgmma256, error);
    CHECK(error.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex));
    CHECK(error.instruction == 3);
    CHECK(error.got == w.value && error.place == static_cast<int64_t>(w.place));
  }
}

// --- Against the CPU
ThreadPool& pool() {
  static ThreadPool one(1);
  return one;
}
Floats rounded(Floats x) {
  for (float& v : x) v = rounded(v);
  return x;
}

gpu::Product product_of(const gpu::Instruction& in) {
  gpu::Product p;
  p.x = in.in[0]->as<float>(), p.tokens = p.rows = in.in[0]->shape[0];
  if (in.in.size() == 3) p.offsets = in.in[1]->as<int32_t>(), p.experts = in.in[1]->shape[0] - 1;
  p.weight = in.in.back()->weight;
  p.y = in.out[0]->as<float>();
  return p;
}
// So few bytes that weights other than bf16 are decoded in many parts.
int64_t expand_bytes = 0;
const gpu::Kernel kProduct{
    "linear by many rows",
    [](const gpu::Instruction& in, const gpu::Launch& on) {
      gpu::launch_many(product_of(in), expand_bytes, in.number, on, on.scratch);
    },
    [](const gpu::Instruction& in, const gpu::DeviceLimits&) { return gpu::many_scratch(product_of(in), expand_bytes); }};

// x is rounded before: bf16 weights differ by the order of sums alone, others by their own rounding.
void check_product(Format f, int64_t rows, int64_t columns, int64_t outputs, const Ids& offsets = {}) {
  const int64_t experts = offsets.empty() ? 1 : static_cast<int64_t>(offsets.size()) - 1;
  const WeightPtr w = random_weight(f, experts, outputs, columns, 5);
  Compare c(offsets.empty() ? "linear" : "grouped_linear");
  c.in({rows, columns}, rounded(normals(rows * columns, 6)));
  if (!offsets.empty()) c.in({experts + 1}, offsets);
  offsets.empty() ? c.in(*w, {outputs, columns}) : c.in(*w, {experts, outputs, columns});
  c.out<float>({rows, outputs}).attr(0);
  c.run_cpu(pool()).run_device(kProduct);
  if (!CHECK(c.distance() < (f == Format::kBF16 ? 1e-5 : 3e-3) && c.error().kind == 0)) {
    std::fprintf(stderr, "  %s: %lld rows of %lld columns to %lld outputs, distance %g\n", format_info(f).name, (long long)rows,
                 (long long)columns, (long long)outputs, c.distance());
  }
}

void check_products() {
  for (const int64_t rows : {0, 1, 65, 129, 600}) check_product(Format::kBF16, rows, 100, 40);
  for (const int64_t columns : {1, 15, 16, 64, 65, 300}) check_product(Format::kBF16, 70, columns, 33);
  for (const int64_t outputs : {1, 16, 17, 128, 300}) check_product(Format::kBF16, 70, 64, outputs);
  for (const Ids& offsets : {Ids{0, 0, 3, 3, 290, 290}, Ids{0, 300}, Ids{0, 0}, Ids{0, 100, 200, 300}}) {
    check_product(Format::kBF16, 300, 72, 40, offsets);
    for (const int64_t bytes : {1, 3 * 64 * 48 * 2, 1 << 20}) {  // a group of panels, three experts, all
      expand_bytes = bytes;
      check_product(Format::kQ4_0, 300, 64, 40, offsets);
      check_product(Format::kQ8_0, 300, 32, 300, offsets);
    }
  }
  for (const Format f : all_formats()) {
    if (gpu::has_many(f)) check_product(f, 70, odd_columns(f, 3), 40);
  }
}

void check_formats() {
  for (const Format f : all_formats()) {
    if (!gpu::has_many(f)) continue;
    const int64_t E = 3, D = odd_columns(f, 2), F = odd_columns(f, 1), N = 70, K = 2;
    const float scale = 0.1f;
    const WeightPtr gate = random_weight(f, E, F, D, 21, scale), up = random_weight(f, E, F, D, 22, scale);
    const WeightPtr down = random_weight(f, E, D, F, 23, scale);
    Compare c = experts_call(experts_case(N, K, gate, up, down, random_ids(N * K, E, 10, 24)), 0, 0);
    c.run_cpu(pool());
    // One expert at a time, and all at once.
    constexpr gpu::ManyTuning kTunings[] = {{gpu::many::Way::kWgmma256, 1}, {gpu::many::Way::kMma128, 1 << 30}};
    static gpu::ManyTuning tuning;
    tuning = kTunings[static_cast<int>(f) % 2];
    c.run_device({"moe_experts by many rows",
                  [](const gpu::Instruction& in, const gpu::Launch& on) {
                    gpu::launch_many(gpu::layer_of(in), tuning, in.number, on);
                  },
                  [](const gpu::Instruction& in, const gpu::DeviceLimits&) { return gpu::many_scratch(gpu::layer_of(in), tuning); }});
    if (!CHECK(c.distance() < 6e-3 && c.error().kind == 0)) std::fprintf(stderr, "  %s: distance %g\n", format_info(f).name, c.distance());
  }
}

}  // namespace

int main() {
  check_layers();
  check_hostile();
  check_products();
  check_formats();
  return report();
}
