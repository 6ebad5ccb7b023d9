// Expert layers of many tokens, bf16: microseconds and TFLOP/s (6·T·k·d·n FLOP over all of a layer) of each way through them, the
// steps of the chosen way, and beside them a large dense product of the same kernel. A line of JSON a case.
// Usage: many_bench [--sweep] [--smoke] [--tokens 512,32768] [MODEL…]
// Weights, x and routing are random; layers take turns, with weights of their own. --sweep: every way; --smoke: tiny shapes.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "cuda/bench/plan.h"
#include "cuda/bench/timing.h"
#include "cuda/linear/many_epilogue.h"
#include "cuda/moe/experts_many.h"

using namespace switchyard;
using namespace switchyard::cuda;
using namespace switchyard::cuda::bench;

namespace {

struct Model {
  const char* name;
  int64_t E, K, D, F;
  std::vector<int64_t> tokens;
};
const Model kModels[] = {{"qwen3-30b-a3b", 128, 8, 2048, 768, {512, 2048, 4096, 32768}}, {"mixtral-8x7b", 8, 2, 4096, 14336, {4096}}};
const Model kSmoke = {"smoke", 8, 2, 64, 48, {5, 300}};
constexpr int kLayers = 2;
constexpr const char* kWayNames[many::kWays] = {"wgmma 256", "mma 128"};

// Of either sign, about 1/32 in size.
__global__ void fill_bf16(uint16_t* y, int64_t n, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) {
    const float u = static_cast<float>(static_cast<int32_t>(hashed(static_cast<uint64_t>(i), seed))) * 0x1p-31f;
    y[i] = to_bf16(u * 0.05f).bits;
  }
}
DeviceMemory random_bf16(int64_t n, uint32_t seed, const Launch& on) {
  DeviceMemory memory(2 * n);
  launch(fill_bf16, grid_for(n, 256, on), 256, 0, on, memory.as<uint16_t>(), n, seed);
  return memory;
}

struct PackedWeight {
  DeviceWeight weight;
  DeviceMemory memory;

  PackedWeight(int64_t experts, int64_t rows, int64_t columns, uint32_t seed, const Launch& on) {
    weight.format = Format::kBF16, weight.experts = experts, weight.rows = rows, weight.columns = columns;
    weight.layout = panel_layout(weight.format, columns);
    weight.expert_stride = weight.panels() * weight.layout.bytes;
    memory = random_bf16(experts * weight.expert_stride / 2, seed, on);
    weight.data = memory.data();
  }
};

struct LayerWeights {
  PackedWeight gate, up, down;
  LayerWeights(const Model& m, uint32_t seed, const Launch& on)
      : gate(m.E, m.F, m.D, seed, on), up(m.E, m.F, m.D, seed + 1, on), down(m.E, m.D, m.F, seed + 2, on) {}
};

// zipf: an expert of rank r is 1 / (r + 1) as likely as the first.
RandomPlan routing_of(const Model& m, int64_t tokens, bool zipf) {
  std::mt19937 engine(zipf ? 5 : 4);
  std::vector<double> share;
  for (int64_t e = 0; e < m.E; e++) share.push_back(zipf ? 1.0 / static_cast<double>(e + 1) : 1.0);
  std::discrete_distribution<int32_t> any(share.begin(), share.end());
  return {m.E, m.K, tokens, [&] { return any(engine); }};
}

struct Options {
  bool sweep = false, smoke = false;
  std::vector<int64_t> tokens;
  std::vector<std::string> models;
};

void time_layers(Bench& bench, const Model& m, const Options& options) {
  Launch on = bench.on();
  std::vector<std::unique_ptr<LayerWeights>> weights;
  for (uint32_t i = 0; i < kLayers; i++) weights.push_back(std::make_unique<LayerWeights>(m, 10 * i + 1, on));
  for (const int64_t T : options.tokens.empty() ? m.tokens : options.tokens) {
    const DeviceMemory x(T * m.D * 4), y(T * m.D * 4), shares(T * m.K * 4);
    bench.fill(x.as<float>(), T * m.D, 7), bench.fill(shares.as<float>(), T * m.K, 8);
    for (const bool zipf : {false, true}) {
      const RandomPlan routing = routing_of(m, T, zipf);
      const auto layer = [&](size_t i) {
        ExpertLayer l;
        l.N = T, l.K = m.K, l.R = T * m.K, l.D = m.D, l.F = m.F, l.E = m.E;
        l.x = x.as<float>(), l.weights = shares.as<float>();
        l.offsets = routing.offsets.as<int32_t>(), l.row_token = routing.row_token.as<int32_t>();
        l.slot_row = routing.slot_row.as<int32_t>();
        l.gate = &weights[i]->gate.weight, l.up = &weights[i]->up.weight, l.down = &weights[i]->down.weight;
        l.y = y.as<float>();
        return l;
      };
      const DeviceMemory scratch(many_scratch(layer(0), *on.device));
      const double flops = 6.0 * static_cast<double>(T * m.K * m.D * m.F);
      const double bytes = 2.0 * static_cast<double>(m.E * 3 * m.D * m.F) + 8.0 * static_cast<double>(T * m.D);
      const auto time = [&](const char* what, many::Way way, unsigned steps, double work) {
        std::vector<std::function<void(const Launch&)>> works;
        for (size_t i = 0; i < kLayers; i++) {
          works.push_back([&, i, way, steps](const Launch& given) {
            Launch own = given;
            own.scratch = scratch.data();
            launch_many(layer(i), ManyTuning{way}, 0, own, steps);
          });
        }
        const std::string about = std::string("\"model\":\"") + m.name + "\",\"format\":\"bf16\",\"routing\":\"" + (zipf ? "zipf" : "uniform") +
                                  "\",\"tokens\":" + std::to_string(T) + ",\"way\":\"" + kWayNames[static_cast<int>(way)] + "\"";
        bench.time(what, about, works, T >= 16384 ? 2 : 8, bytes, work);
      };
      const many::Way chosen = many::way_for(*on.device);
      for (int way = 0; way < many::kWays; way++) {
        if (options.sweep || options.smoke || static_cast<many::Way>(way) == chosen) {
          time("layer", static_cast<many::Way>(way), kAllSteps, flops);
        }
      }
      time("layer", chosen, kAllSteps, flops);  // leaves in scratch what its steps read
      time("round x", chosen, kRound, 0), time("tiles", chosen, kTiles, 0);
      time("gate, up", chosen, kHidden, flops / 3 * 2), time("down", chosen, kDown, flops / 3), time("combine", chosen, kCombine, 0);
    }
  }
}

// A product of `size` rows, inputs and outputs by each way: what the kernel reaches without experts, and an idea of the limit.
void time_dense(Bench& bench, int64_t size, const Options& options) {
  const Launch& on = bench.on();
  const PackedWeight weight(1, size, size, 3, on);
  const auto x = random_bf16(size * size, 4, on);
  const DeviceMemory y(size * size * 2), tiles(many::TileList::bytes(size, 1, many::kLeastTileRows));
  many::Work work;
  work.first = {weight.weight.data, 0, weight.weight.layout.bytes, static_cast<int>(weight.weight.panels())};
  work.columns = size, work.x = x.as<Bf16>(), work.tokens = size;
  work.groups = static_cast<int>((size + 127) / 128), work.error = on.error;
  const int outputs = static_cast<int>(size);
  const many::RowStore<Bf16> store{y.as<Bf16>(), size, outputs, outputs, nullptr, many::Rule::kNone};
  for (int way = 0; way < many::kWays; way++) {
    if (!options.sweep && !options.smoke && static_cast<many::Way>(way) != many::way_for(*on.device)) continue;
    many::with_shape(static_cast<many::Way>(way), [&]<class S>() {
      work.tiles = many::TileList::at(tiles.data(), size, 1, S::kRows);
      many::launch_tile_list(nullptr, 1, size, S::kRows, work.tiles, 0, on);
      const std::function<void(const Launch&)> product = [&](const Launch& given) { many::launch_product<S>(work, store, given); };
      const std::vector<std::function<void(const Launch&)>> works(1, product);
      bench.time("dense product", "\"size\":" + std::to_string(size) + ",\"way\":\"" + kWayNames[way] + "\"", works, 2,
                 3.0 * 2 * static_cast<double>(size * size), 2.0 * std::pow(static_cast<double>(size), 3));
    });
  }
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; i++) {
    const std::string a = arguments[i];
    if (a == "--sweep") options.sweep = true;
    else if (a == "--smoke") options.smoke = true;
    else if (a == "--tokens" && i + 1 < count) {
      for (const char* p = arguments[++i]; *p != 0; p += *p == ',') options.tokens.push_back(std::strtol(p, const_cast<char**>(&p), 10));
    } else options.models.push_back(a);
  }
  Bench bench("moe_many", options.smoke);
  time_dense(bench, options.smoke ? 192 : 8192, options);
  if (options.smoke) time_layers(bench, kSmoke, options);
  for (const Model& m : kModels) {
    bool wanted = options.models.empty() && !options.smoke;
    for (const std::string& name : options.models) wanted = wanted || std::strstr(m.name, name.c_str()) != nullptr;
    if (wanted) time_layers(bench, m, options);
  }
  return bench.good() ? 0 : 1;
}
