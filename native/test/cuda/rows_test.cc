// softmax, log_softmax, rms_norm, layer_norm, rope_table, rope.
#include <limits>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

struct Rows {
  int64_t rows, n;
};
// Every cut of device/rows.h, packed and not; some last blocks are not full.
const Rows kRows[] = {{0, 8},    {3, 0},    {1, 1},    {5, 1},    {9, 3},     {7, 33},    {2, 128},   {6, 130},  {5, 512},
                      {3, 1001}, {1, 1024}, {2, 2000}, {2, 2047}, {1, 4096},  {1, 5000},  {1, 8190},  {1, 8192}, {1, 20001},
                      {1, 32768}, {1, 40001}, {1, 50000}};

void test_softmax(ThreadPool& pool) {
  for (const auto& [rows, n] : kRows) {
    const auto x = normals(rows * n, static_cast<uint32_t>(n), 3);
    CHECK(Compare("softmax").in({rows, n}, x).out<float>({rows, n}).run(pool).close(2e-6, 1e-30));
    CHECK(Compare("log_softmax").in({rows, n}, x).out<float>({rows, n}).run(pool).close(1e-6, 2e-6));
    CHECK(Compare("softmax").shifted(1).in({rows, n}, x).shifted(0).out<float>({rows, n}).run(pool).close(2e-6, 1e-30));
    CHECK(Compare("softmax").in({rows, n}, x).out_in_place(0).run(pool).close(2e-6, 1e-30));
    CHECK(Compare("log_softmax").in({rows, n}, x).out_in_place(0).run(pool).close(1e-6, 2e-6));
  }
  // Nothing but -inf, a NaN, +inf, one finite value among -inf.
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t n : {5, 1500, 33000}) {
    std::vector<float> x = normals(4 * n, 1);
    std::fill_n(x.begin(), n, -kInf);
    x[static_cast<size_t>(n + 2)] = kNan, x[static_cast<size_t>(2 * n + 1)] = kInf;
    std::fill_n(x.begin() + 3 * n, n, -kInf);
    x[static_cast<size_t>(4 * n - 1)] = 2;
    CHECK(Compare("softmax").in({4, n}, x).out<float>({4, n}).run(pool).close(1e-6, 0));
    CHECK(Compare("log_softmax").in({4, n}, x).out<float>({4, n}).run(pool).close(1e-6, 1e-6));
  }
}

void test_norm(ThreadPool& pool) {
  for (const auto& [rows, n] : kRows) {
    const auto x = normals(rows * n, 1), weight = normals(n, 2), bias = normals(n, 3);
    for (const double offset : {0.0, 1.0}) {
      const auto rms = [&](bool weighted, bool in_place, int64_t shift = 0) {
        Compare c("rms_norm");
        c.in({rows, n}, x).shifted(shift);
        weighted ? c.in({n}, weight) : c.absent();
        in_place ? c.out_in_place(0) : c.shifted(0).out<float>({rows, n});
        return c.attr(1e-5).attr(offset).run(pool).close(2e-6, 1e-7);
      };
      CHECK(rms(true, false) && rms(true, true) && rms(false, false) && rms(true, false, 1));
    }
    const auto layer = [&](bool weighted, bool biased) {
      Compare c("layer_norm");
      c.in({rows, n}, x);
      weighted ? c.in({n}, weight) : c.absent();
      biased ? c.in({n}, bias) : c.absent();
      return c.out<float>({rows, n}).attr(1e-5).run(pool).close(4e-6, 2e-6);
    };
    CHECK(layer(true, true) && layer(true, false) && layer(false, true) && layer(false, false));
  }
  // Fewer operands than the signature has; a mean far from 0.
  auto shifted = normals(3 * 700, 5);
  for (float& v : shifted) v += 100;
  CHECK(Compare("rms_norm").in({3, 700}, shifted).out<float>({3, 700}).attr(1e-6).attr(0.0).run(pool).close(2e-6, 0));
  CHECK(Compare("layer_norm").in({3, 700}, shifted).out<float>({3, 700}).attr(1e-6).run(pool).close(1e-4, 1e-4));
}

void test_rope(ThreadPool& pool) {
  struct Case {
    int64_t n, heads, c, half;
  };
  for (const auto& [n, heads, c, half] : {Case{0, 2, 8, 4}, Case{3, 0, 8, 4}, Case{1, 1, 2, 1}, Case{3, 2, 8, 4}, Case{5, 3, 7, 3},
                                          Case{5, 3, 10, 4}, Case{2, 3, 12, 4}, Case{9, 4, 128, 64}, Case{4, 2, 128, 32},
                                          Case{130, 8, 64, 32}, Case{3, 2, 6, 0}}) {
    std::vector<int32_t> positions(static_cast<size_t>(n));
    for (size_t i = 0; i < positions.size(); i++) positions[i] = static_cast<int32_t>(i * i * 977) - 3;
    std::vector<float> frequencies(static_cast<size_t>(half));
    for (size_t i = 0; i < frequencies.size(); i++) frequencies[i] = std::pow(10000.0f, -static_cast<float>(i) / half);
    Compare table("rope_table");
    table.in({n}, positions).in({half}, frequencies).out<float>({n, half}).out<float>({n, half}).attr(1.25).run(pool);
    CHECK(table.close(1e-6, 3e-7, 0) && table.close(1e-6, 3e-7, 1));
    const auto cos = table.cpu<float>(0), sin = table.cpu<float>(1), x = normals(n * heads * c, 4);
    for (const int interleaved : {0, 1}) {
      const auto call = [&](auto&& finish, int64_t shift = 0) {
        Compare rope("rope");
        rope.in({n, heads, c}, x).shifted(shift).in({n, half}, cos).shifted(0).in({n, half}, sin);
        finish(rope);
        return rope.attr(interleaved).run(pool).same<float>();
      };
      CHECK(call([&](Compare& rope) { rope.out<float>({n, heads, c}); }));
      CHECK(call([&](Compare& rope) { rope.out<float>({n, heads, c}); }, 1));
      CHECK(call([&](Compare& rope) { rope.out_in_place(0); }));
    }
  }
}

}  // namespace

int main() {
  ThreadPool pool(1);
  test_softmax(pool);
  test_norm(pool);
  test_rope(pool);
  return report();
}
