// Attention: of steps the share of the memory's bandwidth at which keys and values are read, of prompts the products a second.
// Usage: attention_bench [--sweep] [--smoke] [MODEL…]
// --sweep: f16 and bf16 by every tuning, alone; --smoke: tiny shapes.
#include <cmath>
#include <cstring>
#include <string_view>

#include "cuda/attention/launch.h"
#include "cuda/bench/timing.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int64_t kPage = 32;  // as KV_BLOCK of src/nn/kv-blocks.ts
constexpr int kSets = 3;       // of inputs, in turn

// Words whose halves are below 2 as floats of every width, so that nothing is NaN.
__global__ void fill_small(uint32_t* y, int64_t n, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) y[i] = hashed(static_cast<uint64_t>(i), seed) & 0xbfffbfffu;
}

struct Shape3 {
  const char* model;
  int64_t H, G, C;
};

class Cases {
 public:
  Cases(Bench& bench, bool smoke, bool sweep) : bench_(bench), smoke_(smoke), sweep_(sweep) {}

  // `sequences` with `queries` new tokens behind `keys` - queries old ones, in a cache with room for `room` keys each.
  void paged(const Shape3& m, DType dtype, int64_t sequences, int64_t queries, int64_t keys, int64_t room) {
    if (smoke_) sequences = std::min<int64_t>(sequences, 2), queries = std::min<int64_t>(queries, 3), keys = room = 40;
    const int64_t width = (room + kPage - 1) / kPage, used = (keys + kPage - 1) / kPage, blocks = sequences * used;
    const int64_t stored = m.C + (dtype == DType::kU8 ? 4 : 0), N = sequences * queries;
    std::vector<std::unique_ptr<Call>> calls;
    std::vector<std::function<void(const Launch&)>> works;
    for (int set = 0; set < kSets; set++) {
      calls.push_back(std::make_unique<Call>("paged_attention"));
      Call& c = *calls.back();
      small(c, DType::kF32, {N, m.H, m.C});
      small(c, dtype, {blocks, m.G, stored, kPage});
      small(c, dtype, {blocks, m.G, kPage, stored});
      std::vector<int32_t> offsets, lengths(static_cast<size_t>(sequences), static_cast<int32_t>(keys)), table;
      for (int64_t s = 0; s <= sequences; s++) offsets.push_back(static_cast<int32_t>(s * queries));
      for (int64_t s = 0; s < sequences; s++) {
        // Not in order; each page once, as 7 divides no number of them here.
        for (int64_t i = 0; i < width; i++) table.push_back(i < used ? static_cast<int32_t>((s * used + i) * 7 % blocks) : -1);
      }
      ints(c, {sequences + 1}, offsets), ints(c, {sequences}, lengths), ints(c, {sequences, width}, table);
      terms(c, m).attr(int64_t{0});
      c.out(DType::kF32, {N, m.H, m.C});
      works.push_back([call = &c](const Launch& on) { call->launch(on); });
    }
    const double bytes = static_cast<double>(blocks * m.G * kPage * stored * 2 * dtype_size(dtype));
    const double pairs = static_cast<double>(sequences) * (static_cast<double>(queries) * keys - 0.5 * queries * (queries - 1));
    const std::string about = std::string("\"model\":\"") + m.model + "\",\"cache\":\"" + dtype_name(dtype) + "\",\"sequences\":" +
                              std::to_string(sequences) + ",\"queries\":" + std::to_string(queries) + ",\"keys\":" +
                              std::to_string(keys) + ",\"room\":" + std::to_string(room);
    const double flops = 4.0 * pairs * static_cast<double>(m.H * m.C);
    if (sweep_) return sweep(about, calls, queries == 1, bytes, flops);
    bench_.time(queries == 1 ? "step" : "prompt", about, works, queries == 1 ? 30 : 3, bytes, flops);
  }
  void contiguous(const Shape3& m, int64_t tokens) {
    if (smoke_) tokens = 40;
    Call c("attention");
    small(c, DType::kF32, {tokens, m.H, m.C});
    small(c, DType::kF32, {tokens, m.G, m.C}), small(c, DType::kF32, {tokens, m.G, m.C});
    ints(c, {2}, {0, static_cast<int32_t>(tokens)}), ints(c, {2}, {0, static_cast<int32_t>(tokens)});
    terms(c, m).out(DType::kF32, {tokens, m.H, m.C});
    const double pairs = 0.5 * static_cast<double>(tokens) * static_cast<double>(tokens + 1);
    bench_.time("contiguous", std::string("\"model\":\"") + m.model + "\",\"queries\":" + std::to_string(tokens),
                {[&](const Launch& on) { c.launch(on); }}, 3, 8.0 * static_cast<double>(tokens * (m.H + m.G) * m.C), 4.0 * pairs * static_cast<double>(m.H * m.C));
  }

 private:
  void small(Call& c, DType dtype, std::initializer_list<int64_t> dims) {
    const Operand* x = c.make(dtype, dims);
    const int64_t words = x->shape.size() * dtype_size(dtype) / 4;
    launch(fill_small, grid_for(words, 256, bench_.on()), 256, 0, bench_.on(), x->as<uint32_t>(), words, seed_++);
    c.in(x);
  }
  void ints(Call& c, std::initializer_list<int64_t> dims, const std::vector<int32_t>& values) {
    const Operand* x = c.make(DType::kI32, dims);
    check(cudaMemcpy(x->data, values.data(), values.size() * sizeof(int32_t), cudaMemcpyHostToDevice));
    c.in(x);
  }
  void sweep(const std::string& about, const std::vector<std::unique_ptr<Call>>& calls, bool steps, double bytes, double flops) {
    const auto time = [&](const AttentionTuning& tuning) {
      const DeviceMemory scratch(attention_scratch(calls[0]->instruction(), *bench_.on().device, tuning));
      std::vector<std::function<void(const Launch&)>> works;
      for (const auto& call : calls) {
        works.push_back([&, c = call.get()](const Launch& on) {
          Launch own = on;
          own.scratch = scratch.data();
          launch_paged_attention(c->instruction(), own, tuning);
        });
      }
      const std::string how = ",\"stages\":" + std::to_string(tuning.stages) + ",\"blocks\":" + std::to_string(tuning.blocks) +
                              ",\"least\":" + std::to_string(tuning.least) + ",\"wide\":" + (tuning.wide ? "true" : "false");
      bench_.time(steps ? "tuned step" : "tuned prompt", about + how, works, steps ? 30 : 3, bytes, flops);
    };
    if (!steps) {
      for (const bool wide : {false, true}) time({.wide = wide});
      return;
    }
    for (const int stages : {2, 3}) {
      for (const int blocks : {1, 2, 3, 4}) {
        for (const int least : {1, 2, 4}) time({.stages = stages, .blocks = blocks, .least = least});
      }
    }
  }
  // No prefix, slopes, sinks or bias; causal.
  Call& terms(Call& c, const Shape3& m) {
    for (int i = 0; i < 4; i++) c.in(nullptr);
    return c.attr(1.0 / std::sqrt(static_cast<double>(m.C))).attr(int64_t{1}).attr(int64_t{0}).attr(0.0).attr(int64_t{0});
  }

  Bench& bench_;
  bool smoke_, sweep_;
  uint32_t seed_ = 1;
};

int run(bool smoke, bool sweep, const std::vector<std::string_view>& models) {
  Bench bench("attention", smoke);
  if (!sweep) bench.time_copy();
  Cases t(bench, smoke, sweep);
  const Shape3 qwen{"Qwen3-30B-A3B", 32, 4, 128}, mixtral{"Mixtral-8x7B", 32, 8, 128}, olmoe{"OLMoE", 16, 16, 128};
  for (const Shape3& m : {qwen, mixtral, olmoe}) {
    bool wanted = models.empty();
    for (const std::string_view name : models) wanted = wanted || std::strstr(m.model, name.data()) != nullptr;
    if (!wanted) continue;
    for (const auto& [sequences, keys] : {std::pair<int64_t, int64_t>{1, 1024}, {1, 8192}, {1, 32768}, {16, 4096}, {64, 2048}}) {
      t.paged(m, DType::kF16, sequences, 1, keys, keys);
    }
    if (!sweep) {
      t.paged(m, DType::kF16, 1, 1, 1024, 32768);
      t.paged(m, DType::kBF16, 16, 1, 4096, 4096);
      t.paged(m, DType::kF32, 16, 1, 4096, 4096);
      t.paged(m, DType::kU8, 16, 1, 4096, 4096);
    }
    t.paged(m, DType::kF16, 1, 4096, 4096, 4096);
    t.paged(m, DType::kBF16, 8, 512, 512, 512);
    if (sweep) continue;
    t.paged(m, DType::kF32, 1, 2048, 2048, 2048);
    t.contiguous(m, 2048);
  }
  return bench.good() ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int count, char** words) {
  bool smoke = false, sweep = false;
  std::vector<std::string_view> models;
  for (int i = 1; i < count; i++) {
    const std::string_view word = words[i];
    if (word == "--smoke") smoke = true;
    else if (word == "--sweep") sweep = true;
    else models.push_back(word);
  }
  return switchyard::cuda::bench::run(smoke, sweep, models);
}
