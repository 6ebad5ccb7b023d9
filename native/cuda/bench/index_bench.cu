// Kernels that go by indices and those of vocabularies: bandwidth of large ones, times of a decoded token's.

#include "cuda/bench/timing.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int kSets = 3;  // of inputs, in turn

// 0 … size - 1, in no order, or one after another.
__global__ void fill_ids(int32_t* ids, int64_t n, int64_t size, bool rising, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) {
    const int64_t at = rising ? i : hashed(static_cast<uint64_t>(i), seed);
    ids[i] = static_cast<int32_t>(at % size);
  }
}

class Cases {
 public:
  Cases(Bench& bench, bool smoke) : bench_(bench), smoke_(smoke) {}

  // bytes: those that must be moved.
  void time(const std::string& what, const char* kernel, double bytes, const std::function<void(Call&)>& build) {
    std::vector<std::unique_ptr<Call>> calls;
    std::vector<std::function<void(const Launch&)>> works;
    for (int set = 0; set < kSets; set++) {
      calls.push_back(std::make_unique<Call>(kernel));
      build(*calls.back());
      works.push_back([call = calls.back().get()](const Launch& on) { call->launch(on); });
    }
    bench_.time(what.c_str(), "\"kernel\":\"" + std::string(kernel) + "\"", works, bytes < 1e7 ? 30 : 6, bytes);
  }
  const Operand* floats(Call& c, std::initializer_list<int64_t> dims) {
    const Operand* x = c.make(DType::kF32, dims);
    bench_.fill(x->as<float>(), x->shape.size(), seed_++);
    c.in(x);
    return x;
  }
  void ids(Call& c, int64_t n, int64_t size, bool rising = false) {
    const Operand* x = c.make(DType::kI32, {n});
    launch(fill_ids, grid_for(n, 256, bench_.on()), 256, 0, bench_.on(), x->as<int32_t>(), n, size, rising, seed_++);
    c.in(x);
  }
  int64_t big(int64_t n) const { return smoke_ ? std::min<int64_t>(n, 70) : n; }

 private:
  Bench& bench_;
  bool smoke_;
  uint32_t seed_ = 1;
};

void time_rows(Cases& t, int64_t m, int64_t n, int64_t inner) {
  const std::string what = std::to_string(m) + " of " + std::to_string(n) + " rows of " + std::to_string(inner);
  const double moved = static_cast<double>(m * inner) * 8;
  t.time(what, "take_rows", moved, [&](Call& c) {
    t.floats(c, {n, inner}), t.ids(c, m, n);
    c.out(DType::kF32, {m, inner});
  });
  t.time(what, "scatter_add_rows", static_cast<double>((m + n) * inner) * 4, [&](Call& c) {
    t.floats(c, {m, inner}), t.ids(c, m, n);
    c.out(DType::kF32, {n, inner});
  });
}

// Tokens one after another to a cache of blocks of 16.
void time_cache(Cases& t, int64_t tokens, int64_t heads, int64_t width) {
  const int64_t blocks = (tokens + 15) / 16 + 1;
  for (const bool transpose : {false, true}) {
    for (const DType dtype : {DType::kBF16, DType::kU8}) {
      const int64_t wide = width + (dtype == DType::kU8 ? 4 : 0);
      const std::string what = std::to_string(tokens) + (transpose ? " keys, " : " values, ") + dtype_name(dtype);
      t.time(what, "kv_write", static_cast<double>(tokens * heads * (width * 4 + wide * dtype_size(dtype))), [&](Call& c) {
        const Operand* cache = transpose ? c.make(dtype, {blocks, heads, wide, 16}) : c.make(dtype, {blocks, heads, 16, wide});
        c.in(cache), t.floats(c, {tokens, heads, width}), t.ids(c, tokens, blocks * 16, true);
        c.result_in(cache).attr(int64_t{transpose});
      });
    }
  }
}

void time_vocabulary(Cases& t, int64_t rows, int64_t v) {
  const std::string what = std::to_string(rows) + " rows of " + std::to_string(v);
  const double read = static_cast<double>(rows * v) * 4;
  t.time(what, "cross_entropy", read, [&](Call& c) {
    t.floats(c, {rows, v}), t.ids(c, rows, v);
    c.out(DType::kF32, {rows});
  });
  t.time(what, "cross_entropy_grad", 2 * read, [&](Call& c) {
    t.floats(c, {rows, v}), t.ids(c, rows, v), t.floats(c, {rows});
    c.out(DType::kF32, {rows, v});
  });
  for (const int64_t k : {int64_t{1}, int64_t{50}}) {
    t.time(what + ", " + std::to_string(k), "top_k", read, [&](Call& c) {
      t.floats(c, {rows, v});
      c.out(DType::kF32, {rows, k}).out(DType::kI32, {rows, k}).attr(k);
    });
  }
  t.time(what, "token_logprobs", read, [&](Call& c) {
    t.floats(c, {rows, v}), t.ids(c, rows, v);
    c.out(DType::kF32, {rows}).out(DType::kI32, {rows}).out(DType::kI32, {rows, 20}).out(DType::kF32, {rows, 20});
  });
  if (rows > 64) return;
  t.time(what, "sort", 3 * read, [&](Call& c) {
    t.floats(c, {rows, v});
    c.out(DType::kF32, {rows, v}).out(DType::kI32, {rows, v}).attr(int64_t{1});
  });
}

int run(bool smoke) {
  Bench bench("index", smoke);
  bench.time_copy();
  Cases t(bench, smoke);
  time_rows(t, 1, t.big(32768), t.big(2048));
  time_rows(t, t.big(8192), t.big(32768), t.big(2048));
  for (const int64_t tokens : {int64_t{1}, t.big(8192)}) time_cache(t, tokens, smoke ? 2 : 8, smoke ? 8 : 128);
  for (const int64_t rows : {int64_t{1}, smoke ? 2 : int64_t{32}, smoke ? 3 : int64_t{2048}}) time_vocabulary(t, rows, t.big(151936));
  return bench.good() ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int count, char** words) {
  return switchyard::cuda::bench::run(count > 1 && std::string(words[1]) == "--smoke");
}
