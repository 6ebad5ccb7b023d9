// moe_capacity: drawn cases, a plain loop, malformed values.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "check.h"
#include "run_kernel.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

using Ids = std::vector<int32_t>;
using Floats = std::vector<float>;

struct Pools {
  ThreadPool one{1}, two{2}, four{4};
};

// ---- places of experts

struct Capacity {
  int64_t k, capacity, group, overflow, experts;
  Ids order = {};
};

Ids serve(ThreadPool& pool, int64_t M, const Ids& ranking, const Capacity& c) {
  const int64_t N = static_cast<int64_t>(ranking.size()) / M;
  Ids ids;
  KernelCall call("moe_capacity");
  call.in({N, M}, ranking);
  c.order.empty() ? call.absent() : call.in({static_cast<int64_t>(c.order.size())}, c.order);
  call.out({N, c.k}, ids).attr(c.k).attr(c.capacity).attr(c.group).attr(c.overflow).attr(c.experts);
  call.run(pool, best_tier());
  return ids;
}

// By the rule of docs/kernels.md: who was there before is counted anew for each choice.
Ids serve_slowly(int64_t M, const Ids& ranking, const Capacity& c) {
  const int64_t N = static_cast<int64_t>(ranking.size()) / M;
  Ids ids(N * c.k, -1);
  const auto full = [&](int64_t group, int32_t e) {
    const auto first = ids.begin() + group * c.group * c.k;
    return std::count(first, first + c.group * c.k, e) >= c.capacity;
  };
  for (int64_t group = 0; group < (N > 0 ? N / c.group : 0); group++) {
    const auto token = [&](int64_t i) { return group * c.group + (c.order.empty() ? i : c.order[group * c.group + i]); };
    for (int64_t slot = 0; c.overflow == 0 && slot < c.k; slot++) {
      for (int64_t i = 0; i < c.group; i++) {
        const int32_t e = ranking[token(i) * M + slot];
        if (e >= 0 && !full(group, e)) ids[token(i) * c.k + slot] = e;
      }
    }
    for (int64_t i = 0; c.overflow == 1 && i < c.group; i++) {
      const auto own = ids.begin() + token(i) * c.k;
      for (int64_t m = 0, held = 0; m < M && held < c.k; m++) {
        const int32_t e = ranking[token(i) * M + m];
        if (e >= 0 && !full(group, e) && std::find(own, own + held, e) == own + held) own[held++] = e;
      }
    }
  }
  return ids;
}

void drawn_capacity(Pools& p) {
  // Four tokens wish for (0,1) (0,1) (1,0) (1,0); two places each. First choices fill both experts.
  const Ids wishes = {0, 1, 0, 1, 1, 0, 1, 0};
  CHECK(serve(p.two, 2, wishes, {2, 2, 4, 0, 2}) == Ids{0, -1, 0, -1, 1, -1, 1, -1});
  // The same with whole tokens: 0 and 1 take both places of both.
  CHECK(serve(p.two, 2, wishes, {2, 2, 4, 1, 2}) == Ids{0, 1, 0, 1, -1, -1, -1, -1});
  CHECK(serve(p.two, 2, wishes, {2, 2, 4, 1, 2, {3, 0, 1, 2}}) == Ids{0, 1, -1, -1, -1, -1, 1, 0});
  // One expert a token, one place each: token 1 goes on to its second wish, tokens 2 and 3 find nothing.
  CHECK(serve(p.two, 2, wishes, {1, 1, 4, 1, 2}) == Ids{0, 1, -1, -1});
  // Groups of two have places of their own.
  CHECK(serve(p.two, 2, wishes, {1, 1, 2, 1, 2}) == Ids{0, 1, 1, 0});
  CHECK(serve(p.two, 1, {0, 0, 0, 0}, {1, 1, 2, 0, 1, {1, 0, 0, 1}}) == Ids{-1, 0, 0, -1});
  // A lost first choice leaves a hole, a missing second one the end.
  CHECK(serve(p.two, 2, {0, 1, 0, 2}, {2, 1, 2, 0, 3}) == Ids{0, 1, -1, 2});
  CHECK(serve(p.two, 3, {0, 1, 1, 0, -1, 2}, {2, 1, 2, 1, 3}) == Ids{0, 1, 2, -1});
}

void capacity_against_the_loop(Pools& p) {
  struct Size { int64_t N, M, k, group, capacity, E; };
  for (const Size& s : {Size{0, 2, 2, 0, 1, 3}, {1, 1, 1, 1, 1, 1}, {7, 3, 3, 7, 2, 5}, {12, 4, 2, 4, 1, 4}, {30, 9, 5, 15, 3, 9},
                        {2048, 8, 2, 128, 5, 64}, {2048, 4, 4, 2048, 100, 64}, {1500, 6, 6, 3, 1, 300}, {999, 5, 5, 9, 0, 7}}) {
    std::mt19937 engine(41);
    Ids ranking(s.N * s.M), order(s.N);
    // Lower experts are wished for more, some places are empty, and experts come twice.
    for (int32_t& e : ranking) e = static_cast<int32_t>(engine() % (1 + engine() % s.E)) - (engine() % 8 == 0 ? 1 : 0);
    for (int64_t first = 0; first < s.N; first += s.group) {
      std::iota(order.begin() + first, order.begin() + first + s.group, 0);
      std::shuffle(order.begin() + first, order.begin() + first + s.group, engine);
    }
    for (int64_t overflow : {0, 1}) {
      if (overflow == 0 && s.k != s.M) continue;
      for (const Ids& way : {Ids{}, order}) {
        const Capacity c{s.k, s.capacity, s.group, overflow, s.E, way};
        const Ids expected = serve_slowly(s.M, ranking, c);
        for (ThreadPool* pool : {&p.one, &p.two, &p.four}) CHECK(serve(*pool, s.M, ranking, c) == expected);
      }
    }
  }
}

void capacity_errors(Pools& p) {
  const auto error = [&](int64_t M, const Ids& ranking, const Capacity& c) {
    return error_of([&] { serve(p.four, M, ranking, c); });
  };
  CHECK(holds(error(2, {0, 1, 2, 0}, {2, 1, 2, 0, 2}), "expert 2 for token 1"));
  CHECK(holds(error(2, {0, 1, 0, -2}, {1, 1, 1, 1, 2}), "expert -2 for token 1"));  // though token 1 has its one before
  CHECK(holds(error(1, {0, 0, 0, 0}, {1, 1, 2, 0, 1, {0, 1, 1, 1}}), "got 1 at place 3 of the order"));
  CHECK(holds(error(1, {0, 0, 0, 0}, {1, 1, 2, 0, 1, {0, 1, 2, 3}}), "got 2 at place 2 of the order"));
  CHECK(holds(error(1, {0, 0}, {1, 1, 2, 0, 1, {-1, 0}}), "got -1 at place 0 of the order"));
  CHECK(holds(error(2, {0, 0}, {1, 1, 1, 0, 1}), "got k other"));
  CHECK(holds(error(2, {0, 0}, {3, 1, 1, 1, 1}), "got k other"));
  CHECK(holds(error(1, {0, 0, 0}, {1, 1, 2, 0, 1}), "no multiple"));
  CHECK(holds(error(1, {0}, {1, 1, 0, 0, 1}), "no multiple"));
  CHECK(holds(error(1, {0}, {1, -1, 1, 0, 1}), "capacity below 0"));
  CHECK(holds(error(1, {0}, {1, 1, 1, 2, 1}), "unknown overflow"));
  CHECK(holds(error(1, {0}, {1, 1, 1, 0, 0}), "experts outside"));
  CHECK(holds(error(1, {0}, {1, 1, 1, 0, 1, {0, 0}}), "length of order"));
}

}  // namespace

int main() {
  Pools pools;
  drawn_capacity(pools);
  capacity_against_the_loop(pools);
  capacity_errors(pools);
  return report();
}
