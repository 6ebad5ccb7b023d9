// balanced_assignment beside the CPU's: the same experts, with ties and without.
#include <algorithm>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

struct Case {
  int64_t N, E, capacity;
};

constexpr Case kCases[] = {{0, 3, 1},   {1, 1, 1},    {5, 1, 7},    {6, 3, 2},   {40, 8, 5},  {37, 8, 5},
                           {30, 30, 1}, {44, 5, 9}, {12, 300, 1}, {50, 2, 30}, {30, 20, 2}, {4, 4096, 1}};

bool same(ThreadPool& pool, const Case& s, const std::vector<float>& scores) {
  Compare c("balanced_assignment");
  c.in({s.N, s.E}, scores).out<int32_t>({s.N}).attr(s.capacity).run(pool);
  return c.same<int32_t>() && c.error().kind == 0;
}

}  // namespace

int main() {
  ThreadPool pool(1);
  for (const Case& s : kCases) {
    auto scores = normals(s.N * s.E, 8);
    CHECK(same(pool, s, scores));
    for (float& v : scores) v = std::round(v);
    CHECK(same(pool, s, scores));
    // All tokens wish for the same experts, so that paths are long.
    for (int64_t i = 0; i < s.N * s.E; i++) scores[static_cast<size_t>(i)] += static_cast<float>(s.E - i % s.E);
    CHECK(same(pool, s, scores));
  }
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    auto scores = normals(12 * 4, 9);
    scores[17] = bad;
    Compare c("balanced_assignment");
    c.in({12, 4}, scores).out<int32_t>({12}).attr(3).run_device();
    CHECK(c.error().kind == static_cast<int32_t>(gpu::ErrorKind::kNotFinite) && c.error().place == 17);
    auto ids = c.device<int32_t>();
    for (int e = 0; e < 4; e++) CHECK(std::count(ids.begin(), ids.end(), e) == 3);
  }
  return report();
}
