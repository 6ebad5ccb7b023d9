// moe_plan beside the CPU's: the same words, in one block and in several.
#include <algorithm>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

struct Case {
  int64_t N, K, E;
  double dropped = 0;
  int64_t spare = 0;  // rows more than are used
  int only = -1;      // all to this expert
};

constexpr Case kCases[] = {
    {1, 8, 128},          {0, 8, 4, 0, 3},      {3, 0, 2, 0, 1},      {1, 1, 1},           {4, 2, 3, 0.3},
    {7, 3, 5, 1, 4},      {65, 2, 8, 0.2, 9},   {64, 8, 128},         {511, 8, 127, 0.1},  {300, 3, 2, 0, 0, 1},
    {1000, 7, 60, 0.05, 8}, {3000, 2, 128},     {1111, 8, 1, 0.5},    {2500, 4, 33, 0.999, 100}, {900, 6, 2000, 0.1},
    {20, 4, 6000},        {1500, 4, 64, 0, 0, 63}, {4097, 1, 19},     {3, 2, 19000, 0.2, 1},
};

Compare& plan(Compare& c, const Case& s, const std::vector<int32_t>& ids, int64_t R) {
  return c.in({s.N, s.K}, ids).out<int32_t>({s.E + 1}).out<int32_t>({R}).out<int32_t>({s.N, s.K});
}

std::vector<int32_t> ids_of(const Case& s, std::mt19937& random) {
  std::vector<int32_t> ids(static_cast<size_t>(s.N * s.K));
  for (int32_t& e : ids) {
    const bool drop = std::uniform_real_distribution<>()(random) < s.dropped;
    e = drop ? -1 : s.only >= 0 ? s.only : static_cast<int32_t>(random() % static_cast<unsigned>(s.E));
  }
  return ids;
}

void plans(ThreadPool& pool, const Case& s, std::mt19937& random) {
  const auto ids = ids_of(s, random);
  const int64_t kept = std::count_if(ids.begin(), ids.end(), [](int32_t e) { return e >= 0; });
  Compare c("moe_plan");
  plan(c, s, ids, kept + s.spare).run(pool);
  const bool same = c.same<int32_t>(0) && c.same<int32_t>(1) && c.same<int32_t>(2) && c.error().kind == 0;
  if (!CHECK(same)) std::printf("N %lld K %lld E %lld\n", (long long)s.N, (long long)s.K, (long long)s.E);
}

// A wrong expert is reported and its pair dropped.
void refuses_experts(const Case& s, int32_t bad, std::mt19937& random) {
  auto ids = ids_of(s, random);
  const size_t place = ids.size() * 2 / 3;
  ids[place] = bad;
  Compare c("moe_plan");
  plan(c, s, ids, s.N * s.K).run_device();
  const gpu::ErrorWord& e = c.error();
  CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == static_cast<int64_t>(place) && e.got == bad);
  CHECK(e.low == -1 && e.high == s.E - 1);
  CHECK(c.device<int32_t>(2)[place] == -1 && c.device<int32_t>(0).back() == s.N * s.K - 1);
}

// More choices than rows are reported; those without a row are dropped.
void refuses_too_many(const Case& s, int64_t R, std::mt19937& random) {
  Compare c("moe_plan");
  plan(c, s, ids_of(s, random), R).run_device();
  const gpu::ErrorWord& e = c.error();
  CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.got == s.N * s.K && e.low == 0 && e.high == R);
  for (const int32_t row : c.device<int32_t>(2)) CHECK(row >= -1 && row < R);
  CHECK(c.device<int32_t>(0).back() == R);
}

}  // namespace

int main() {
  ThreadPool pool(1);
  std::mt19937 random(9);
  for (const Case& s : kCases) plans(pool, s, random);
  for (const Case& s : {Case{10, 2, 5}, Case{2000, 4, 16}}) {
    for (const int32_t bad : {-2, static_cast<int32_t>(s.E), INT32_MIN, INT32_MAX}) refuses_experts(s, bad, random);
  }
  refuses_too_many({10, 2, 5}, 13, random);
  refuses_too_many({10, 2, 5}, 0, random);
  refuses_too_many({700, 8, 5}, 4000, random);
  return report();
}
