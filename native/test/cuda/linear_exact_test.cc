// Products in f32 with packed weights: linear, grouped_linear and their transposes, every format, rows that take each kind of
// tile, odd sizes, empty experts, rows past the last offset, and offsets that are wrong.
#include <algorithm>

#include "test/cuda/compare.h"
#include "test/cuda/weights.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

using Ids = std::vector<int32_t>;
ThreadPool pool(1);
constexpr double kTolerance = 1e-6;  // sums in another order
constexpr double kRounding = 4e-3;   // of x to bf16

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); i++) difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]), norm += double{a[i]} * a[i];
  return std::sqrt(difference / norm);
}

Compare& product(Compare& c, int64_t rows, const std::vector<WeightPtr>& weights, const Ids& offsets, uint32_t seed,
                 int compute = 0) {
  c.in({rows, weights[0]->columns()}, normals(rows * weights[0]->columns(), seed));
  if (!offsets.empty()) c.in({static_cast<int64_t>(offsets.size())}, offsets);
  for (const WeightPtr& w : weights) c.in(*w, {w->experts(), w->rows(), w->columns()}).out<float>({rows, w->rows()});
  return c.attr(compute);
}
void check_product(const char* what, int64_t rows, const std::vector<WeightPtr>& weights, const Ids& offsets = {}) {
  Compare c(offsets.empty() ? "linear" : "grouped_linear");
  product(c, rows, weights, offsets, 5).run(pool);
  for (size_t i = 0; i < weights.size(); i++) {
    if (CHECK(c.distance(i) < kTolerance && c.error().kind == 0)) continue;
    const FormatInfo& info = format_info(weights[i]->format());
    std::fprintf(stderr, "  %s: %s, %lld rows, %lld x %lld: distance %g\n", what, info.name, (long long)rows,
                 (long long)weights[i]->rows(), (long long)weights[i]->columns(), c.distance(i));
  }
}

void check_transposed(int64_t rows, const WeightPtr& w, const Ids& offsets = {}) {
  Compare c(offsets.empty() ? "linear_transposed" : "grouped_linear_transposed");
  c.in({rows, w->rows()}, normals(rows * w->rows(), 6));
  if (!offsets.empty()) c.in({static_cast<int64_t>(offsets.size())}, offsets);
  c.in(*w, {w->experts(), w->rows(), w->columns()}).out<float>({rows, w->columns()}).run(pool);
  if (CHECK(c.distance() < kTolerance && c.error().kind == 0)) return;
  std::fprintf(stderr, "  transposed: %s, %lld rows: distance %g\n", format_info(w->format()).name, (long long)rows,
               c.distance());
}

// x of unit vectors reads the weights one by one: the floats of decode() are the CPU's, bit for bit.
void decoding() {
  for (const Format f : all_formats()) {
    const int64_t K = odd_columns(f, 2), N = 19;
    const WeightPtr w = random_weight(f, 1, N, K, 3);
    for (const int64_t most : {8, 64}) {
      for (int64_t first = 0; first < K; first += most) {
        const int64_t rows = std::min(most, K - first);
        std::vector<float> x(static_cast<size_t>(rows * K));
        for (int64_t r = 0; r < rows; r++) x[r * K + first + r] = 1;
        Compare c("linear");
        c.in({rows, K}, x).in(*w, {1, N, K}).out<float>({rows, N}).attr(0).run(pool);
        if (!CHECK(c.close(0, 0))) std::fprintf(stderr, "  %s, %lld rows\n", format_info(f).name, (long long)rows);
      }
    }
  }
}

void every_format() {
  for (const Format f : all_formats()) {
    for (const int64_t blocks : {1, 3}) {
      const int64_t K = odd_columns(f, blocks), N = blocks == 1 ? 5 : 37;
      const WeightPtr w = random_weight(f, 1, N, K, 7);
      for (const int64_t rows : {1, 2, 3, 7, 9}) check_product("one group", rows, {w});
      check_transposed(3, w);
      const WeightPtr experts = random_weight(f, 4, N, K, 8);
      check_product("grouped", 7, {experts}, {0, 1, 1, 5, 6});
      check_product("grouped", 42, {experts}, {0, 3, 38, 38, 40});
      check_transposed(9, experts, {0, 4, 4, 5, 8});
    }
  }
}

void sizes() {
  for (const Format f : {Format::kF32, Format::kBF16, Format::kQ8_0, Format::kQ4_K, Format::kF8E4M3}) {
    const int64_t K = odd_columns(f, f == Format::kQ4_K ? 4 : 40);
    const WeightPtr w = random_weight(f, 1, 300, K, 9), other = random_weight(Format::kF16, 1, 40, K, 10);
    check_product("several warps", 4, {w, other});
    check_product("several tiles", 150, {w, other});
    check_product("nothing", 0, {w});
    check_transposed(150, w);
    const WeightPtr experts = random_weight(f, 9, 70, odd_columns(f, 2), 11);
    check_product("large tiles", 300, {experts}, {0, 0, 140, 270, 270, 271, 290, 290, 290, 290});
    check_product("few for many", 5, {experts}, {0, 0, 0, 2, 2, 2, 3, 3, 3, 5});
    check_product("none of an expert", 3, {experts}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    check_product("nothing grouped", 0, {experts}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    check_transposed(300, experts, {0, 0, 140, 270, 270, 271, 290, 290, 290, 290});
    check_product("equal experts", 20, {random_weight(f, 1, 33, odd_columns(f, 1), 12)->repeated(3)}, {0, 5, 5, 18});
  }
  // More experts than the list's kernel has threads.
  const WeightPtr many = random_weight(Format::kF32, 1, 5, 7, 13)->repeated(1500);
  Ids offsets(1501);
  for (size_t e = 0; e < offsets.size(); e++) offsets[e] = static_cast<int32_t>(e / 3);
  check_product("many experts", 510, {many}, offsets);
}

// x that is aligned to its elements only.
void unaligned() {
  for (const Format f : {Format::kF32, Format::kBF16, Format::kQ8_0, Format::kQ4_0, Format::kQ2_K}) {
    const int64_t K = 256, N = 40;
    const WeightPtr w = random_weight(f, 1, N, K, 18);
    for (const int64_t rows : {1, 3, 20}) {
      Compare c("linear"), t("linear_transposed");
      c.shifted(1).in({rows, K}, normals(rows * K, 5)).shifted(0).in(*w, {1, N, K}).out<float>({rows, N}).attr(0).run(pool);
      t.shifted(3).in({rows, N}, normals(rows * N, 6)).shifted(0).in(*w, {1, N, K}).out<float>({rows, K}).run(pool);
      CHECK(c.distance() < kTolerance && t.distance() < kTolerance);
    }
  }
}

// Weights of one instruction that go different ways: f32 is exact whatever is asked for, bf16 reads rounded activations.
void ways() {
  const WeightPtr f32 = random_weight(Format::kF32, 3, 40, 50, 15), bf16 = random_weight(Format::kBF16, 3, 24, 50, 16);
  const WeightPtr q8 = random_weight(Format::kQ8_0, 1, 24, 64, 17);
  for (const int64_t rows : {5, 90}) {
    const Ids offsets = {0, 3, 3, static_cast<int32_t>(rows) - 1};
    for (const auto& weights : {std::vector{f32, bf16}, std::vector{bf16, f32, bf16}}) {
      Compare exact("grouped_linear"), rounded("grouped_linear");
      product(exact, rows, weights, offsets, 5).run(pool);
      product(rounded, rows, weights, offsets, 5, 1).run_device();
      for (size_t i = 0; i < weights.size(); i++) {
        const double by_rounding = distance(exact.device<float>(i), rounded.device<float>(i));
        CHECK(exact.distance(i) < kTolerance && by_rounding < (weights[i] == f32 ? kTolerance : kRounding));
      }
    }
    for (const int compute : {1, 2}) {
      Compare c("linear");
      product(c, rows, {q8}, {}, 5, 0).run_cpu(pool);
      Compare d("linear");
      product(d, rows, {q8}, {}, 5, compute).run_device();
      CHECK(distance(c.cpu<float>(), d.device<float>()) < kRounding);
    }
  }
}

// Wrong offsets are reported with the place that the CPU names, and no row has an expert.
void errors() {
  const WeightPtr w = random_weight(Format::kF32, 3, 20, 10, 14);
  struct {
    Ids offsets;
    int64_t place, got, low, high;
  } cases[] = {{{1, 2, 3, 4}, 0, 1, 0, 0},
               {{0, 3, 2, 4}, 2, 2, 3, 6},
               {{0, 3, 4, 7}, 3, 7, 4, 6},
               {{0, -1000000000, 4, 5}, 1, -1000000000, 0, 6}};
  for (const auto& e : cases) {
    Compare c("grouped_linear");
    product(c, 6, {w}, e.offsets, 5).run_device();
    const gpu::ErrorWord& error = c.error();
    CHECK(error.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && error.place == e.place && error.got == e.got);
    CHECK(error.low == e.low && error.high == e.high);
    const std::vector<float> y = c.device<float>();
    CHECK(std::all_of(y.begin(), y.end(), [](float v) { return v == 0; }));
  }
}

}  // namespace

int main() {
  decoding();
  every_format();
  sizes();
  unaligned();
  ways();
  errors();
  return report();
}
