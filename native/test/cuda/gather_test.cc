// take_rows, take_along and their transposes.
#include <random>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

ThreadPool pool(1);

std::vector<int32_t> ids(int64_t count, int32_t low, int64_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> values(static_cast<size_t>(count));
  for (int32_t& v : values) v = low + static_cast<int32_t>(engine() % static_cast<uint32_t>(n - low));
  return values;
}

// Bits of any type: numbers, so that halves that are NaN are copied too.
template <class T>
std::vector<T> bits(int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (T& v : values) state = state * 1664525 + 1013904223, std::memcpy(&v, &state, sizeof v);
  return values;
}

template <class T>
void take() {
  for (const int64_t inner : {0, 1, 2, 3, 4, 16, 100, 1000, 5000}) {
    for (const int64_t m : {0, 1, 7, 300}) {
      CHECK(Compare("take_rows").shifted(1).in({9, inner}, bits<T>(9 * inner)).in({m}, ids(m, -1, 9, 1)).template out<T>({m, inner}).run(pool).template same<T>());
      CHECK(Compare("take_rows").in({9, inner}, bits<T>(9 * inner)).in({m}, ids(m, -1, 9, 1)).template out<T>({m, inner}).run(pool).template same<T>());
    }
  }
  CHECK(Compare("take_rows").in({0, 4}, bits<T>(0)).in({2}, std::vector<int32_t>{-1, -1}).template out<T>({2, 4}).run(pool).template same<T>());
  for (const auto& [outer, n, m, inner] : std::vector<std::array<int64_t, 4>>{{0, 3, 4, 5}, {1, 1, 1, 1}, {3, 5, 7, 1}, {500, 8, 2, 1}, {3, 5, 7, 33}, {2, 4, 0, 3}, {2, 9, 3, 3000}}) {
    CHECK(Compare("take_along").in({outer, n, inner}, bits<T>(outer * n * inner)).in({outer, m, inner}, ids(outer * m * inner, 0, n, 2))
              .template out<T>({outer, m, inner}).run(pool).template same<T>());
  }
}

void scatter() {
  // m: columns walked, one block's sort, radix sorts of one to three digits, tiles that are full and not.
  for (const auto& [m, n, inner] : std::vector<std::array<int64_t, 3>>{
           {0, 3, 4}, {1, 1, 1}, {5, 0, 0}, {8, 9, 33}, {9, 9, 33}, {64, 9, 32}, {65, 200, 64}, {1000, 3, 4}, {2048, 1, 5}, {2049, 40, 4}, {4096, 300, 8}, {9000, 70000, 1}, {5000, 6, 20}}) {
    for (const int32_t low : {-1, 0}) {
      if (n == 0 && low == 0) continue;
      CHECK(Compare("scatter_add_rows").in({m, inner}, normals(m * inner, 3)).in({m}, ids(m, low, n, 4)).out<float>({n, inner}).run(pool).same<float>());
    }
  }
  CHECK(Compare("scatter_add_rows").in({5000, 4}, normals(20000, 3)).in({5000}, std::vector<int32_t>(5000, -1)).out<float>({9, 4}).run(pool).same<float>());
  CHECK(Compare("scatter_add_rows").shifted(1).in({300, 8}, normals(2400, 3)).in({300}, ids(300, -1, 9, 4)).out<float>({9, 8}).run(pool).same<float>());
  for (const auto& [outer, n, m, inner] : std::vector<std::array<int64_t, 4>>{
           {0, 3, 4, 5}, {0, 3, 400, 5}, {1, 1, 1, 1}, {3, 5, 7, 1}, {500, 8, 2, 1}, {3, 5, 7, 33}, {2, 4, 0, 3}, {2, 4, 100, 0}, {2, 9, 80, 3}, {1, 3, 5000, 2}, {7, 70000, 100, 1}, {6, 3, 1000, 1}, {70, 60000, 65, 1}}) {
    CHECK(Compare("scatter_add_along").in({outer, m, inner}, normals(outer * m * inner, 5)).in({outer, m, inner}, ids(outer * m * inner, 0, n, 6))
              .out<float>({outer, n, inner}).run(pool).same<float>());
  }
}

// Reports the id that is wrong, and gives what the others make.
void wrong_ids() {
  const auto told = [](Compare& c, int64_t place, int64_t got, int64_t low, int64_t high) {
    c.run_device();
    const gpu::ErrorWord& e = c.error();
    return e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == place && e.got == got && e.low == low && e.high == high;
  };
  for (const int32_t wrong : {-2, 9, INT32_MAX, INT32_MIN}) {
    const std::vector<int32_t> two = {3, wrong};
    Compare take("take_rows"), take_good("take_rows");
    CHECK(told(take.in({9, 6}, normals(54, 7)).in({2}, two).out<float>({2, 6}), 1, wrong, -1, 8));
    take_good.in({9, 6}, normals(54, 7)).in({2}, std::vector<int32_t>{3, -1}).out<float>({2, 6}).run_device();
    CHECK(same_bits(take.device<float>(), take_good.device<float>()));
    for (const int64_t m : {2, 70, 3000}) {
      std::vector<int32_t> many = ids(m, -1, 9, 8), good = many;
      many[1] = wrong, good[1] = -1;
      Compare add("scatter_add_rows"), add_good("scatter_add_rows");
      CHECK(told(add.in({m, 6}, normals(6 * m, 7)).in({m}, many).out<float>({9, 6}), 1, wrong, -1, 8));
      add_good.in({m, 6}, normals(6 * m, 7)).in({m}, good).out<float>({9, 6}).run_device();
      CHECK(same_bits(add.device<float>(), add_good.device<float>()));
    }
  }
  for (const int32_t wrong : {-1, 9}) {
    Compare take("take_along");
    CHECK(told(take.in({2, 9, 1}, normals(18, 7)).in({2, 1, 1}, std::vector<int32_t>{3, wrong}).out<float>({2, 1, 1}), 1, wrong, 0, 8));
    for (const int64_t m : {1, 70}) {
      std::vector<int32_t> many = ids(2 * m, 0, 9, 8);
      many.back() = wrong;
      Compare add("scatter_add_along");
      CHECK(told(add.in({2, m, 1}, normals(2 * m, 7)).in({2, m, 1}, many).out<float>({2, 9, 1}), 2 * m - 1, wrong, 0, 8));
    }
  }
}

}  // namespace

int main() {
  take<uint8_t>();
  take<uint16_t>();
  take<float>();
  scatter();
  wrong_ids();
  return report();
}
