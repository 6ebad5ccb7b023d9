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
#include "cuda/device/launch.h"
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

__device__ uint32_t mixed(uint32_t x) {
  x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu;
  return x ^ x >> 16;
}
// Pairs of bf16 or of f16, of either sign and less than 1; as codes and scales of other formats they are small enough too.
__global__ void fill_weights(uint32_t* words, int64_t n, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) {
    const uint32_t r = mixed(static_cast<uint32_t>(i) * 2654435761u + seed);
    words[i] = (r & 0x81ff81ffu) | 0x3c003c00u;
  }
}
__global__ void fill_floats(float* x, int64_t n, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) x[i] = static_cast<float>(static_cast<int32_t>(mixed(static_cast<uint32_t>(i) + seed))) * 0x1p-31f;
}

struct LayerWeights {
  DeviceWeight gate, up, down;
  std::vector<std::unique_ptr<Memory>> memory;

  LayerWeights(const Model& m, Format format, uint32_t seed, const Launch& on) {
    const auto fill = [&](DeviceWeight& w, int64_t rows, int64_t columns) {
      w.format = format;
      w.experts = m.E, w.rows = rows, w.columns = columns;
      w.layout = panel_layout(w.format, columns);
      w.expert_stride = w.panels() * w.layout.bytes;
      const int64_t bytes = w.experts * w.expert_stride;
      memory.push_back(std::make_unique<Memory>(bytes));
      w.data = memory.back()->data();
      launch(fill_weights, grid_for(bytes / 4, 256, on), 256, 0, on, memory.back()->as<uint32_t>(), bytes / 4, seed++);
    };
    fill(gate, m.F, m.D), fill(up, m.F, m.D), fill(down, m.D, m.F);
  }
};

// The plan of random routing: distinct experts for each token, rows by expert, tokens in order.
struct Routing {
  int64_t active = 0;
  std::unique_ptr<Memory> offsets, row_token, slot_row;

  Routing(const Model& m, int64_t tokens, std::mt19937& engine, const Launch& on) {
    std::vector<std::vector<std::pair<int32_t, int32_t>>> rows(static_cast<size_t>(m.E));  // token, choice
    for (int32_t n = 0; n < tokens; n++) {
      std::vector<bool> taken(static_cast<size_t>(m.E));
      for (int32_t k = 0; k < m.K; k++) {
        size_t e;
        do e = engine() % static_cast<size_t>(m.E);
        while (taken[e]);
        taken[e] = true;
        rows[e].push_back({n, k});
      }
    }
    std::vector<int32_t> begins{0}, of_row, of_slot(static_cast<size_t>(tokens * m.K));
    for (const auto& expert : rows) {
      for (const auto& [n, k] : expert) of_slot[n * m.K + k] = static_cast<int32_t>(of_row.size()), of_row.push_back(n);
      begins.push_back(static_cast<int32_t>(of_row.size()));
      active += !expert.empty();
    }
    const auto put = [&](const std::vector<int32_t>& from) {
      auto to = std::make_unique<Memory>(static_cast<int64_t>(from.size()) * 4);
      check(cudaMemcpyAsync(to->data(), from.data(), from.size() * 4, cudaMemcpyHostToDevice, on.stream));
      check(cudaStreamSynchronize(on.stream));
      return to;
    };
    offsets = put(begins), row_token = put(of_row), slot_row = put(of_slot);
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

void run_model(const Model& m, Format format, const Options& options, const Bandwidth& bandwidth, Launch on) {
  std::vector<std::unique_ptr<LayerWeights>> weights;
  for (int i = 0; i < m.layers; i++) weights.push_back(std::make_unique<LayerWeights>(m, format, static_cast<uint32_t>(100 * i + 1), on));
  std::mt19937 engine(17);
  for (const int64_t tokens : options.tokens) {
    std::vector<Routing> routings;
    int64_t active = 0;
    for (int i = 0; i < kCalls; i++) routings.emplace_back(m, tokens, engine, on), active += routings.back().active;
    const Memory x(tokens * m.D * 4), y(tokens * m.D * 4), choice_weights(tokens * m.K * 4);
    launch(fill_floats, 64, 256, 0, on, x.as<float>(), tokens * m.D, 1u);
    launch(fill_floats, 64, 256, 0, on, choice_weights.as<float>(), tokens * m.K, 2u);
    const auto layer = [&](int i) {
      const LayerWeights& w = *weights[static_cast<size_t>(i % m.layers)];
      const Routing& r = routings[static_cast<size_t>(i)];
      ExpertLayer l;
      l.N = tokens, l.K = m.K, l.R = tokens * m.K, l.D = m.D, l.F = m.F, l.E = m.E;
      l.x = x.as<float>(), l.offsets = r.offsets->as<int32_t>(), l.row_token = r.row_token->as<int32_t>();
      l.slot_row = r.slot_row->as<int32_t>(), l.weights = choice_weights.as<float>();
      l.gate = &w.gate, l.up = &w.up, l.down = &w.down, l.y = y.as<float>();
      return l;
    };
    const Memory scratch(few_scratch(layer(0), *on.device));
    on.scratch = scratch.data();
    const int64_t expert_bytes = 2 * weights[0]->gate.expert_stride + weights[0]->down.expert_stride;
    const double bytes = static_cast<double>(active * expert_bytes) / kCalls + static_cast<double>(2 * tokens * m.D * 4);
    for (const Named& named : tunings(options.sweep)) {
      const Timing t = time_graph(on.stream, options.smoke ? 2 : options.sweep ? 9 : 30, [&] {
        for (int i = 0; i < kCalls; i++) launch_few(layer(i), named.tuning, 0, on);
      });
      const double speed = 1e-3 * bytes * kCalls / t.median;
      std::printf("{\"bench\": \"moe_few\", \"model\": \"%s\", \"format\": \"%s\", \"tokens\": %lld, \"tuning\": \"%s\", \"us\": %.2f, "
                  "\"us_low\": %.2f, \"us_high\": %.2f, \"experts\": %.1f, \"bytes\": %.0f, \"gb_per_s\": %.0f, \"of_copy\": %.3f, "
                  "\"of_read\": %.3f}\n",
                  m.name, format_info(format).name, static_cast<long long>(tokens), named.name.c_str(), t.median / kCalls, t.low / kCalls, t.high / kCalls,
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
  const DeviceLimits device = limits_of_device();
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  const Memory error(sizeof(ErrorWord));
  Launch on;
  check(cudaStreamCreateWithFlags(&on.stream, cudaStreamNonBlocking));
  check(cudaMemsetAsync(error.data(), 0, sizeof(ErrorWord), on.stream));
  on.device = &device, on.error = error.as<ErrorWord>();
  const Bandwidth bandwidth = measure_bandwidth(options.smoke ? 1 << 20 : int64_t{2} << 30, options.smoke ? 2 : 30, on);
  std::printf("{\"bench\": \"bandwidth\", \"device\": \"%s\", \"multiprocessors\": %d, \"copy_gb_per_s\": %.0f, \"read_gb_per_s\": %.0f}\n",
              properties.name, device.multiprocessors, bandwidth.copy, bandwidth.read);
  if (options.smoke) run_model(kSmoke, Format::kBF16, options, bandwidth, on);
  for (const Model& m : kModels) {
    bool wanted = options.models.empty() && !options.smoke;
    for (const std::string& name : options.models) wanted = wanted || std::strstr(m.name, name.c_str()) != nullptr;
    for (size_t i = 0; wanted && i < options.formats.size(); i++) run_model(m, options.formats[i], options, bandwidth, on);
  }
  check(cudaStreamSynchronize(on.stream));
  check(cudaStreamDestroy(on.stream));
  ErrorWord word;
  check(cudaMemcpy(&word, error.data(), sizeof word, cudaMemcpyDeviceToHost));
  if (word.kind != 0) std::fprintf(stderr, "few_bench: a kernel reported error %d at %lld\n", word.kind, static_cast<long long>(word.place));
  return word.kind == 0 ? 0 : 1;
}
