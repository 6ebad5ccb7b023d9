// strided_copy, strided_scatter, concat: pure copies, so the same bits.
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

template <class T>
std::vector<T> counted(int64_t n) {
  std::vector<T> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); i++) {
    if constexpr (std::is_same_v<T, BF16>) x[i] = {static_cast<uint16_t>(i * 7 + 1)};
    else if constexpr (std::is_same_v<T, Bool>) x[i] = {static_cast<uint8_t>(i % 3 == 0)};
    else x[i] = static_cast<T>(i * 7 + 1);
  }
  return x;
}

struct Case {
  std::vector<int64_t> dense;
  int64_t strided;
  std::vector<int64_t> strides;
  int64_t offset;
  bool scatters = true;  // places are distinct
};
const Case kCases[] = {
    {{}, 5, {}, 3},                                        // one element
    {{1, 1}, 5, {100, 3}, 4},
    {{0, 4}, 5, {1, 1}, 0},                                // nothing
    {{7}, 7, {1}, 0},                                      // all of it
    {{1024}, 1024, {1}, 0},
    {{9}, 9, {-1}, 8},                                     // flipped
    {{5}, 1, {0}, 0, false},                               // broadcast
    {{3, 64}, 64, {0, 1}, 0, false},
    {{64, 3}, 64, {1, 0}, 0, false},
    {{6}, 36, {7}, 0},                                     // a diagonal
    {{4, 8}, 100, {16, 1}, 32},                            // rows of a matrix, in whole units
    {{4, 8}, 100, {16, 1}, 33},                            // and beside them
    {{4, 6}, 100, {16, 1}, 2},
    {{33, 47}, 33 * 47, {1, 33}, 0},                       // transposed
    {{64, 128}, 64 * 128, {1, 64}, 0},
    {{3, 70, 40}, 3 * 70 * 40, {2800, 1, 70}, 0},
    {{40, 3, 70}, 3 * 70 * 40, {1, 2800, 40}, 0},
    {{5, 9, 2, 33}, 5 * 9 * 2 * 33, {18, 2, 1, 90}, 0},
    {{20, 2, 9}, 360, {1, 20, 40}, 0},
    {{70, 4}, 280, {1, 70}, 0},                            // too narrow for squares
    {{33, 47}, 33 * 47, {1, -33}, 33 * 46},                // transposed and flipped
    {{2, 3, 4, 5}, 120, {1, 2, 6, 24}, 0},                 // reversed order of dimensions
    {{2, 5, 3, 16}, 480, {240, 16, 80, 1}, 0},             // heads and tokens
    {{2, 3, 2, 3, 2, 3, 2, 3}, 3000, {1500, 500, 240, 80, 36, 12, 5, 1}, 0},
    {{50, 700}, 40000, {800, 1}, 0},                       // many blocks
    {{300, 301}, 300 * 301, {1, 300}, 0},
};

template <class T>
void test_strided(ThreadPool& pool) {
  for (const Case& c : kCases) {
    const auto x = counted<T>(c.strided);
    for (const int shift : {0, 1}) {
      const bool copied = Compare("strided_copy").shifted(shift).in({c.strided}, x).shifted(0).template out<T>(c.dense)
                              .attr(c.strides).attr(c.offset).run(pool).template same<T>();
      CHECK(copied);
      if (!copied) std::fprintf(stderr, "case %td, %zu bytes, shift %d\n", &c - kCases, sizeof(T), shift);
    }
    if (!c.scatters) continue;
    const auto dense = counted<T>(shape_of(c.dense).size());
    const bool scattered = Compare("strided_scatter").in(c.dense, dense).template out<T>({c.strided}).attr(c.strides).attr(c.offset)
                               .run(pool).template same<T>();
    CHECK(scattered);
    if (!scattered) std::fprintf(stderr, "scattering case %td, %zu bytes\n", &c - kCases, sizeof(T));
  }
}

template <class T>
void test_concat(ThreadPool& pool) {
  struct Parts {
    int64_t outer, inner;
    std::vector<int64_t> n;
  };
  std::vector<int64_t> many;
  for (int64_t i = 0; i < 37; i++) many.push_back(i % 5);
  const Parts cases[] = {{1, 1, {1}},      {3, 1, {2, 0, 5}},  {3, 4, {2, 3}},     {5, 16, {1, 2, 3}}, {2, 7, many},
                         {4, 8, many},     {0, 3, {1, 2}},     {2, 0, {1, 2}},     {3, 2, {0, 0}},     {1, 1, {70001, 5}},
                         {100, 64, {3, 9}}, {257, 6, {1, 40}}};
  for (const auto& [outer, inner, n] : cases) {
    for (const int shift : {0, 1}) {
      Compare c("concat");
      int64_t total = 0;
      for (const int64_t m : n) c.in({outer, m, inner}, counted<T>(outer * m * inner)), total += m, c.shifted(shift);
      CHECK((c.shifted(0).template out<T>({outer, total, inner}).run(pool).template same<T>()));
    }
  }
}

}  // namespace

int main() {
  ThreadPool pool(1);
  test_strided<float>(pool), test_strided<BF16>(pool), test_strided<uint8_t>(pool), test_strided<int32_t>(pool), test_strided<Bool>(pool);
  test_concat<float>(pool), test_concat<uint16_t>(pool), test_concat<uint8_t>(pool);
  return report();
}
