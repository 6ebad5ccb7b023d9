// sum, max, min, argmax, cumsum.
#include <limits>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  int64_t outer, n, inner;
};
// Short and long rows, narrow and wide columns, few tasks that are cut in chunks and many that are not.
const Case kCases[] = {{1, 1, 1},    {3, 7, 1},   {40, 16, 1},  {9, 17, 1},   {5, 1000, 1}, {2, 1025, 1}, {1, 100003, 1}, {3, 20000, 1},
                       {1, 5, 2},    {2, 33, 3},  {1, 9000, 5}, {3, 700, 16}, {2, 9, 17},   {1, 40, 64},  {4, 50, 33},    {1, 3000, 65},
                       {2, 1500, 40}, {600, 3, 2}, {0, 3, 4},    {3, 4, 0}};

std::vector<int32_t> whole(int64_t n) {
  std::mt19937 engine(5);
  std::vector<int32_t> x(static_cast<size_t>(n));
  for (int32_t& v : x) v = static_cast<int32_t>(engine());
  return x;
}

// Few values, so that the largest stands at several places; zeros of both signs.
std::vector<float> tied(int64_t n) {
  std::mt19937 engine(6);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = engine() % 5 == 0 ? -0.0f : static_cast<float>(engine() % 7) - 6;
  return x;
}

void test_reductions(ThreadPool& pool) {
  for (const auto& [outer, n, inner] : kCases) {
    const int64_t size = outer * n * inner;
    auto x = normals(size, 1);
    // Sums cancel; the CPU's parts are f32, so what they lose grows with n.
    const double rounding = 5e-8 * static_cast<double>(n);
    const auto reduced = [&](const char* name, const std::vector<float>& values, double relative) {
      return Compare(name).in({outer, n, inner}, values).out<float>({outer, inner}).run(pool)
          .close(relative, relative > 0 ? rounding : 0);
    };
    const auto integers = [&](const char* name) {
      return Compare(name).in({outer, n, inner}, whole(size)).out<int32_t>({outer, inner}).run(pool).same<int32_t>();
    };
    const auto argmax = [&](const std::vector<float>& values) {
      return Compare("argmax").in({outer, n, inner}, values).out<int32_t>({outer, inner}).run(pool).same<int32_t>();
    };
    CHECK(reduced("sum", x, 2e-6) && reduced("max", x, 0) && reduced("min", x, 0) && argmax(x));
    CHECK(integers("sum") && integers("max") && integers("min"));
    CHECK(argmax(tied(size)) && reduced("max", tied(size), 0));
    if (size == 0) continue;
    x[static_cast<size_t>(size / 2)] = kNan, x[static_cast<size_t>(size - 1)] = kNan, x[static_cast<size_t>(size / 3)] = kInf;
    CHECK(reduced("sum", x, 2e-6) && reduced("max", x, 0) && reduced("min", x, 0) && argmax(x));
    CHECK(argmax(std::vector<float>(static_cast<size_t>(size), -kInf)));
    CHECK(reduced("max", std::vector<float>(static_cast<size_t>(size), -kInf), 0));
  }
  for (const int64_t inner : {1, 3, 40}) {  // the sum of nothing
    CHECK(Compare("sum").in({2, 0, inner}, std::vector<float>{}).out<float>({2, inner}).run(pool).same<float>());
  }
}

void test_cumsum(ThreadPool& pool) {
  for (const auto& [outer, n, inner] : kCases) {
    const int64_t size = outer * n * inner;
    auto x = normals(size, 2);
    if (size > 3) x[static_cast<size_t>(size / 2)] = kInf, x[static_cast<size_t>(size / 4)] = kNan;
    for (const int exclusive : {0, 1}) {
      for (const int reverse : {0, 1}) {
        CHECK(Compare("cumsum").in({outer, n, inner}, x).out<float>({outer, n, inner}).attr(exclusive).attr(reverse).run(pool)
                  .close(2e-7, 1e-9));
        CHECK(Compare("cumsum").in({outer, n, inner}, x).out_in_place(0).attr(exclusive).attr(reverse).run(pool).close(2e-7, 1e-9));
        CHECK(Compare("cumsum").in({outer, n, inner}, whole(size)).out<int32_t>({outer, n, inner}).attr(exclusive).attr(reverse)
                  .run(pool).same<int32_t>());
      }
    }
  }
}

}  // namespace

int main() {
  ThreadPool pool(1);
  test_reductions(pool);
  test_cumsum(pool);
  return report();
}
