// Cuts through candidates, and the passes that they are made of, against plain loops and a whole sort: every tier, one thread
// and four.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "call.h"
#include "check.h"
#include "cpu/samplers/select.h"
#include "cpu/samplers/sort_falling.h"

using namespace switchyard;
using namespace switchyard::test;
using namespace switchyard::samplers;

namespace {

using Floats = std::vector<float>;

class Memory {
 public:
  explicit Memory(int64_t v)
      : bytes_(std::aligned_alloc(64, size_t(RowMemory::bytes(v) + 63) / 64 * 64), std::free),
        row(static_cast<std::byte*>(bytes_.get()), v) {}

 private:
  std::unique_ptr<void, void (*)(void*)> bytes_;

 public:
  const RowMemory row;
};

// Places by falling order, equal ones rising.
std::vector<int64_t> falling(const Floats& order) {
  std::vector<int64_t> places(order.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(), [&](int64_t a, int64_t b) { return order[size_t(a)] > order[size_t(b)]; });
  return places;
}

int64_t taken_by(const Cut& cut, const Floats& order) {
  const auto above = std::count_if(order.begin(), order.end(), [&](float x) { return x > cut.limit; });
  return above + (cut.equal ? cut.equal : std::count(order.begin(), order.end(), cut.limit));
}

enum class By { kOrder, kOne, kOthers };

struct Shape {
  const char* name;
  Floats order;  // >= 0, in steps of 1/64 up to 64: their sums are exact
};

std::vector<Shape> shapes(int64_t n) {
  std::mt19937 random(5);
  const auto make = [&](const char* name, auto value) {
    Floats x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); i++) x[i] = float(value(i));
    return Shape{name, x};
  };
  const auto steps = [&](uint32_t below) { return float(random() % below) / 64; };
  return {
      make("even", [&](size_t) { return steps(4096); }),
      make("equal", [&](size_t) { return 1.0f; }),
      make("zero", [&](size_t) { return 0.0f; }),
      make("two values", [&](size_t) { return random() % 3 == 0 ? 0.5f : 0.75f; }),
      make("nearly all equal", [&](size_t) { return random() % 50 == 0 ? steps(4096) : 0.25f; }),
      make("few hold the mass", [&](size_t i) { return i % 997 == 3 ? 64.0f : i % 5 == 0 ? 1 / 64.0f : 0.0f; }),
      make("one holds the mass", [&](size_t i) { return i == 0 ? 64.0f : 0.0f; }),
      make("removed ones", [&](size_t) { return random() % 4 == 0 ? steps(64) : -0.0f; }),
      make("rising", [&](size_t i) { return std::floor(double(i) / double(n) * 4096) / 64; }),
      make("in waves", [&](size_t i) { return float(i % 73) / 64; }),
  };
}

void test_exact_cuts() {
  ThreadPool one(1), four(4);
  for (int64_t n : {1, 2, 3, 16, 17, 300, 2048, 2049, 5000, 20011, 150000}) {
    const Memory memory(n);
    for (const auto& [name, order] : shapes(n)) {
      const auto places = falling(order);
      Floats others(order.size());
      for (size_t i = 0; i < others.size(); i++) others[i] = float(i % 7) / 4;
      for (By by : {By::kOrder, By::kOne, By::kOthers}) {
        const float* weights = by == By::kOrder ? order.data() : by == By::kOne ? nullptr : others.data();
        const auto weight = [&](int64_t i) { return weights ? double(weights[i]) : 1.0; };
        double total = 0;
        for (int64_t i = 0; i < n; i++) total += weight(i);
        for (double share : {0.0, 1e-4, 0.3, 0.5, 0.9, 0.9999, 1.0}) {
          const double target = std::ceil(share * total * 64) / 64;
          int64_t expected = 0;
          for (double sum = 0; expected < n; expected++) {
            if (expected > 0 && sum >= target) break;
            sum += weight(places[size_t(expected)]);
          }
          for (Tier tier : math_tiers()) {
            for (ThreadPool* pool : {&one, &four}) {
              if (pool == &four && n < 20000) continue;
              Context context;
              context.pool = pool;
              context.threads = pool->threads();
              const Passes passes(pool == &four ? &context : nullptr);
              const Cut cut = find_cut(math_table(tier), passes, memory.row, {order.data(), weights, n}, total, target);
              // Among equal orders with other weights the cut tells only the order.
              const float limit = order[size_t(places[size_t(expected - 1)])];
              const bool right = by == By::kOthers ? cut.limit == limit : taken_by(cut, order) == expected;
              if (!CHECK(right)) {
                std::fprintf(stderr, "  %s, n %lld, weights %d, share %g: limit %g, %lld of it, expected %lld\n", name,
                             (long long)n, int(by), share, double(cut.limit), (long long)cut.equal, (long long)expected);
              }
            }
          }
        }
      }
    }
  }
}

// Where sums round, what is taken reaches the target, and would not without the last one, but for rounding.
void test_rounded_cuts() {
  for (int64_t n : {100, 5000, 150000}) {
    const Memory memory(n);
    for (float spread : {0.1f, 1.0f, 4.0f, 30.0f}) {
      Floats w = normals(n, 7, spread);
      const float top = *std::max_element(w.begin(), w.end());
      for (float& x : w) x = std::exp(x - top);
      const auto places = falling(w);
      double total = 0;
      for (const float x : w) total += double(x);
      for (double p : {0.01, 0.5, 0.95, 0.999999}) {
        Cut first;
        for (Tier tier : math_tiers()) {
          const Cut cut =
              find_cut(math_table(tier), Passes(nullptr), memory.row, {w.data(), w.data(), n}, total, p * total);
          const int64_t taken = taken_by(cut, w);
          double sum = 0;
          for (int64_t i = 0; i < taken; i++) sum += double(w[size_t(places[size_t(i)])]);
          const double last = double(w[size_t(places[size_t(taken - 1)])]);
          CHECK(sum >= p * total * (1 - 1e-6) && sum - last <= p * total * (1 + 1e-6));
          if (tier == Tier::kScalar) first = cut;
          CHECK(cut.limit == first.limit && cut.equal == first.equal);
        }
      }
    }
  }
}

// The same, where order is nearness: that of what a pass would have written.
void test_cuts_by_nearness() {
  for (int64_t n : {1, 60, 3000, 150000}) {
    const Memory memory(n);
    for (float spread : {0.0f, 1e-4f, 0.5f, 8.0f}) {
      const Floats x = normals(n, 12, spread);
      Floats w(x.size()), order(x.size());
      const float top = *std::max_element(x.begin(), x.end());
      const Nearness nearness{top, 1.5f, -1.25f};
      double total = 0;
      for (size_t i = 0; i < x.size(); i++) {
        w[i] = std::exp2((x[i] - top) * 1.5f);
        total += double(w[i]);
        order[i] = nearness.of(x[i]);
      }
      for (Tier tier : math_tiers()) {
        for (double mass : {1e-3, 0.2, 0.9, 0.9999}) {
          const auto cut = [&](const Candidates& c) {
            return find_cut(math_table(tier), Passes(nullptr), memory.row, c, total, mass * total);
          };
          const float by_nearness = cut({x.data(), w.data(), n, &nearness}).limit, by_order = cut({order.data(), w.data(), n}).limit;
          if (!CHECK(by_nearness == by_order)) {
            std::fprintf(stderr, "  n %lld, spread %g, mass %g: %g, %g\n", (long long)n, double(spread), mass,
                         double(by_nearness), double(by_order));
          }
          Floats thinned = w, plain = w;
          int64_t left, expected;
          const double sum = math_table(tier).thin(thinned.data(), x.data(), &nearness, n, by_order, &left);
          CHECK(math_table(tier).thin(plain.data(), order.data(), nullptr, n, by_order, &expected) == sum);
          CHECK(left == expected && same_bits(thinned, plain));
        }
      }
    }
  }
}

void test_sort_falling() {
  for (int64_t n : {0, 1, 2, 17, 3000, 100000}) {
    for (int shape = 0; shape < 5; shape++) {
      Floats x = normals(n, uint32_t(shape), 2);
      for (size_t i = 0; i < x.size(); i++) {
        if (shape == 1) x[i] = 0.75f;
        if (shape == 2) x[i] = std::round(x[i]);  // zeros of both signs
        if (shape == 3 && i % 3 == 0) x[i] = -INFINITY;
        if (shape == 4) x[i] = std::ldexp(x[i], int(i % 250) - 140);
      }
      Floats expected = x;
      std::sort(expected.begin(), expected.end(), std::greater<float>());
      std::vector<uint32_t> keys(2 * x.size());
      sort_falling(x.data(), n, keys.data());
      CHECK(x == expected);
    }
  }
}

void test_drops() {
  for (int64_t n : {1, 15, 16, 100, 5000}) {
    Floats x = normals(n + 1, 6, 3);
    if (n > 20) std::fill_n(x.begin() + 4, 3, 0.5f);
    std::sort(x.begin(), x.end(), std::greater<float>());
    if (n > 20) x[size_t(n)] = x[size_t(n) - 1] = -INFINITY;
    for (Tier tier : math_tiers()) {
      const MathTable& math = math_table(tier);
      Floats w(x.size()), y(static_cast<size_t>(n), -1);
      const float rate = 1.25f, top = x[0];
      math.weigh(w.data(), nullptr, x.data(), n + 1, top, rate);
      math.drops(y.data(), w.data(), x.data(), n, rate);
      double bends = 0;
      for (size_t i = 0; i < y.size(); i++) {
        const auto exact = [&](size_t j) { return x[j] == -INFINITY ? 0 : std::exp2((double(x[j]) - double(top)) * double(rate)); };
        const double drop = exact(i) - exact(i + 1);
        CHECK(std::fabs(double(y[i]) - drop) <= 1e-5 * drop && (x[i] > x[i + 1] || y[i] == 0));
        if (i + 1 < y.size()) bends += double(std::fabs(y[i] - y[i + 1]));
      }
      CHECK(std::fabs(math.bend_sum(y.data(), n - 1) - bends) <= 1e-6 * bends);
    }
  }
}

void test_infinite_order() {
  const int64_t n = 30000;
  const Memory memory(n);
  for (Tier tier : math_tiers()) {
    for (int64_t finite : {0, 1, 2000, 29999}) {
      Floats x = normals(n, 3, 5);
      for (int64_t i = finite; i < n; i++) x[size_t(i)] = -INFINITY;
      const auto places = falling(x);
      for (int64_t k : {int64_t{1}, int64_t{1500}, int64_t{29999}, n}) {
        const Cut cut = find_cut(math_table(tier), Passes(nullptr), memory.row, {x.data(), nullptr, n}, double(n), double(k));
        CHECK(cut.limit == x[size_t(places[size_t(k - 1)])]);
      }
    }
  }
}

void test_place_of_equal() {
  const Floats x = shapes(5000)[9].order;
  for (Tier tier : math_tiers()) {
    for (int64_t nth : {1, 2, 20, 68}) {
      CHECK(place_of_equal(math_table(tier), x.data(), 5000, 5 / 64.0f, nth) == 5 + (nth - 1) * 73);
    }
  }
}

void test_weigh() {
  for (int64_t n : {1, 15, 64, 1025, 5003}) {
    Floats x = normals(n, 2, 12);
    x[size_t(n / 2)] = -INFINITY;
    x[size_t(n - 1)] = -1e30f;
    x[0] = 60;
    Floats first;
    for (Tier tier : math_tiers()) {
      const MathTable& math = math_table(tier);
      Floats y(x.size(), -1);
      const float rate = 1.7f;
      const double sum = math.weigh(y.data(), nullptr, x.data(), n, 60, rate);
      CHECK(math.weigh(nullptr, nullptr, x.data(), n, 60, rate) == sum);
      Floats again(x.size()), products(x.size());
      CHECK(math.weigh(again.data(), products.data(), x.data(), n, 60, rate) == sum && same_bits(again, y));
      double expected = 0, moment = 0;
      for (size_t i = 0; i < x.size(); i++) {
        const double t = (double(x[i]) - 60) * double(rate), w = t < -125 ? 0 : std::exp2(t);
        expected += w;
        if (w > 0) moment += double(y[i]) * (double(x[i]) - 60);
        CHECK(products[i] == (y[i] == 0 ? 0 : y[i] * (x[i] - 60)));
        // One ulp of the polynomial, and on a tier without fused multiply-add one of the exponent.
        CHECK(std::fabs(double(y[i]) - w) <= w * (4e-7 + std::min(-t, 125.0) * 2e-7) + 3e-38);
      }
      CHECK(y[0] == 1 && (n < 2 || y[size_t(n - 1)] == 0));
      CHECK(std::fabs(sum - expected) <= 1e-6 * expected);
      CHECK(std::fabs(math.moment(y.data(), x.data(), n, 60) - moment) <= 1e-5 * (1 + std::fabs(moment)));
      CHECK(math.moment(y.data(), x.data(), n, 60) == math.row_sum(products.data(), n));
      if (tier != Tier::kScalar && first.empty()) first = y;
      if (tier != Tier::kScalar) CHECK(same_bits(y, first));
    }
  }
}

void test_thin_and_survey() {
  for (int64_t n : {1, 16, 31, 1024, 4099}) {
    const Floats order = normals(n, 8);
    Floats weights = normals(n, 9);
    for (float& w : weights) w = std::fabs(w);
    for (Tier tier : math_tiers()) {
      const MathTable& math = math_table(tier);
      Floats w = weights, twice;
      int64_t count, left = 0;
      double sum = math.thin(w.data(), order.data(), nullptr, n, -0.5f, &count), expected = 0;
      for (size_t i = 0; i < w.size(); i++) {
        CHECK(order[i] > -0.5f ? w[i] == weights[i] : w[i] == 0 && std::signbit(w[i]));
        left += order[i] > -0.5f;
        expected += double(w[i]);
      }
      CHECK(count == left && std::fabs(sum - expected) <= 1e-6 * expected);
      // What is gone stays gone, and is not counted again.
      math.thin(w.data(), order.data(), nullptr, n, -1, &count);
      CHECK(count == left);
      Floats values(w.size() + 16);
      std::vector<int32_t> ids(w.size() + 16);
      CHECK(math.keep_present(values.data(), ids.data(), w.data(), 3, n) == left);
      for (int64_t i = 0; i < left; i++) {
        const auto id = size_t(ids[size_t(i)] - 3);
        CHECK(order[id] > -0.5f && values[size_t(i)] == weights[id] && (i == 0 || ids[size_t(i)] > ids[size_t(i - 1)]));
      }
      for (const float* by : {order.data(), static_cast<const float*>(nullptr), static_cast<const float*>(weights.data())}) {
        Floats kept(order.size() + 16), kept_weights(order.size() + 16);
        double above;
        const int64_t near =
            math.survey(kept.data(), kept_weights.data(), order.data(), nullptr, by, n, -0.25f, 0.5f, &above);
        double over = 0;
        int64_t at = 0;
        for (size_t i = 0; i < order.size(); i++) {
          if (order[i] > 0.5f) over += by ? double(by[i]) : 1;
          if (!(order[i] > -0.25f && order[i] <= 0.5f)) continue;
          CHECK(at < near && kept[size_t(at)] == order[i]);
          if (by == weights.data()) CHECK(kept_weights[size_t(at)] == weights[i]);
          at++;
        }
        CHECK(at == near && std::fabs(above - over) <= 1e-6 * over);
      }
    }
  }
}

}  // namespace

int main() {
  test_weigh();
  test_thin_and_survey();
  test_place_of_equal();
  test_cuts_by_nearness();
  test_sort_falling();
  test_drops();
  test_infinite_order();
  test_exact_cuts();
  test_rounded_cuts();
  return report();
}
