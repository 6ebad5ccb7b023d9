// Expert layers of few tokens: the share of the memory's copy bandwidth that they reach. A line of JSON a case.
// Usage: few_bench [--sweep] [--smoke] [--tokens 1,8,64] [--formats bf16,q4_0] [MODEL…]
// Weights and routing are random. A graph holds several layers with weights and routings of their own, many times the L2 cache, as
// the layers of a model do. Bytes are those of the experts that have rows, x and y. --sweep: every tuning; --smoke: tiny shapes.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "cuda/bench/bandwidth.h"
#include "cuda/bench/plan.h"
#include "cuda/moe/experts_few.h"

using namespace switchyard;
using namespace switchyard::cuda;
using namespace switchyard::cuda::bench;

namespace {

struct Model {
  const char* name;
  int64_t E, K, D, F;
  int layers;  // whose weights are in memory
};
constexpr Model kModels[] = {{"qwen3-30b-a3b", 128, 8, 2048, 768, 4}, {"mixtral-8x7b", 8, 2, 4096, 14336, 2}};
constexpr Model kSmoke = {"smoke", 8, 2, 64, 48, 2};
constexpr int kCalls = 8;  // layers in a graph

// Pairs of bf16 or of f16, of either sign and less than 1; as codes and scales of other formats they are small enough too.
__global__ void fill_weights(uint32_t* words, int64_t n, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) {
    const uint32_t r = hashed(static_cast<uint64_t>(i), seed);
    words[i] = (r & 0x81ff81ffu) | 0x3c003c00u;
  }
}

struct LayerWeights {
  DeviceWeight gate, up, down;
  std::vector<DeviceMemory> memory;

  LayerWeights(const Model& m, Format format, uint32_t seed, const Launch& on) {
    const auto fill = [&](DeviceWeight& w, int64_t rows, int64_t columns) {
      w.format = format;
      w.experts = m.E, w.rows = rows, w.columns = columns;
      w.layout = panel_layout(w.format, columns);
      w.expert_stride = w.panels() * w.layout.bytes;
      const int64_t bytes = w.experts * w.expert_stride;
      memory.emplace_back(bytes);
      w.data = memory.back().data();
      launch(fill_weights, grid_for(bytes / 4, 256, on), 256, 0, on, memory.back().as<uint32_t>(), bytes / 4, seed++);
    };
    fill(gate, m.F, m.D), fill(up, m.F, m.D), fill(down, m.D, m.F);
  }
};

struct Options {
  bool sweep = false, smoke = false;
  std::vector<int64_t> tokens{1, 2, 4, 8, 16, 32, 64};
  std::vector<std::string> models;
  std::vector<Format> formats{Format::kBF16};
};

struct Named {
  std::string name;
  FewTuning tuning;
};
// The backend's choice; in a sweep also other rings.
std::vector<Named> tunings(bool sweep) {
  std::vector<Named> all{{"chosen", FewTuning{}}};
  if (!sweep) return all;
  struct Ring {
    int slot, shared, blocks;
  };
  for (const Ring ring : {Ring{8, 112, 1}, Ring{16, 200, 1}, Ring{8, 72, 3}, Ring{12, 72, 3}, Ring{16, 72, 3}, Ring{12, 100, 2}, Ring{16, 100, 2}, Ring{6, 54, 4}}) {
    FewTuning t;
    for (StreamTuning* one : {&t.hidden, &t.rows}) {
      one->blocks = ring.blocks, one->slot_bytes = ring.slot << 10, one->shared_bytes = ring.shared << 10;
    }
    char name[64];
    std::snprintf(name, sizeof name, "slot %dK shared %dK blocks %d", ring.slot, ring.shared, ring.blocks);
    all.push_back({name, t});
  }
  return all;
}

void run_model(const Model& m, Format format, const Options& options, const Bandwidth& bandwidth, const Bench& bench) {
  Launch on = bench.on();
  std::vector<std::unique_ptr<LayerWeights>> weights;
  for (int i = 0; i < m.layers; i++) weights.push_back(std::make_unique<LayerWeights>(m, format, static_cast<uint32_t>(100 * i + 1), on));
  std::mt19937 engine(17);
  for (const int64_t tokens : options.tokens) {
    std::vector<RandomPlan> routings;
    int64_t active = 0;
    for (int i = 0; i < kCalls; i++) {
      routings.emplace_back(m.E, m.K, tokens, [&] { return engine() % static_cast<size_t>(m.E); });
      active += routings.back().active;
    }
    const DeviceMemory x(tokens * m.D * 4), y(tokens * m.D * 4), choice_weights(tokens * m.K * 4);
    bench.fill(x.as<float>(), tokens * m.D, 1), bench.fill(choice_weights.as<float>(), tokens * m.K, 2);
    const auto layer = [&](int i) {
      const LayerWeights& w = *weights[static_cast<size_t>(i % m.layers)];
      const RandomPlan& r = routings[static_cast<size_t>(i)];
      ExpertLayer l;
      l.N = tokens, l.K = m.K, l.R = tokens * m.K, l.D = m.D, l.F = m.F, l.E = m.E;
      l.x = x.as<float>(), l.offsets = r.offsets.as<int32_t>(), l.row_token = r.row_token.as<int32_t>();
      l.slot_row = r.slot_row.as<int32_t>(), l.weights = choice_weights.as<float>();
      l.gate = &w.gate, l.up = &w.up, l.down = &w.down, l.y = y.as<float>();
      return l;
    };
    const DeviceMemory scratch(few_scratch(layer(0), *on.device));
    on.scratch = scratch.data();
    const int64_t expert_bytes = 2 * weights[0]->gate.expert_stride + weights[0]->down.expert_stride;
    const double bytes = static_cast<double>(active * expert_bytes) / kCalls + static_cast<double>(2 * tokens * m.D * 4);
    for (const Named& named : tunings(options.sweep)) {
      const auto us = time_graph(on.stream, kWarmUp, options.smoke ? 2 : options.sweep ? 9 : kReplays, [&] {
        for (int i = 0; i < kCalls; i++) launch_few(layer(i), named.tuning, 0, on);
      });
      // Of a layer; the 10th and the 90th percentile are what is low and high.
      const auto at = [&](double share) { return us[static_cast<size_t>(share * static_cast<double>(us.size() - 1))] / kCalls; };
      const double speed = 1e-3 * bytes / at(0.5);
      std::printf("{\"bench\": \"moe_few\", \"model\": \"%s\", \"format\": \"%s\", \"tokens\": %lld, \"tuning\": \"%s\", \"us\": %.2f, "
                  "\"us_low\": %.2f, \"us_high\": %.2f, \"experts\": %.1f, \"bytes\": %.0f, \"gb_per_s\": %.0f, \"of_copy\": %.3f, "
                  "\"of_read\": %.3f}\n",
                  m.name, format_info(format).name, static_cast<long long>(tokens), named.name.c_str(), at(0.5), at(0.1), at(0.9),
                  static_cast<double>(active) / kCalls, bytes, speed, speed / bandwidth.copy, speed / bandwidth.read);
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; i++) {
    const std::string a = arguments[i];
    if (a == "--sweep") options.sweep = true;
    else if (a == "--smoke") options.smoke = true, options.tokens = {1, 9};
    else if (a == "--tokens" && i + 1 < count) {
      options.tokens.clear();
      for (const char* p = arguments[++i]; *p != 0; p += *p == ',') options.tokens.push_back(std::strtol(p, const_cast<char**>(&p), 10));
    } else if (a == "--formats" && i + 1 < count) {
      options.formats.clear();
      for (std::string left = std::string(arguments[++i]) + ","; !left.empty(); left.erase(0, left.find(',') + 1)) {
        Format f;
        const std::string name = left.substr(0, left.find(','));
        if (!parse_format(name, &f) || !has_few(f)) {
          std::fprintf(stderr, "few_bench: got the format '%s', expected one of packed weights but f32\n", name.c_str());
          return 2;
        }
        options.formats.push_back(f);
      }
    } else options.models.push_back(a);
  }
  Bench bench("moe_few", options.smoke);
  const Bandwidth bandwidth = measure_bandwidth(options.smoke ? 1 << 20 : int64_t{2} << 30, options.smoke ? 2 : kReplays, bench.on());
  std::printf("{\"bench\": \"bandwidth\", \"device\": \"%s\", \"multiprocessors\": %d, \"copy_gb_per_s\": %.0f, \"read_gb_per_s\": %.0f}\n",
              bench.properties().name, bench.on().device->multiprocessors, bandwidth.copy, bandwidth.read);
  if (options.smoke) run_model(kSmoke, Format::kBF16, options, bandwidth, bench);
  for (const Model& m : kModels) {
    bool wanted = options.models.empty() && !options.smoke;
    for (const std::string& name : options.models) wanted = wanted || std::strstr(m.name, name.c_str()) != nullptr;
    for (size_t i = 0; wanted && i < options.formats.size(); i++) run_model(m, options.formats[i], options, bandwidth, bench);
  }
  return bench.good() ? 0 : 1;
}
