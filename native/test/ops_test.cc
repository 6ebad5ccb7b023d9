// Dense kernels where TypeScript does not easily reach: equal bits across threads, sizes beside the vector
// width, and what prepare() and run() refuse.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "call.h"
#include "check.h"
#include "formats/half.h"
#include "opcode.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

// x [3, rows, inner] · scale [rows, 1] + bias [inner], through sigmoid; the sizes meet every way of reading
// an input.
void test_elementwise() {
  ThreadPool pool(2);
  for (Tier tier : math_tiers()) {
    for (int64_t inner : {1, 3, 17, 64, 513, 1100}) {
      const int64_t rows = 5, n = 3 * rows * inner;
      const auto x = normals(n, 1), scale = normals(rows, 2), bias = normals(inner, 3);
      std::vector<uint16_t> half_bias;
      for (float b : bias) half_bias.push_back(f32_to_f16(b));
      const auto y =
          Call("elementwise")
              .f32({3, rows, inner}, x)
              .f32({rows, 1}, scale)
              .in(DType::kF16, {inner}, half_bias)
              .ints({op("mul"), 0, 1, 0, op("add"), 3, 2, 0, op("sigmoid"), 4, 0, 0, op("mul"), 3, 5, 0})
              .out(DType::kF32, {3, rows, inner})
              .run(tier, pool)
              .result();
      double worst = 0;
      for (int64_t i = 0; i < n; i++) {
        const double p = double(x[i]) * scale[i / inner % rows], s = p + f16_to_f32(half_bias[i % inner]);
        worst = std::fmax(worst, std::fabs(y[i] - p / (1 + std::exp(-s))));
      }
      CHECK(worst < 1e-5);
    }
    // Constants, comparisons, select, casts; u8 and bool out; no code at all is a cast.
    const std::vector<float> x = {-2, -0.5f, 0, 0.5f, 300, NAN};
    const auto positive = Call("elementwise")
                              .f32({6}, x)
                              .ints({op("const"), 0, 0, 0, op("lt"), 1, 0, 0})
                              .out(DType::kBool, {6})
                              .run(tier, pool)
                              .result<uint8_t>();
    CHECK(positive == std::vector<uint8_t>({0, 0, 0, 1, 1, 0}));
    const auto relu = Call("elementwise")
                          .f32({6}, x)
                          .ints({op("const"), 0, 0, 0, op("lt"), 1, 0, 0, op("select"), 2, 0, 1})
                          .out(DType::kF32, {6})
                          .run(tier, pool)
                          .result();
    CHECK(relu == std::vector<float>({0, 0, 0, 0.5f, 300, 0}));
    const auto cast = Call("elementwise")
                          .f32({3}, {1, 1.5f, -2})
                          .ints({})
                          .out(DType::kBF16, {3})
                          .run(tier, pool)
                          .result<uint16_t>();
    CHECK(cast == std::vector<uint16_t>({0x3f80, 0x3fc0, 0xc000}));
    const auto integers = Call("elementwise")
                              .i32({4}, {7, -7, INT32_MIN, 5})
                              .i32({4}, {2, 2, -1, 0})
                              .ints({op("div_i32"), 0, 1, 0})
                              .out(DType::kI32, {4})
                              .run(tier, pool)
                              .result<int32_t>();
    CHECK(integers == std::vector<int32_t>({3, -3, INT32_MIN, 0}));
    const auto constant = Call("elementwise")
                              .ints({op("const_i32"), -3, 0, 0})
                              .out(DType::kI32, {2, 2})
                              .run(tier, pool)
                              .result<int32_t>();
    CHECK(constant == std::vector<int32_t>(4, -3));
  }
  const auto refused = [&](std::vector<int64_t> code, DType y, std::vector<int64_t> dims) {
    return error_of([&] {
      Call("elementwise")
          .f32({2, 3}, normals(6, 1))
          .i32({3}, {1, 2, 3})
          .ints(std::move(code))
          .out(y, std::move(dims))
          .run(Tier::kScalar, pool);
    });
  };
  CHECK(holds(refused({op("exp"), 0, 0}, DType::kF32, {2, 3}), "[op, a, b, c]"));
  CHECK(holds(refused({999, 0, 0, 0}, DType::kF32, {2, 3}), "got opcode 999"));
  CHECK(holds(refused({op("exp"), 2, 0, 0}, DType::kF32, {2, 3}), "got register 2, expected 0…1"));
  CHECK(holds(refused({op("exp"), -1, 0, 0}, DType::kF32, {2, 3}), "got register -1"));
  CHECK(
      holds(refused({op("add"), 0, 1, 0}, DType::kF32, {2, 3}), "got i32 lanes as operand 1, expected f32"));
  CHECK(holds(refused({op("exp"), 0, 0, 0}, DType::kI32, {2, 3}),
              "got a result of f32 lanes for an output of i32"));
  CHECK(holds(refused({op("exp"), 0, 0, 0}, DType::kF32, {2, 4}), "broadcasts to [2, 4]"));
  CHECK(holds(refused({op("exp"), 0, 0, 0}, DType::kF32, {3}), "broadcasts to [3]"));
  CHECK(holds(refused(std::vector<int64_t>(4 * 129, 0), DType::kF32, {2, 3}), "expected at most 128"));
}

// A long chain of steps whose registers die early and late: against plain double arithmetic.
void test_register_reuse() {
  ThreadPool pool(1);
  std::mt19937 engine(5);
  for (int round = 0; round < 50; round++) {
    const auto a = normals(700, 7), b = normals(700, 8);
    std::vector<int64_t> code;
    std::vector<std::vector<float>> registers = {a, b};
    const int steps = 1 + int(engine() % 60);
    for (int s = 0; s < steps; s++) {
      const char* names[] = {"add", "sub", "max", "min", "neg", "const"};
      const char* name = names[engine() % 6];
      const int64_t i = engine() % registers.size(), j = engine() % registers.size();
      std::vector<float> r(700);
      const float k = 0.25f;
      uint32_t bits;
      std::memcpy(&bits, &k, 4);
      for (int e = 0; e < 700; e++) {
        const float x = registers[i][e], y = registers[j][e];
        switch (name[0]) {
          case 'a':
            r[e] = x + y;
            break;
          case 's':
            r[e] = x - y;
            break;
          case 'n':
            r[e] = -x;
            break;
          case 'c':
            r[e] = k;
            break;
          default:
            r[e] = name[1] == 'a' ? std::fmax(x, y) : std::fmin(x, y);
        }
      }
      code.insert(code.end(), {op(name), name[0] == 'c' ? int64_t(bits) : i, j, 0});
      registers.push_back(r);
    }
    const auto y = Call("elementwise")
                       .f32({700}, a)
                       .f32({700}, b)
                       .ints(code)
                       .out(DType::kF32, {700})
                       .run(best_tier(), pool)
                       .result();
    CHECK(y == registers.back());
  }
}

void test_matmul() {
  ThreadPool one(1), two(2), four(4);
  const int64_t sizes[][4] = {{1, 1, 1, 1},     {1, 1, 33, 5},   {2, 3, 17, 9},    {1, 14, 32, 300},
                              {1, 15, 31, 257}, {3, 40, 50, 60}, {1, 29, 64, 513}, {1, 233, 270, 31},
                              {2, 17, 1, 40},   {1, 5, 7, 0}};
  for (Tier tier : math_tiers()) {
    for (const auto& [batch, m, n, k] : sizes) {
      for (int form = 0; form < 8; form++) {
        const bool ta = form & 1, tb = form & 2, shared = form & 4;
        const int64_t bb = shared ? 1 : batch;
        const auto a = normals(batch * m * k, 1), b = normals(bb * k * n, 2);
        const auto call = [&](ThreadPool& pool, int64_t rows) {
          return Call("matmul")
              .f32(ta ? std::vector<int64_t>{batch, k, rows} : std::vector<int64_t>{batch, rows, k}, a)
              .f32(tb ? std::vector<int64_t>{bb, n, k} : std::vector<int64_t>{bb, k, n}, b)
              .attr(ta)
              .attr(tb)
              .out(DType::kF32, {batch, rows, n})
              .run(tier, pool)
              .result();
        };
        const auto c = call(one, m);
        double worst = 0;
        for (int64_t t = 0; t < batch; t++) {
          for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) {
              double sum = 0;
              for (int64_t s = 0; s < k; s++) {
                const double x = ta ? a[(t * k + s) * m + i] : a[(t * m + i) * k + s];
                const int64_t u = shared ? 0 : t;
                sum += x * (tb ? b[(u * n + j) * k + s] : b[(u * k + s) * n + j]);
              }
              worst = std::fmax(worst, std::fabs(sum - c[(t * m + i) * n + j]));
            }
          }
        }
        CHECK(worst <= 1e-6 * double(k + 1));
        CHECK(same_bits(c, call(two, m)) && same_bits(c, call(four, m)));
      }
    }
    // A row has the same bits alone and among 40, that is on both sides of kFewRows.
    const auto a = normals(40 * 300, 1), b = normals(300 * 50, 2);
    const auto all = Call("matmul")
                         .f32({1, 40, 300}, a)
                         .f32({1, 300, 50}, b)
                         .attr(0)
                         .attr(0)
                         .out(DType::kF32, {1, 40, 50})
                         .run(tier, one)
                         .result();
    const auto row = Call("matmul")
                         .f32({1, 1, 300}, {a.begin() + 7 * 300, a.begin() + 8 * 300})
                         .f32({1, 300, 50}, b)
                         .attr(0)
                         .attr(0)
                         .out(DType::kF32, {1, 1, 50})
                         .run(tier, one)
                         .result();
    CHECK(same_bits(row, {all.begin() + 7 * 50, all.begin() + 8 * 50}));
  }
}

// Every kernel that splits work gives the same bits on 1, 2 and 4 threads.
void test_threads() {
  const int64_t n = 300007;
  const auto x = normals(n, 1), rows = normals(200 * 1003, 2);
  const std::vector<int32_t> ids = [&] {
    std::vector<int32_t> v;
    for (int i = 0; i < 200; i++) v.push_back(i * 7 % 31 - 1);
    return v;
  }();
  const std::map<std::string, std::function<std::vector<float>(ThreadPool&, Tier)>> calls = {
      {"sum",
       [&](ThreadPool& p, Tier t) {
         return Call("sum").f32({1, n, 1}, x).out(DType::kF32, {1, 1}).run(t, p).result();
       }},
      {"columns",
       [&](ThreadPool& p, Tier t) {
         return Call("sum").f32({1, 200, 1003}, rows).out(DType::kF32, {1, 1003}).run(t, p).result();
       }},
      {"softmax",
       [&](ThreadPool& p, Tier t) {
         return Call("softmax").f32({200, 1003}, rows).out(DType::kF32, {200, 1003}).run(t, p).result();
       }},
      {"layer_norm",
       [&](ThreadPool& p, Tier t) {
         return Call("layer_norm")
             .f32({200, 1003}, rows)
             .attr(1e-5)
             .out(DType::kF32, {200, 1003})
             .run(t, p)
             .result();
       }},
      {"elementwise",
       [&](ThreadPool& p, Tier t) {
         return Call("elementwise")
             .f32({n}, x)
             .ints({op("tanh"), 0, 0, 0})
             .out(DType::kF32, {n})
             .run(t, p)
             .result();
       }},
      {"scatter_add_rows",
       [&](ThreadPool& p, Tier t) {
         return Call("scatter_add_rows")
             .f32({200, 1003}, rows)
             .i32({200}, ids)
             .out(DType::kF32, {31, 1003})
             .run(t, p)
             .result();
       }},
      {"random_normal",
       [&](ThreadPool& p, Tier t) {
         return Call("random_normal").attr(7).attr(3).out(DType::kF32, {n}).run(t, p).result();
       }},
  };
  ThreadPool one(1), two(2), four(4);
  for (Tier tier : math_tiers()) {
    for (const auto& [name, call] : calls) {
      const auto want = call(one, tier);
      if (!CHECK(same_bits(want, call(two, tier)) && same_bits(want, call(four, tier))))
        std::fprintf(stderr, "  %s\n", name.c_str());
      const auto scalar = call(one, Tier::kScalar);
      double worst = 0;
      for (size_t i = 0; i < want.size(); i++)
        worst = std::fmax(worst, std::fabs(want[i] - scalar[i]) / (1 + std::fabs(scalar[i])));
      if (!CHECK(worst < 1e-5)) std::fprintf(stderr, "  %s: %g from scalar\n", name.c_str(), worst);
    }
  }
}

void test_sums() {
  ThreadPool pool(2);
  std::vector<float> x(1 << 20, 0.1f);
  for (Tier tier : math_tiers()) {
    const float sum =
        Call("sum").f32({1, 1 << 20, 1}, x).out(DType::kF32, {1, 1}).run(tier, pool).result()[0];
    CHECK(std::fabs(double(sum) - double(0.1f) * (1 << 20)) < 0.02);
    const float column =
        Call("sum").f32({1, 1 << 19, 2}, x).out(DType::kF32, {1, 2}).run(tier, pool).result()[1];
    CHECK(std::fabs(double(column) - double(0.1f) * (1 << 19)) < 0.05);
    const auto nan =
        Call("max").f32({2, 3, 1}, {1, NAN, 2, 4, 3, -1}).out(DType::kF32, {2, 1}).run(tier, pool).result();
    CHECK(std::isnan(nan[0]) && nan[1] == 4);
    std::vector<float> ties(100, 1);
    ties[37] = ties[64] = 5;
    CHECK(
        Call("argmax").f32({1, 100, 1}, ties).out(DType::kI32, {1, 1}).run(tier, pool).result<int32_t>()[0] ==
        37);
  }
}

// top_k, sort against std::stable_sort, with ties and NaN, on both sides of the insertion limit.
void test_order() {
  ThreadPool pool(2);
  for (Tier tier : math_tiers()) {
    for (int64_t n : {1, 2, 17, 100, 1000, 3000}) {
      std::mt19937 engine{uint32_t(n)};
      std::vector<float> x(static_cast<size_t>(n));
      for (float& v : x) v = float(int(engine() % 50)) - 25;
      if (n > 2) x[1] = NAN, x[2] = -0.0f;
      std::vector<int32_t> want(x.size());
      for (size_t i = 0; i < want.size(); i++) want[i] = int32_t(i);
      std::stable_sort(want.begin(), want.end(), [&](int32_t a, int32_t b) {
        if (std::isnan(x[a]) || std::isnan(x[b])) return !std::isnan(x[a]) && std::isnan(x[b]);
        return x[a] > x[b];
      });
      for (int64_t k : {int64_t(1), std::min<int64_t>(n, 8), std::min<int64_t>(n, 400), n}) {
        const auto got = Call("top_k")
                             .f32({1, n}, x)
                             .attr(double(k))
                             .out(DType::kF32, {1, k})
                             .out(DType::kI32, {1, k})
                             .run(tier, pool)
                             .result<int32_t>(1);
        CHECK(std::equal(got.begin(), got.end(), want.begin()));
      }
      const auto sorted = Call("sort")
                              .f32({1, n}, x)
                              .attr(1)
                              .out(DType::kF32, {1, n})
                              .out(DType::kI32, {1, n})
                              .run(tier, pool)
                              .result<int32_t>(1);
      CHECK(sorted == want);
    }
  }
}

void test_layout() {
  ThreadPool pool(2);
  // x [4, 5, 6] as [6, 4, 5] (strides 1, 30, 6), and back.
  const auto x = normals(120, 1);
  const auto y = Call("strided_copy")
                     .f32({4, 5, 6}, x)
                     .ints({1, 30, 6})
                     .attr(0)
                     .out(DType::kF32, {6, 4, 5})
                     .run(Tier::kScalar, pool)
                     .result();
  bool right = true;
  for (int a = 0; a < 4; a++) {
    for (int b = 0; b < 5; b++) {
      for (int c = 0; c < 6; c++) right = right && y[(c * 4 + a) * 5 + b] == x[(a * 5 + b) * 6 + c];
    }
  }
  CHECK(right);
  CHECK(Call("strided_scatter")
            .f32({6, 4, 5}, y)
            .ints({1, 30, 6})
            .attr(0)
            .out(DType::kF32, {4, 5, 6})
            .run(Tier::kScalar, pool)
            .result() == x);
  const auto flipped = Call("strided_copy")
                           .f32({4}, {1, 2, 3, 4})
                           .ints({-1})
                           .attr(3)
                           .out(DType::kF32, {4})
                           .run(Tier::kScalar, pool)
                           .result();
  CHECK(flipped == std::vector<float>({4, 3, 2, 1}));
  // A transposition large enough for blocks and threads.
  const auto big = normals(211 * 307, 2);
  const auto turned = Call("strided_copy")
                          .f32({211, 307}, big)
                          .ints({1, 307})
                          .attr(0)
                          .out(DType::kF32, {307, 211})
                          .run(Tier::kScalar, pool)
                          .result();
  right = true;
  for (int i = 0; i < 211; i++) {
    for (int j = 0; j < 307; j++) right = right && turned[j * 211 + i] == big[i * 307 + j];
  }
  CHECK(right);
  CHECK(holds(error_of([&] {
                Call("strided_copy")
                    .f32({4}, normals(4, 1))
                    .ints({2})
                    .attr(0)
                    .out(DType::kF32, {3})
                    .run(Tier::kScalar, pool);
              }),
              "strides reach elements 0…4"));
  CHECK(holds(error_of([&] {
                Call("strided_scatter")
                    .f32({2, 2}, normals(4, 1))
                    .ints({1, 1})
                    .attr(0)
                    .out(DType::kF32, {4})
                    .run(Tier::kScalar, pool);
              }),
              "meet an element twice"));
  CHECK(holds(error_of([&] {
                Call("take_rows")
                    .f32({5, 2}, normals(10, 1))
                    .i32({2}, {0, 7})
                    .out(DType::kF32, {2, 2})
                    .run(Tier::kScalar, pool);
              }),
              "ERR_OPTION [take_rows] got id 7 at place 1, expected -1…4"));
  CHECK(holds(error_of([&] {
                Call("kv_write")
                    .f32({1, 1, 2, 2}, normals(4, 1))
                    .f32({1, 1, 2}, normals(2, 1))
                    .i32({1}, {2})
                    .out(DType::kF32, {1, 1, 2, 2})
                    .attr(0)
                    .run(Tier::kScalar, pool);
              }),
              "got slot 2 for row 0, expected -1…1"));
}

}  // namespace

int main() {
  test_elementwise();
  test_register_reuse();
  test_matmul();
  test_threads();
  test_sums();
  test_order();
  test_layout();
  return report();
}
