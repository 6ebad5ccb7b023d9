// moe_capacity, balanced_assignment: drawn cases, a plain loop, the conditions of the best sum, malformed values.
// Arguments: `--bench` prints what they cost.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "check.h"
#include "clock.h"
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
    const auto token = [&](int64_t i) {
      return group * c.group + (c.order.empty() ? i : c.order[group * c.group + i]);
    };
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
  for (const Size& s : {Size{0, 2, 2, 0, 1, 3}, {1, 1, 1, 1, 1, 1}, {7, 3, 3, 7, 2, 5}, {12, 4, 2, 4, 1, 4},
                        {30, 9, 5, 15, 3, 9}, {2048, 8, 2, 128, 5, 64}, {2048, 4, 4, 2048, 100, 64},
                        {1500, 6, 6, 3, 1, 300}, {999, 5, 5, 9, 0, 7}}) {
    std::mt19937 engine(41);
    Ids ranking(s.N * s.M), order(s.N);
    // Lower experts are wished for more, some places are empty, and experts come twice.
    for (int32_t& e : ranking) {
      e = static_cast<int32_t>(engine() % (1 + engine() % s.E)) - (engine() % 8 == 0 ? 1 : 0);
    }
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
  // Also where token 1 has all it wants before.
  CHECK(holds(error(2, {0, 1, 0, -2}, {1, 1, 1, 1, 2}), "expert -2 for token 1"));
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

// ---- the best sum

Ids balance(ThreadPool& pool, Tier tier, int64_t E, const Floats& scores, int64_t capacity) {
  const int64_t N = static_cast<int64_t>(scores.size()) / E;
  Ids experts;
  KernelCall("balanced_assignment").in({N, E}, scores).out({N}, experts).attr(capacity).run(pool, tier);
  return experts;
}

// Every way to give experts to tokens, for the smallest sizes.
double best_sum(int64_t E, const Floats& scores, int64_t capacity, Ids& taken, size_t token = 0) {
  if (token * E == scores.size()) return 0;
  double best = -INFINITY;
  for (int64_t e = 0; e < E; e++) {
    if (taken[e] == capacity) continue;
    taken[e]++;
    best = std::max(best, scores[token * E + e] + best_sum(E, scores, capacity, taken, token + 1));
    taken[e]--;
  }
  return best;
}

// An assignment is the best one if and only if no tokens can move in a circle of experts, or along a path to one with
// room, and gain by it. The gains of all paths: Bellman and Ford, from an end that every expert with room leads to.
bool is_best(int64_t E, const Floats& scores, int64_t capacity, const Ids& experts) {
  std::vector<double> gain(E * E, -INFINITY), reach(E, -INFINITY);
  Ids count(E, 0);
  for (size_t token = 0; token < experts.size(); token++) {
    const int32_t from = experts[token];
    if (from < 0 || from >= E || ++count[from] > capacity) return false;
    for (int64_t to = 0; to < E; to++) {
      const double more = double{scores[token * E + to]} - scores[token * E + from];
      gain[from * E + to] = std::max(gain[from * E + to], more);
    }
  }
  // reach[e]: the most that a path from e to room gains; where there is room already, 0 by the path of no move.
  for (int64_t e = 0; e < E; e++) reach[e] = count[e] < capacity ? 0 : -INFINITY;
  const bool room = *std::min_element(count.begin(), count.end()) < capacity;
  if (!room) reach[0] = 0;  // circles only: they lie on paths to any expert that all reach
  for (int64_t round = 0; round <= E; round++) {
    bool grew = false;
    for (int64_t from = 0; from < E; from++) {
      for (int64_t to = 0; to < E; to++) {
        const double far = gain[from * E + to] + reach[to];
        if (!(far > reach[from] + 1e-9)) continue;
        if (room && far > 1e-9) return false;
        reach[from] = far;
        grew = true;
      }
    }
    if (!grew) return true;
  }
  return false;  // a circle that gains
}

struct Taste {
  const char* name;
  float shared, own;  // how much all tokens agree on an expert, and do not
};

Floats scores_of(int64_t N, int64_t E, const Taste& taste, uint32_t seed) {
  const Floats shared = normals(E, seed, taste.shared), own = normals(N * E, seed + 1, taste.own);
  Floats scores(N * E);
  for (int64_t i = 0; i < N * E; i++) scores[i] = shared[i % E] + own[i];
  return scores;
}
const Taste kTastes[] = {{"apart", 0, 1}, {"alike", 3, 0.3f}, {"the same", 1, 0}};

void drawn_balance(Pools& p) {
  const Tier tier = best_tier();
  // All want expert 0; the two with the least to lose go.
  CHECK(balance(p.two, tier, 2, {5, 0, 1, 0, 4, 0, 2, 0}, 2) == Ids{0, 1, 0, 1});
  // Token 2 takes the place of token 0, which takes that of token 1: 3 + 3 + 9 is more than 4 + 4 + 0.
  CHECK(balance(p.two, tier, 3, {4, 3, 0, 0, 4, 3, 9, 0, 0}, 1) == Ids{1, 2, 0});
  // Ties: the lower expert fills first, an earlier token stays.
  CHECK(balance(p.two, tier, 3, Floats(15, 0.5f), 2) == Ids{0, 0, 1, 1, 2});
  CHECK(balance(p.two, tier, 2, {0, 1, 0, 1, 0, 1, 0, 1}, 2) == Ids{1, 1, 0, 0});
  CHECK(balance(p.two, tier, 4, {}, 1).empty());
  CHECK(balance(p.two, tier, 1, {1, 2, 3}, 3) == Ids{0, 0, 0});
  CHECK(balance(p.two, tier, 3, {1, 3, 2}, 1000) == Ids{1});
  // Large numbers beside small ones.
  CHECK(balance(p.two, tier, 2, {3e38f, -3e38f, 3e38f, 3e38f}, 1) == Ids{0, 1});
}

void best_balances(Pools& p) {
  for (uint32_t seed = 1; seed <= 40; seed++) {
    const int64_t E = 1 + seed % 4, capacity = 1 + seed % 3, N = std::min<int64_t>(7, E * capacity - seed % 2);
    Floats scores = normals(N * E, seed);
    if (seed % 5 == 0) {
      for (float& s : scores) s = std::round(s);
    }
    Ids none(E, 0);
    const double best = best_sum(E, scores, capacity, none);
    double got = 0;
    const Ids experts = balance(p.one, best_tier(), E, scores, capacity);
    for (int64_t token = 0; token < N; token++) got += scores[token * E + experts[token]];
    CHECK(std::abs(got - best) < 1e-6);
    CHECK(is_best(E, scores, capacity, experts));
  }
  struct Size { int64_t N, E, capacity; };
  for (const Size& s : {Size{1, 1, 1}, {63, 9, 7}, {60, 9, 7}, {64, 64, 1}, {50, 64, 1}, {300, 8, 38}, {300, 7, 1000},
                        {512, 65, 8}}) {
    for (const Taste& taste : kTastes) {
      const Floats scores = scores_of(s.N, s.E, taste, 51);
      const Ids experts = balance(p.one, Tier::kScalar, s.E, scores, s.capacity);
      if (!CHECK(is_best(s.E, scores, s.capacity, experts))) {
        std::fprintf(stderr, "  %s, %d experts\n", taste.name, int(s.E));
      }
      for (Tier tier : present_tiers()) {
        for (ThreadPool* pool : {&p.one, &p.two, &p.four}) {
          CHECK(balance(*pool, tier, s.E, scores, s.capacity) == experts);
        }
      }
      // The judge can tell: two tokens that changed places are not the best.
      Ids worse = experts;
      const auto other = std::find_if(worse.begin(), worse.end(), [&](int32_t e) { return e != worse[0]; });
      if (taste.own < 1 || other == worse.end()) continue;
      std::swap(worse[0], *other);
      CHECK(!is_best(s.E, scores, s.capacity, worse));
    }
  }
}

void balance_errors(Pools& p) {
  const auto error = [&](int64_t E, const Floats& scores, int64_t capacity) {
    return error_of([&] { balance(p.two, best_tier(), E, scores, capacity); });
  };
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    CHECK(holds(error(3, {0, 0, 0, 0, bad, 0}, 1), "for token 1 and expert 1, expected a finite number"));
  }
  CHECK(holds(error(2, Floats(10), 2), "more tokens than experts times capacity"));
  CHECK(holds(error(2, Floats(2), 0), "capacity outside"));
  CHECK(holds(error(5000, Floats(5000), 1), "experts outside"));
}

// ---- figures

void bench() {
  ThreadPool pool(2);
  const int64_t N = 2048;
  Ids out;
  for (int64_t E : {64, 512}) {
    for (const Taste& taste : kTastes) {
      KernelCall call("balanced_assignment");
      call.in({N, E}, scores_of(N, E, taste, 61)).out({N}, out).attr(N / E);
      call.run_under(pool, best_tier(), [&](const auto& run) {
        std::printf("balanced_assignment N=2048 E=%-4d %-9s %9.2f ms\n", int(E), taste.name, median_ms(run, 9));
      });
    }
  }
  for (int64_t overflow : {0, 1}) {
    std::mt19937 engine(62);
    Ids ranking(N * 8);
    for (int32_t& e : ranking) e = static_cast<int32_t>(engine() % 64);
    KernelCall call("moe_capacity");
    call.in({N, 8}, ranking).absent().out({N, 8}, out).attr(int64_t{8}).attr(int64_t{40}).attr(int64_t{256});
    call.attr(overflow).attr(int64_t{64});
    call.run_under(pool, best_tier(), [&](const auto& run) {
      std::printf("moe_capacity N=2048 k=8 E=64 overflow %d %9.3f ms\n", int(overflow), median_ms(run, 50));
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  Pools pools;
  drawn_capacity(pools);
  capacity_against_the_loop(pools);
  capacity_errors(pools);
  drawn_balance(pools);
  best_balances(pools);
  balance_errors(pools);
  return report();
}
