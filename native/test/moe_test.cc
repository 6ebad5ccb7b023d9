// route_top_k, moe_plan, moe_combine, grouped_matmul and their gradients: drawn cases, loops in double, bits.
// Arguments: `--bench` prints what the plan, the routing and the products cost.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "check.h"
#include "clock.h"
#include "run_kernel.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

using Ids = std::vector<int32_t>;
using Floats = std::vector<float>;

// Routing runs on this tier; main() sets each in turn.
Tier tier_now = Tier::kScalar;

struct Pools {
  ThreadPool one{1}, two{2}, four{4};
};

double distance(const Floats& a, const Floats& b) {
  double far = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); i++) {
    const double x = std::abs(double{a[i]} - b[i]);
    far = x <= far ? far : x;
  }
  return far;
}

// ---- routing

struct Routed {
  Ids ids;
  Floats weights;
};

struct RouteOptions {
  int64_t k = 1, score = 0, renormalize = 0;
  double scale = 1;
  Floats bias = {};
  int64_t groups = 1, top_groups = 1, group_score = 0;
};

Routed route(ThreadPool& pool, int64_t E, const Floats& logits, const RouteOptions& o) {
  const int64_t N = static_cast<int64_t>(logits.size()) / E;
  Routed r;
  KernelCall call("route_top_k");
  call.in({N, E}, logits);
  o.bias.empty() ? call.absent() : call.in({E}, o.bias);
  call.out({N, o.k}, r.ids).out({N, o.k}, r.weights).attr(o.k).attr(o.score).attr(o.renormalize).attr(o.scale);
  call.attr(o.groups).attr(o.top_groups).attr(o.group_score).run(pool, tier_now);
  return r;
}

// The rule of docs/kernels.md in double, by a full stable sort.
Routed route_slowly(int64_t E, const Floats& logits, const RouteOptions& o) {
  Routed r;
  for (size_t row = 0; row < logits.size(); row += E) {
    std::vector<double> score(E);
    double sum = 0;
    for (int64_t e = 0; e < E; e++) {
      score[e] = o.score == 1 ? 1 / (1 + std::exp(-double{logits[row + e]})) : o.score == 0 ? std::exp(logits[row + e]) : logits[row + e];
      sum += score[e];
    }
    for (double& s : score) s /= o.score == 0 ? sum : 1;
    Ids order(E);
    std::iota(order.begin(), order.end(), 0);
    const int64_t size = E / o.groups;
    // Groups by falling score, then: an expert's place is that of its group inside the limit or outside.
    std::vector<std::pair<double, int64_t>> groups(o.groups);
    for (int64_t g = 0; g < o.groups; g++) {
      std::vector<double> own;
      for (int64_t e = g * size; e < (g + 1) * size; e++) own.push_back(score[e] + (o.bias.empty() ? 0 : o.bias[e]));
      std::sort(own.rbegin(), own.rend());
      groups[g] = {-own[0] - (o.group_score == 1 && size > 1 ? own[1] : 0), g};
    }
    std::sort(groups.begin(), groups.end());
    std::vector<bool> open(o.groups, false);
    for (int64_t g = 0; g < o.top_groups; g++) open[groups[g].second] = true;
    const auto selection = [&](int32_t e) {
      return std::pair(static_cast<bool>(open[e / size]), score[e] + (o.bias.empty() ? 0 : o.bias[e]));
    };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return selection(a) > selection(b); });
    std::vector<double> weight;
    for (int64_t k = 0; k < o.k; k++) weight.push_back(o.score == 2 ? std::exp(score[order[k]]) : score[order[k]]);
    const double total = std::accumulate(weight.begin(), weight.end(), o.score == 1 ? 1e-20 : 0.0);
    for (int64_t k = 0; k < o.k; k++) {
      r.ids.push_back(order[k]);
      r.weights.push_back(static_cast<float>(weight[k] / (o.score == 2 || o.renormalize ? total : 1) * o.scale));
    }
  }
  return r;
}

// Four tokens, two experts, drawn by hand.
void drawn_routing(Pools& p) {
  const Floats logits = {0, 0, std::log(3.0f), 0, 0, std::log(4.0f), -5, -5};
  Routed r = route(p.two, 2, logits, {.k = 1});
  CHECK(r.ids == Ids{0, 0, 1, 0});  // ties go to expert 0
  CHECK(distance(r.weights, {0.5f, 0.75f, 0.8f, 0.5f}) < 1e-6);
  r = route(p.two, 2, logits, {.k = 2});
  CHECK(r.ids == Ids{0, 1, 0, 1, 1, 0, 0, 1});
  CHECK(distance(r.weights, {0.5f, 0.5f, 0.75f, 0.25f, 0.8f, 0.2f, 0.5f, 0.5f}) < 1e-6);
  r = route(p.two, 2, logits, {.k = 1, .renormalize = 1, .scale = 2.5});
  CHECK(distance(r.weights, {2.5f, 2.5f, 2.5f, 2.5f}) < 1e-6);
  r = route(p.two, 2, logits, {.k = 1, .score = 2});
  CHECK(r.weights == Floats{1, 1, 1, 1});
  r = route(p.two, 2, {0, std::log(3.0f)}, {.k = 2, .score = 1, .renormalize = 1});
  CHECK(r.ids == Ids{1, 0});
  CHECK(distance(r.weights, {0.6f, 0.4f}) < 1e-6);  // sigmoids 0.75 and 0.5
  // The bias chooses, the weight does not know of it.
  r = route(p.two, 2, {0, std::log(3.0f)}, {.k = 1, .score = 1, .bias = {0.5f, 0}});
  CHECK(r.ids == Ids{0});
  CHECK(distance(r.weights, {0.5f}) < 1e-6);
  // A masked expert comes last, and weighs nothing.
  const float inf = std::numeric_limits<float>::infinity();
  r = route(p.two, 2, {-inf, 1}, {.k = 2, .renormalize = 1});
  CHECK(r.ids == Ids{1, 0} && r.weights == Floats{1, 0});
  r = route(p.two, 2, {-inf, -inf}, {.k = 1, .renormalize = 1});
  CHECK(r.ids == Ids{0} && r.weights == Floats{0});
  r = route(p.two, 2, {inf, 0}, {.k = 1, .score = 1});
  CHECK(r.ids == Ids{0} && r.weights == Floats{1});
}

void routing_against_the_loop(Pools& p) {
  struct Size { int64_t N, E, k; };
  for (const Size& size : {Size{1, 1, 1}, {3, 2, 2}, {33, 7, 3}, {64, 64, 8}, {5, 128, 16}, {5, 128, 17}, {40, 512, 10}, {9, 512, 512}, {2000, 8, 2}}) {
    const Floats logits = normals(size.N * size.E, 11, 2);
    for (int64_t score : {0, 1, 2}) {
      for (int64_t renormalize : {0, 1}) {
        RouteOptions o{.k = size.k, .score = score, .renormalize = renormalize, .scale = 1.5};
        for (bool biased : {false, true}) {
          if (biased) o.bias = normals(size.E, 12, 0.1f);
          const Routed got = route(p.one, size.E, logits, o), expected = route_slowly(size.E, logits, o);
          CHECK(got.ids == expected.ids);
          CHECK(distance(got.weights, expected.weights) < 2e-6);
          const Routed wide = route(p.four, size.E, logits, o);
          CHECK(wide.ids == got.ids && same_bits(wide.weights, got.weights));
        }
      }
    }
  }
}

void routing_of_groups(Pools& p) {
  // Groups (0.9, 0.1) (0.6, 0.5) (0.7, 0.2) of sigmoids: by the largest 0 and 2, by the two largest 1 and 0.
  Floats logits = {0.9f, 0.1f, 0.6f, 0.5f, 0.7f, 0.2f};
  for (float& x : logits) x = std::log(x / (1 - x));
  RouteOptions o{.k = 2, .score = 1, .groups = 3, .top_groups = 2};
  CHECK(route(p.two, 6, logits, o).ids == Ids{0, 4});
  o.group_score = 1;
  CHECK(route(p.two, 6, logits, o).ids == Ids{0, 2});
  o.k = 4;
  CHECK(route(p.two, 6, logits, o).ids == Ids{0, 2, 3, 1});
  // The bias chooses the group, and does not weigh.
  const Routed r = route(p.two, 6, logits, {.k = 1, .score = 1, .bias = {0, 0, 0, 0, 0, 1}, .groups = 3, .top_groups = 1});
  CHECK(r.ids == Ids{5} && distance(r.weights, {0.2f}) < 1e-6);
  // Equal groups: the lower ones. Equal experts: the lower one, though its group is the worse (3 = 2 + 1 < 2 + 2).
  const Routed even = route(p.two, 8, Floats(8, 0.5f), {.k = 3, .groups = 4, .top_groups = 2});
  CHECK(even.ids == Ids{0, 1, 2});
  CHECK(route(p.two, 6, {0, 0, 2, 1, 2, 2}, {.k = 3, .score = 2, .groups = 3, .top_groups = 2, .group_score = 1}).ids == Ids{2, 4, 5});
  // Experts of -infinity inside the limit come before all others.
  const float inf = std::numeric_limits<float>::infinity();
  for (int64_t score : {0, 2}) {
    const RouteOptions masked{.k = 2, .score = score, .groups = 2, .top_groups = 1};
    CHECK(route(p.two, 4, {-inf, -inf, -inf, 1}, masked).ids == Ids{3, 2});
    CHECK(route(p.two, 4, {-inf, -inf, -inf, -inf}, masked).ids == Ids{0, 1});
  }

  struct Size { int64_t N, E, k, groups, top; };
  for (const Size& s : {Size{1, 1, 1, 1, 1}, {5, 6, 3, 6, 4}, {33, 21, 7, 7, 3}, {40, 256, 8, 8, 4}, {9, 60, 12, 5, 1},
                        {9, 160, 40, 4, 2}, {7, 96, 20, 3, 2}, {3, 512, 17, 32, 20}, {1500, 12, 2, 3, 2}}) {
    const Floats logits = normals(s.N * s.E, 17, 2);
    for (int64_t score : {0, 1, 2}) {
      for (int64_t group_score : {0, 1}) {
        const RouteOptions o{.k = s.k, .score = score, .bias = normals(s.E, 18, 0.1f), .groups = s.groups,
                             .top_groups = s.top, .group_score = group_score};
        const Routed got = route(p.one, s.E, logits, o), expected = route_slowly(s.E, logits, o);
        CHECK(got.ids == expected.ids);
        CHECK(distance(got.weights, expected.weights) < 2e-6);
        for (ThreadPool* pool : {&p.two, &p.four}) {
          const Routed wide = route(*pool, s.E, logits, o);
          CHECK(wide.ids == got.ids && same_bits(wide.weights, got.weights));
        }
      }
    }
  }
}

void ties_go_to_the_lower_expert(Pools& p) {
  for (int64_t k : {3, 16, 17, 100, 512}) {
    Floats logits(2 * 512);
    for (size_t i = 0; i < logits.size(); i++) logits[i] = static_cast<float>(i * 7 % 3);  // three values only
    const RouteOptions o{.k = k, .score = 2};
    CHECK(route(p.one, 512, logits, o).ids == route_slowly(512, logits, o).ids);
    Ids first(k);
    std::iota(first.begin(), first.end(), 0);
    CHECK(route(p.one, 512, Floats(512, 0.25f), {.k = k}).ids == first);
  }
}

void routing_errors(Pools& p) {
  Floats logits = normals(40 * 8, 13);
  logits[17 * 8 + 5] = NAN;
  CHECK(holds(error_of([&] { route(p.two, 8, logits, {.k = 2}); }), "token 17 and expert 5"));
  logits[17 * 8 + 5] = INFINITY;
  CHECK(holds(error_of([&] { route(p.two, 8, logits, {.k = 2}); }), "token 17 and expert 5"));
  CHECK(holds(error_of([&] { route(p.two, 2, {0, 0}, {.k = 1, .bias = {0, NAN}}); }), "expert 1"));
  CHECK(holds(error_of([&] { route(p.two, 2, {-INFINITY, 0}, {.k = 1, .bias = {INFINITY, 0}}); }), "bias inf for expert 0"));
  CHECK(holds(error_of([&] { route(p.two, 2, {0, 0}, {.k = 3}); }), "k outside"));
  const auto groups = [&](int64_t k, int64_t groups, int64_t top, int64_t score) {
    return error_of([&] {
      route(p.two, 4, {0, 0, 0, 0}, {.k = k, .groups = groups, .top_groups = top, .group_score = score});
    });
  };
  CHECK(groups(2, 4, 2, 1).empty());
  CHECK(holds(groups(1, 3, 1, 0), "no multiple of the groups"));
  CHECK(holds(groups(1, 0, 1, 0), "no multiple of the groups"));
  CHECK(holds(groups(1, 2, 3, 0), "top groups outside"));
  CHECK(holds(groups(1, 2, 0, 0), "top groups outside"));
  CHECK(holds(groups(3, 4, 2, 0), "k above"));
  CHECK(holds(groups(1, 2, 1, 2), "unknown group score"));
  CHECK(holds(error_of([&] { route(p.two, 2, {0, 0}, {.k = 1, .score = 3}); }), "unknown score"));
}

// ---- the plan

struct Plan {
  Ids offsets, row_token, slot_row;
  bool operator==(const Plan&) const = default;
};

// rows: the most that the plan may hold; -1: one for each pair.
Plan plan(ThreadPool& pool, int64_t K, int64_t E, const Ids& ids, int64_t rows = -1) {
  const int64_t pairs = static_cast<int64_t>(ids.size());
  Plan r;
  KernelCall call("moe_plan");
  call.in({pairs / K, K}, ids).out({E + 1}, r.offsets);
  call.out({rows < 0 ? pairs : rows}, r.row_token).out({pairs / K, K}, r.slot_row);
  call.run(pool, best_tier());
  return r;
}

Plan plan_slowly(int64_t K, int64_t E, const Ids& ids, int64_t rows = -1) {
  Plan r{{}, {}, Ids(ids.size(), -1)};
  for (int64_t e = 0; e < E; e++) {
    r.offsets.push_back(static_cast<int32_t>(r.row_token.size()));
    for (size_t i = 0; i < ids.size(); i++) {
      if (ids[i] != e) continue;
      r.slot_row[i] = static_cast<int32_t>(r.row_token.size());
      r.row_token.push_back(static_cast<int32_t>(i / K));
    }
  }
  r.offsets.push_back(static_cast<int32_t>(r.row_token.size()));
  r.row_token.resize(rows < 0 ? ids.size() : rows, -1);
  return r;
}

Ids random_ids(int64_t n, int64_t E, double dropped, uint32_t seed) {
  std::mt19937 engine(seed);
  Ids ids(n);
  for (int32_t& id : ids) id = engine() % 1000 < dropped * 1000 ? -1 : static_cast<int32_t>(engine() % E);
  return ids;
}

void plans(Pools& p) {
  // Tokens 0 to 3 choose (1,0) (1,1) (0,1) (1, dropped).
  const Plan drawn = plan(p.two, 2, 2, {1, 0, 1, 1, 0, 1, 1, -1});
  CHECK(drawn.offsets == Ids{0, 2, 7});
  CHECK(drawn.row_token == Ids{0, 2, 0, 1, 1, 2, 3, -1});
  CHECK(drawn.slot_row == Ids{2, 0, 3, 4, 1, 5, 6, -1});

  struct Size { int64_t N, K, E; double dropped; };
  for (const Size& s : {Size{1, 1, 1, 0}, {1, 8, 64, 0}, {7, 3, 5, 0.3}, {2048, 8, 64, 0}, {5000, 4, 300, 0.1}, {9000, 1, 2, 1}, {0, 2, 4, 0}}) {
    const Ids ids = random_ids(s.N * s.K, s.E, s.dropped, 5);
    const Plan expected = plan_slowly(s.K, s.E, ids);
    CHECK(plan(p.one, s.K, s.E, ids) == expected);
    CHECK(plan(p.two, s.K, s.E, ids) == expected);
    CHECK(plan(p.four, s.K, s.E, ids) == expected);
  }
  const Ids all_to_one(3000 * 4, 6);
  CHECK(plan(p.four, 4, 9, all_to_one) == plan_slowly(4, 9, all_to_one));
  // Room for exactly the pairs that are kept, for more, and for one less.
  const Ids sparse = random_ids(3000 * 8, 8, 0.9, 7);
  const int64_t kept = std::count_if(sparse.begin(), sparse.end(), [](int32_t id) { return id >= 0; });
  for (int64_t rows : {kept, kept + 1, int64_t{30000}}) {
    for (ThreadPool* pool : {&p.one, &p.two, &p.four}) CHECK(plan(*pool, 8, 8, sparse, rows) == plan_slowly(8, 8, sparse, rows));
  }
  CHECK(plan(p.two, 2, 3, {-1, -1}, 0) == plan_slowly(2, 3, {-1, -1}, 0));
  const std::string both = "got " + std::to_string(kept) + " choices that are not -1, expected at most " + std::to_string(kept - 1) + " rows";
  CHECK(holds(error_of([&] { plan(p.four, 8, 8, sparse, kept - 1); }), both.c_str()));
  CHECK(holds(error_of([&] { plan(p.one, 2, 2, {0, 1}, 0); }), "got 2 choices that are not -1, expected at most 0 rows"));
  CHECK(holds(error_of([&] { plan(p.one, 2, 2, {0, 1, 0, 2}); }), "expert 2 for token 1"));
  CHECK(holds(error_of([&] { plan(p.one, 2, 2, {0, 1, -2, 0}); }), "expert -2 for token 1"));
}

// ---- combine

void combines(Pools& p) {
  struct Size { int64_t N, K, E, D; double dropped; };
  for (const Size& s : {Size{1, 1, 1, 1, 0}, {4, 2, 3, 5, 0.3}, {33, 8, 64, 64, 0}, {100, 4, 8, 200, 0.2}, {3, 2, 2, 129, 1}}) {
    const int64_t R = s.N * s.K;
    const Ids slots = plan(p.one, s.K, s.E, random_ids(R, s.E, s.dropped, 6)).slot_row;
    const Floats rows = normals(R * s.D, 21), weights = normals(R, 22), dy = normals(s.N * s.D, 23);
    Floats y(s.N * s.D), dw(R);
    for (int64_t n = 0; n < s.N; n++) {
      for (int64_t d = 0; d < s.D; d++) {
        double sum = 0;
        for (int64_t k = 0; k < s.K; k++) {
          if (slots[n * s.K + k] >= 0) sum += double{weights[n * s.K + k]} * rows[slots[n * s.K + k] * s.D + d];
        }
        y[n * s.D + d] = static_cast<float>(sum);
      }
      for (int64_t k = 0; k < s.K; k++) {
        double sum = 0;
        for (int64_t d = 0; d < s.D && slots[n * s.K + k] >= 0; d++) {
          sum += double{rows[slots[n * s.K + k] * s.D + d]} * dy[n * s.D + d];
        }
        dw[n * s.K + k] = static_cast<float>(sum);
      }
    }
    for (Tier tier : present_tiers()) {
      Floats first_y, first_dw;
      for (ThreadPool* pool : {&p.one, &p.two, &p.four}) {
        Floats got_y, got_dw;
        KernelCall("moe_combine").in({R, s.D}, rows).in({s.N, s.K}, slots).in({s.N, s.K}, weights).out({s.N, s.D}, got_y).run(*pool, tier);
        KernelCall("moe_combine_grad").in({R, s.D}, rows).in({s.N, s.K}, slots).in({s.N, s.D}, dy).out({s.N, s.K}, got_dw).run(*pool, tier);
        CHECK(distance(got_y, y) < 1e-5);
        CHECK(distance(got_dw, dw) < 1e-4);
        if (first_y.empty()) first_y = got_y, first_dw = got_dw;
        CHECK(same_bits(got_y, first_y) && same_bits(got_dw, first_dw));
      }
    }
  }
  // Without weights a row counts once.
  for (Tier tier : present_tiers()) {
    Floats ones, plain;
    const Floats rows = normals(5 * 70, 23);
    const Ids slots = {0, 4, -1, 2, 3, -1};
    KernelCall("moe_combine").in({5, 70}, rows).in({3, 2}, slots).in({3, 2}, Floats(6, 1.0f)).out({3, 70}, ones).run(p.two, tier);
    KernelCall("moe_combine").in({5, 70}, rows).in({3, 2}, slots).absent().out({3, 70}, plain).run(p.two, tier);
    CHECK(same_bits(ones, plain));
  }
  Floats y;
  const auto bad = [&](int32_t row) {
    return error_of([&] {
      KernelCall("moe_combine").in({2, 4}, Floats(8)).in({1, 2}, Ids{0, row}).in({1, 2}, Floats(2)).out({1, 4}, y).run(p.one, best_tier());
    });
  };
  CHECK(bad(1).empty());
  CHECK(holds(bad(2), "slot row 2 for token 0"));
  CHECK(holds(bad(-2), "slot row -2 for token 0"));
}

// ---- products of experts

struct Grouped {
  const char* name;
  Ids offsets;
  int64_t R, K, N;
};

const Grouped kGrouped[] = {
    {"one row", {0, 1}, 1, 3, 2},
    {"empty experts", {0, 0, 5, 5, 9, 9}, 9, 20, 33},
    {"rows past the last expert", {0, 3, 4}, 11, 16, 64},
    {"all to one expert", {0, 0, 500, 500}, 500, 40, 70},
    {"odd", {0, 13, 14, 40}, 40, 131, 67},
    {"blocks of rows", {0, 193, 600}, 600, 17, 16},
    {"no inner dimension", {0, 2, 4}, 4, 0, 5},
    {"no rows", {0, 0, 0}, 0, 8, 8},
    {"long inner dimension", {0, 7, 30}, 30, 300, 65},
    {"few rows, whole vectors", {0, 1, 17, 17, 30}, 30, 80, 592},
    {"many rows, whole vectors", {0, 3, 27, 91, 700}, 700, 48, 208},
    {"long inner dimension, whole vectors", {0, 16, 40}, 40, 2300, 32},
    {"many columns of the gradient", {0, 40, 170}, 170, 1100, 200},
    {"past the caches", {0, 0, 2, 20}, 20, 1408, 1024},
};

// y = x · wᵀ for the rows of each expert, with `ids` picking rows of x.
KernelCall product(const Grouped& g, int64_t E, const Floats& x, const Ids* ids, const Floats& w, Floats& y, bool transpose,
                   const Floats* x2 = nullptr, const Floats* w2 = nullptr) {
  KernelCall call("grouped_matmul");
  call.in({ids == nullptr ? g.R : static_cast<int64_t>(x.size()) / g.K, g.K}, x);
  call.in(transpose ? std::vector<int64_t>{E, g.K, g.N} : std::vector<int64_t>{E, g.N, g.K}, w).in({E + 1}, g.offsets);
  ids == nullptr ? call.absent() : call.in({g.R}, *ids);
  if (x2 == nullptr) return std::move(call.absent().absent().out({g.R, g.N}, y).attr(int64_t{transpose}));
  const int64_t K2 = static_cast<int64_t>(w2->size()) / (E * g.N);
  call.in({g.R, K2}, *x2).in(transpose ? std::vector<int64_t>{E, K2, g.N} : std::vector<int64_t>{E, g.N, K2}, *w2);
  return std::move(call.out({g.R, g.N}, y).attr(int64_t{transpose}));
}

void grouped_products(Pools& p) {
  for (const Grouped& g : kGrouped) {
    const int64_t E = static_cast<int64_t>(g.offsets.size()) - 1;
    const Floats x = normals(g.R * g.K, 31), w = normals(E * g.N * g.K, 32), dy = normals(g.R * g.N, 33);
    Floats turned(w.size()), y(g.R * g.N, 0.0f), dw(w.size());
    for (int64_t e = 0; e < E; e++) {
      for (int64_t n = 0; n < g.N; n++) {
        for (int64_t k = 0; k < g.K; k++) {
          turned[(e * g.K + k) * g.N + n] = w[(e * g.N + n) * g.K + k];
          double sum = 0;
          for (int64_t r = g.offsets[e]; r < g.offsets[e + 1]; r++) sum += double{dy[r * g.N + n]} * x[r * g.K + k];
          dw[(e * g.N + n) * g.K + k] = static_cast<float>(sum);
        }
        for (int64_t r = g.offsets[e]; r < g.offsets[e + 1]; r++) {
          double sum = 0;
          for (int64_t k = 0; k < g.K; k++) sum += double{x[r * g.K + k]} * w[(e * g.N + n) * g.K + k];
          y[r * g.N + n] = static_cast<float>(sum);
        }
      }
    }
    for (Tier tier : present_tiers()) {
      Floats first_y, first_dw;
      for (ThreadPool* pool : {&p.one, &p.two, &p.four}) {
        Floats plain, transposed, grad;
        product(g, E, x, nullptr, w, plain, false).run(*pool, tier);
        product(g, E, x, nullptr, turned, transposed, true).run(*pool, tier);
        KernelCall("grouped_matmul_grad").in({g.R, g.N}, dy).in({g.R, g.K}, x).in({E + 1}, g.offsets).absent().absent().out({E, g.N, g.K}, grad).run(*pool, tier);
        const bool near = distance(plain, y) < 4e-4 && distance(grad, dw) < 4e-4;
        if (!CHECK(near)) {
          std::fprintf(stderr, "  %s, %s: %g %g\n", g.name, tier_name(tier), distance(plain, y), distance(grad, dw));
        }
        CHECK(same_bits(plain, transposed));
        if (pool == &p.one) first_y = plain, first_dw = grad;
        CHECK(same_bits(plain, first_y) && same_bits(grad, first_dw));
      }
      // One row alone gives the bits it has among the others.
      if (g.R == 0 || g.offsets[1] == 0) continue;
      Floats alone;
      Ids offsets(E + 1, 1);
      offsets[0] = 0;
      KernelCall("grouped_matmul").in({1, g.K}, Floats(x.begin(), x.begin() + g.K)).in({E, g.N, g.K}, w).in({E + 1}, offsets).absent().absent().absent().out({1, g.N}, alone).attr(int64_t{0}).run(p.one, tier);
      CHECK(std::memcmp(alone.data(), first_y.data(), g.N * sizeof(float)) == 0);
    }
  }
  Floats y;
  const auto bad = [&](const Ids& offsets) {
    return error_of([&] {
      KernelCall("grouped_matmul").in({4, 2}, Floats(8)).in({2, 3, 2}, Floats(12)).in({3}, offsets).absent().absent().absent().out({4, 3}, y).attr(int64_t{0}).run(p.one, best_tier());
    });
  };
  CHECK(bad({0, 2, 4}).empty());
  CHECK(holds(bad({1, 2, 4}), "got expert offset 1 at 0"));
  CHECK(holds(bad({0, 3, 2}), "got expert offset 2 at 2"));
  CHECK(holds(bad({0, 3, 5}), "got expert offset 5 at 2"));
  CHECK(holds(bad({0, -1, 4}), "got expert offset -1 at 1"));
}

// Rows that an index picks give the bits of gathered rows; a second product goes on with the chain of the first.
void picked_rows(Pools& p) {
  for (const Grouped& g : kGrouped) {
    if (g.K == 0) continue;
    const int64_t E = static_cast<int64_t>(g.offsets.size()) - 1, S = 7, K2 = std::min<int64_t>(g.K, 3), K1 = g.K - K2;
    const Floats few_x = normals(S * g.K, 41), few_dy = normals(S * g.N, 42), w = normals(E * g.N * g.K, 43);
    Ids x_ids(g.R, -1), dy_ids(g.R, -1);
    Floats x(g.R * g.K), dy(g.R * g.N);
    for (int64_t r = 0; r < g.offsets[E]; r++) {
      x_ids[r] = static_cast<int32_t>((r * 3 + 1) % S), dy_ids[r] = static_cast<int32_t>((r * 5 + 2) % S);
      std::copy_n(few_x.begin() + x_ids[r] * g.K, g.K, x.begin() + r * g.K);
      std::copy_n(few_dy.begin() + dy_ids[r] * g.N, g.N, dy.begin() + r * g.N);
    }
    // The columns of x and w in two parts.
    const auto part = [&](const Floats& from, int64_t begin, int64_t width) {
      Floats to;
      for (size_t i = 0; i < from.size(); i += g.K) to.insert(to.end(), from.begin() + i + begin, from.begin() + i + begin + width);
      return to;
    };
    const Floats x1 = part(few_x, 0, K1), w1 = part(w, 0, K1), x2 = part(x, K1, K2), w2 = part(w, K1, K2);
    Grouped first = g;
    first.K = K1;
    for (Tier tier : present_tiers()) {
      Floats gathered, picked, both, grad, picked_grad;
      product(g, E, x, nullptr, w, gathered, false).run(p.two, tier);
      product(g, E, few_x, &x_ids, w, picked, false).run(p.two, tier);
      CHECK(same_bits(gathered, picked));
      if (K1 > 0) {
        product(first, E, x1, &x_ids, w1, both, false, &x2, &w2).run(p.two, tier);
        CHECK(same_bits(gathered, both));
      }
      KernelCall("grouped_matmul_grad").in({g.R, g.N}, dy).in({g.R, g.K}, x).in({E + 1}, g.offsets).absent().absent().out({E, g.N, g.K}, grad).run(p.two, tier);
      KernelCall("grouped_matmul_grad").in({S, g.N}, few_dy).in({S, g.K}, few_x).in({E + 1}, g.offsets).in({g.R}, dy_ids).in({g.R}, x_ids).out({E, g.N, g.K}, picked_grad).run(p.two, tier);
      CHECK(same_bits(grad, picked_grad));
    }
  }
  Floats y;
  const auto bad = [&](const Ids& ids) {
    return error_of([&] {
      KernelCall("grouped_matmul").in({2, 2}, Floats(4)).in({2, 3, 2}, Floats(12)).in({3}, Ids{0, 2, 3}).in({4}, ids).absent().absent().out({4, 3}, y).attr(int64_t{0}).run(p.one, best_tier());
    });
  };
  CHECK(bad({0, 1, 1, -1}).empty());
  CHECK(holds(bad({0, 2, 1, -1}), "row id 2 at row 1"));
  CHECK(holds(bad({0, 1, -1, -1}), "row id -1 at row 2"));
}

// ---- figures

void bench() {
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    const Tier tier = best_tier();
    const auto time = [&](const char* name, KernelCall& call, double flop, int runs) {
      call.run_under(pool, tier, [&](const auto& run) {
        const double us = 1000 * median_ms(run, runs);
        std::printf("%-28s %d threads %10.1f us", name, threads, us);
        flop > 0 ? std::printf(" %8.1f GFLOP/s\n", flop / us / 1e3) : std::printf("\n");
      });
    };
    const int64_t N = 2048, K = 8, E = 64, D = 1024, F = 512, R = N * K;
    const Ids ids = random_ids(R, E, 0, 9);
    const Plan made = plan(pool, K, E, ids);
    Plan out;
    KernelCall a("moe_plan");
    a.in({N, K}, ids).out({E + 1}, out.offsets).out({R}, out.row_token).out({N, K}, out.slot_row);
    time("moe_plan T=2048", a, 0, 100);
    KernelCall a1("moe_plan");
    a1.in({1, K}, Ids(ids.begin(), ids.begin() + K)).out({E + 1}, out.offsets).out({K}, out.row_token).out({1, K}, out.slot_row);
    time("moe_plan T=1", a1, 0, 1000);
    Routed routed;
    KernelCall b("route_top_k");
    b.in({N, E}, normals(N * E, 1)).absent().out({N, K}, routed.ids).out({N, K}, routed.weights);
    b.attr(K).attr(int64_t{0}).attr(int64_t{1}).attr(1.0).attr(int64_t{1}).attr(int64_t{1}).attr(int64_t{0});
    time("route_top_k T=2048", b, 0, 50);
    for (int64_t top : {8, 4}) {
      KernelCall g("route_top_k");
      g.in({N, 256}, normals(N * 256, 1)).absent().out({N, K}, routed.ids).out({N, K}, routed.weights);
      g.attr(K).attr(int64_t{1}).attr(int64_t{1}).attr(1.0).attr(int64_t{8}).attr(top).attr(int64_t{1});
      time(top == 8 ? "route_top_k E=256" : "route_top_k E=256, 4 of 8", g, 0, 50);
    }
    Floats y, dx, dw, w = normals(E * F * D, 2), x = normals(R * D, 3), dy = normals(R * F, 4);
    KernelCall c("moe_combine");
    c.in({R, D}, x).in({N, K}, made.slot_row).in({N, K}, normals(R, 5)).out({N, D}, dx);
    time("moe_combine D=1024", c, 2.0 * R * D, 20);
    KernelCall d("grouped_matmul");
    d.in({R, D}, x).in({E, F, D}, w).in({E + 1}, made.offsets).absent().absent().absent().out({R, F}, y).attr(int64_t{0});
    time("grouped_matmul", d, 2.0 * R * D * F, 5);
    KernelCall e("grouped_matmul");
    e.in({R, F}, dy).in({E, F, D}, w).in({E + 1}, made.offsets).absent().absent().absent().out({R, D}, dx).attr(int64_t{1});
    time("grouped_matmul transposed", e, 2.0 * R * D * F, 5);
    KernelCall f("grouped_matmul_grad");
    f.in({R, F}, dy).in({R, D}, x).in({E + 1}, made.offsets).absent().absent().out({E, F, D}, dw);
    time("grouped_matmul_grad", f, 2.0 * R * D * F, 5);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  Pools pools;
  for (Tier tier : present_tiers()) {
    tier_now = tier;
    drawn_routing(pools);
    routing_against_the_loop(pools);
    routing_of_groups(pools);
    ties_go_to_the_lower_expert(pools);
    routing_errors(pools);
  }
  plans(pools);
  combines(pools);
  grouped_products(pools);
  picked_rows(pools);
  return report();
}
