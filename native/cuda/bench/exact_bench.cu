// f32 products with packed weights: the bandwidth that few rows reach with each format, alone and grouped as in decoding, and the
// arithmetic of many rows, forwards and backwards.
#include "cuda/bench/timing.h"
#include "cuda/linear/exact.h"

namespace switchyard::cuda::bench {
namespace {

constexpr Format kFormats[] = {Format::kF32,  Format::kBF16, Format::kQ8_0, Format::kQ4_0,
                               Format::kQ4_K, Format::kQ6_K, Format::kMXFP4};

// Random panels; codes and scales are any words.
struct Panels {
  DeviceWeight weight;
  DeviceMemory memory;
  Panels(const Bench& bench, Format f, int64_t experts, int64_t rows, int64_t columns, uint32_t seed) {
    weight.format = f, weight.experts = experts, weight.rows = rows, weight.columns = columns;
    weight.layout = panel_layout(f, columns);
    weight.expert_stride = weight.panels() * weight.layout.bytes;
    memory = DeviceMemory(experts * weight.expert_stride);
    bench.fill(reinterpret_cast<float*>(memory.data()), experts * weight.expert_stride / 4, seed);
    weight.data = memory.data();
  }
};

struct Case {
  const char* what;
  int64_t rows, experts, outputs, columns;
  int weights;  // in memory, so that the L2 cache does not hold what comes next
  bool backwards = false;
};

void time_case(Bench& bench, const Case& c, Format f) {
  std::vector<std::unique_ptr<Panels>> panels;
  for (int i = 0; i < c.weights; i++) {
    panels.push_back(std::make_unique<Panels>(bench, f, c.experts, c.outputs, c.columns, static_cast<uint32_t>(i + 1)));
  }
  // Rows go to as many experts as there are rows, or evenly to all.
  std::vector<int32_t> offsets;
  const int64_t each = std::max<int64_t>(1, c.rows / c.experts);
  for (int64_t e = 0; e <= c.experts; e++) offsets.push_back(static_cast<int32_t>(std::min(c.rows, e * each)));
  const DeviceMemory x(c.rows * (c.backwards ? c.outputs : c.columns) * 4), y(c.rows * (c.backwards ? c.columns : c.outputs) * 4);
  const DeviceMemory on_device(static_cast<int64_t>(offsets.size()) * 4), scratch(tiles_scratch(c.rows, c.experts, 1));
  bench.fill(reinterpret_cast<float*>(x.data()), x.bytes() / 4, 99);
  check(cudaMemcpyAsync(on_device.data(), offsets.data(), offsets.size() * 4, cudaMemcpyHostToDevice, bench.on().stream));
  check(cudaStreamSynchronize(bench.on().stream));

  std::vector<std::function<void(const Launch&)>> works;
  for (const auto& w : panels) {
    Product p;
    p.weight = &w->weight;
    p.x = reinterpret_cast<const float*>(x.data()), p.y = reinterpret_cast<float*>(y.data());
    p.offsets = c.experts > 1 ? reinterpret_cast<const int32_t*>(on_device.data()) : nullptr;
    p.tokens = p.rows = c.rows, p.experts = c.experts;
    works.push_back([p, &c, &scratch](const Launch& on) {
      if (!c.backwards) return launch_exact(p, 0, on, scratch.data());
      const int per_tile = transposed_tile_rows(p.rows, p.experts);
      launch_exact_transposed(p, launch_tiles(p.offsets, p.rows, p.experts, per_tile, 0, on, scratch.data()), 0, on);
    });
  }
  const double active = static_cast<double>(std::min(c.rows, c.experts));
  const double bytes = active * static_cast<double>(panels[0]->weight.expert_stride) + static_cast<double>(x.bytes() + y.bytes());
  const std::string about = std::string("\"format\":\"") + format_info(f).name + "\",\"rows\":" + std::to_string(c.rows) +
                            ",\"experts\":" + std::to_string(c.experts) + ",\"outputs\":" + std::to_string(c.outputs) +
                            ",\"columns\":" + std::to_string(c.columns);
  bench.time(c.what, about, works, 8, bytes, 2.0 * static_cast<double>(c.rows * c.outputs * c.columns));
}

int run(bool smoke) {
  Bench bench("exact", smoke);
  bench.time_copy();
  const std::vector<Case> cases = smoke ? std::vector<Case>{{"one", 1, 1, 40, 256, 2},
                                                            {"grouped", 6, 8, 24, 256, 2},
                                                            {"many", 40, 1, 40, 256, 2},
                                                            {"backwards", 40, 1, 40, 256, 2, true}}
                                        : std::vector<Case>{{"one", 1, 1, 4096, 14336, 4},
                                                            {"four", 4, 1, 4096, 14336, 4},
                                                            {"eight", 8, 1, 4096, 14336, 4},
                                                            {"grouped", 8, 128, 1536, 2048, 2},
                                                            {"many", 2048, 1, 4096, 4096, 2},
                                                            {"backwards", 2048, 1, 4096, 4096, 2, true}};
  for (const Case& c : cases) {
    for (const Format f : kFormats) time_case(bench, c, f);
  }
  return bench.good() ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int count, char** words) {
  return switchyard::cuda::bench::run(count > 1 && std::string(words[1]) == "--smoke");
}
