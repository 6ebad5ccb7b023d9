// moe_capacity beside the CPU's: the same words for both rules of overflow.
#include <algorithm>
#include <numeric>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

enum Overflow { kDrop, kNextBest };

struct Case {
  int64_t N, M, k, capacity, group;
  int overflow;
  int64_t E;
  double absent = 0;  // wishes for none
};

constexpr Case kCases[] = {
    {0, 2, 2, 3, 0, kDrop, 4},          {1, 1, 1, 1, 1, kDrop, 1},        {1, 1, 1, 0, 1, kNextBest, 1},
    {12, 2, 2, 2, 4, kDrop, 3},         {12, 3, 2, 3, 4, kNextBest, 3},   {300, 2, 2, 50, 300, kDrop, 8},
    {300, 8, 2, 80, 300, kNextBest, 8}, {999, 3, 3, 20, 333, kDrop, 7, 0.2}, {999, 7, 3, 150, 333, kNextBest, 7, 0.2},
    {2048, 8, 8, 100, 2048, kDrop, 128}, {1500, 30, 4, 90, 750, kNextBest, 60, 0.1}, {70, 4, 4, 1, 1, kDrop, 5},
    {70, 4, 2, 1, 1, kNextBest, 5},     {40, 3, 3, 2, 20, kDrop, 60000},  {40, 5, 3, 2, 20, kNextBest, 60000},
    {600, 5, 2, 1000000000000, 200, kNextBest, 4}, {600, 2, 2, 1000000000000, 600, kDrop, 4},
    {64, 40, 2, 3, 64, kNextBest, 9000},
};

std::vector<int32_t> ranking_of(const Case& s, std::mt19937& random) {
  std::vector<int32_t> ids(static_cast<size_t>(s.N * s.M));
  for (int32_t& e : ids) {
    // Low experts are wished for more; a token may name one twice.
    const uint32_t a = random() % static_cast<uint32_t>(s.E), b = random() % static_cast<uint32_t>(s.E);
    e = std::uniform_real_distribution<>()(random) < s.absent ? -1 : static_cast<int32_t>(std::min(a, b));
  }
  return ids;
}

std::vector<int32_t> order_of(const Case& s, std::mt19937& random) {
  std::vector<int32_t> order(static_cast<size_t>(s.N));
  for (int64_t first = 0; first < s.N; first += s.group) {
    std::iota(order.begin() + first, order.begin() + first + s.group, 0);
    std::shuffle(order.begin() + first, order.begin() + first + s.group, random);
  }
  return order;
}

Compare& serve(Compare& c, const Case& s) {
  return c.out<int32_t>({s.N, s.k}).attr(s.k).attr(s.capacity).attr(s.group).attr(s.overflow).attr(s.E);
}

void serves(ThreadPool& pool, const Case& s, std::mt19937& random) {
  const auto ranking = ranking_of(s, random);
  Compare plain("moe_capacity"), ordered("moe_capacity");
  serve(plain.in({s.N, s.M}, ranking).absent(), s).run(pool);
  serve(ordered.in({s.N, s.M}, ranking).in({s.N}, order_of(s, random)), s).run(pool);
  const bool same = plain.same<int32_t>() && ordered.same<int32_t>() && plain.error().kind == 0 && ordered.error().kind == 0;
  if (!CHECK(same)) std::printf("N %lld M %lld E %lld\n", (long long)s.N, (long long)s.M, (long long)s.E);
}

// What is wrong is reported; ids stay experts or none.
void refuses(const Case& s, std::mt19937& random) {
  const auto is = [&](const Compare& c, int64_t place, int64_t got, int64_t low, int64_t high) {
    const gpu::ErrorWord& e = c.error();
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == place && e.got == got);
    CHECK(e.low == low && e.high == high);
    for (const int32_t id : c.device<int32_t>()) CHECK(id >= -1 && id < s.E);
  };
  const auto good_ranking = ranking_of(s, random), good_order = order_of(s, random);
  for (const int32_t bad : {-2, static_cast<int32_t>(s.E), INT32_MIN, INT32_MAX}) {
    auto ranking = good_ranking;
    ranking[11] = bad;
    Compare c("moe_capacity");
    serve(c.in({s.N, s.M}, ranking).in({s.N}, good_order), s).run_device();
    is(c, 11, bad, -1, s.E - 1);
  }
  for (const int32_t bad : {-1, static_cast<int32_t>(s.group), INT32_MIN, INT32_MAX, good_order[4]}) {
    auto order = good_order;
    order[6] = bad;
    Compare c("moe_capacity");
    serve(c.in({s.N, s.M}, good_ranking).in({s.N}, order), s).run_device();
    is(c, 6, bad, 0, s.group - 1);
  }
}

}  // namespace

int main() {
  ThreadPool pool(1);
  std::mt19937 random(3);
  for (const Case& s : kCases) serves(pool, s, random);
  refuses({16, 3, 3, 4, 8, kDrop, 5}, random);
  refuses({16, 4, 2, 4, 8, kNextBest, 5}, random);
  return report();
}
