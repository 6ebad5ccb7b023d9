// Sampler chains where TypeScript does not easily reach: equal bits across threads and tiers, and hostile words.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

#include "call.h"
#include "check.h"
#include "cpu/samplers/kinds.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

enum Kind : int32_t {
#define SY_NAME(name, edits) k_##name,
  SY_SAMPLERS(SY_NAME)
#undef SY_NAME
};

// Writes a chain as src/generate/samplers/chain-batch.ts does.
class Chain {
 public:
  Chain& begin(Kind kind) { return end(), words_.push_back(kind), open_ = words_.size(), int_(0); }
  Chain& int_(int32_t x) { return words_.push_back(x), *this; }
  Chain& number(double x) {
    int32_t two[2];
    std::memcpy(two, &x, 8);
    return int_(two[0]).int_(two[1]);
  }
  Chain& list(const std::vector<int32_t>& x) {
    int_(int32_t(x.size()));
    words_.insert(words_.end(), x.begin(), x.end());
    return *this;
  }
  std::vector<int32_t> words() {
    end();
    return words_;
  }

 private:
  void end() {
    if (open_ > 0) words_[open_] = int32_t(words_.size() - open_ - 1);
    open_ = 0;
  }
  std::vector<int32_t> words_;
  size_t open_ = 0;
};

struct Chosen {
  std::vector<int32_t> tokens;
  std::vector<float> raw, chosen;
  bool operator==(const Chosen&) const = default;
};

// Every row goes through the same words, with the same history behind them.
Chosen choose(Tier tier, ThreadPool& pool, const std::vector<float>& logits, int64_t rows, std::vector<int32_t> words,
              const std::vector<int32_t>& history, uint32_t seed = 11) {
  std::vector<int32_t> table;
  for (int64_t r = 0; r < rows; r++) {
    table.insert(table.end(), {0, int32_t(words.size()), int32_t(words.size()), int32_t(history.size()),
                               int32_t(seed), int32_t(r)});
  }
  words.insert(words.end(), history.begin(), history.end());
  const auto size = int64_t(words.size());
  Call c("sample");
  c.f32({rows, int64_t(logits.size()) / rows}, logits)
      .i32({rows, 6}, table)
      .i32({size}, words)
      .out(DType::kI32, {rows})
      .out(DType::kF32, {rows})
      .out(DType::kF32, {rows})
      .run(tier, pool);
  return {c.result<int32_t>(0), c.result(1), c.result(2)};
}

std::vector<std::pair<const char*, Chain>> chains() {
  return {
      {"nothing", Chain()},
      {"greedy", Chain().begin(k_greedy)},
      {"temperature", Chain().begin(k_temperature).number(0.7)},
      {"top k", Chain().begin(k_top_k).int_(40)},
      {"top k of many", Chain().begin(k_top_k).int_(5000)},
      {"top p", Chain().begin(k_temperature).number(0.8).begin(k_top_p).number(0.9)},
      {"min p", Chain().begin(k_min_p).number(0.01)},
      {"typical", Chain().begin(k_typical).number(0.8)},
      {"eta", Chain().begin(k_eta).number(0.001)},
      {"mirostat", Chain().begin(k_mirostat).number(9)},
      {"epsilon", Chain().begin(k_epsilon).number(1e-5)},
      {"tail free", Chain().begin(k_tail_free).number(0.9)},
      {"one filter after another", Chain()
                                       .begin(k_top_p).number(0.95)
                                       .begin(k_typical).number(0.9)
                                       .begin(k_eta).number(1e-5)
                                       .begin(k_min_p).number(0.01)
                                       .begin(k_top_k).int_(9000)
                                       .begin(k_top_p).number(0.9)},
      {"a temperature behind filters", Chain()
                                           .begin(k_top_p).number(0.9)
                                           .begin(k_xtc).number(1e-5).number(1).int_(1)
                                           .begin(k_temperature).number(1.5)},
      {"a penalty behind a filter", Chain()
                                        .begin(k_typical).number(0.9)
                                        .begin(k_repetition_penalty).number(1.2).int_(0)},
      {"xtc", Chain().begin(k_xtc).number(0.001).number(0.9).int_(1)},
      {"all", Chain()
                  .begin(k_repetition_penalty).number(1.2).int_(0)
                  .begin(k_count_penalty).number(0.1).number(0.2).int_(0)
                  .begin(k_dry).number(0.8).number(1.75).int_(1).int_(0).list({5})
                  .begin(k_temperature).number(0.9)
                  .begin(k_top_k).int_(400)
                  .begin(k_top_p).number(0.95)
                  .begin(k_min_p).number(0.02)},
  };
}

void test_same_bits() {
  ThreadPool one(1), four(4);
  const std::vector<int32_t> history = {5, 9, 12, 9, 12, 9, 700, 3, 9, 12};
  for (int64_t v : {1, 255, 1025, 40009}) {
    for (double spread : {0.01, 2.5}) {
      const auto logits = normals(3 * v, 9, float(spread));
      for (auto& [name, chain] : chains()) {
        const auto words = chain.words();
        for (Tier tier : math_tiers()) {
          const Chosen alone = choose(tier, one, logits, 3, words, history);
          // Four threads share each of three rows, or take a row each.
          if (!CHECK(choose(tier, four, logits, 3, words, history) == alone)) std::fprintf(stderr, "  %s\n", name);
          const std::vector<float> first(logits.begin(), logits.begin() + v);
          const Chosen solo = choose(tier, four, first, 1, words, history);
          CHECK(solo.tokens[0] == alone.tokens[0] && solo.raw[0] == alone.raw[0] && solo.chosen[0] == alone.chosen[0]);
          // Tiers with a fused multiply-add agree to the bit.
          if (tier != Tier::kScalar && tier != math_tiers()[1]) {
            CHECK(choose(math_tiers()[1], one, logits, 3, words, history) == alone);
          }
        }
      }
    }
  }
}

// What a filter leaves of a row, from process_logits.
std::vector<float> left_by(Tier tier, ThreadPool& pool, const std::vector<float>& logits, const std::vector<int32_t>& words) {
  const auto v = int64_t(logits.size()), size = int64_t(words.size());
  Call c("process_logits");
  c.f32({1, v}, logits).i32({1, 6}, {0, int32_t(size), 0, 0, 1, 0}).i32({size}, words).out(DType::kF32, {1, v}).run(tier, pool);
  return c.result();
}

// A filter that goes by an order leaves none that comes behind one it removes (ties to the lower id, where `ties`), and so much
// mass that the last one was needed; in f64.
void check_cut(const std::vector<float>& left, const std::vector<double>& p, const std::vector<double>& order, double mass,
               bool ties, const char* what) {
  double worst = INFINITY, best = -INFINITY, kept = 0, of_worst = 0;
  int64_t last = -1, first = int64_t(left.size());
  for (size_t i = 0; i < left.size(); i++) {
    if (left[i] > -INFINITY) {
      kept += p[i];
      if (order[i] <= worst) last = int64_t(i);
      if (order[i] < worst) of_worst = 0;
      worst = std::min(worst, order[i]);
      if (order[i] == worst) of_worst = ties ? p[i] : of_worst + p[i];
    } else if (p[i] > 0) {
      if (order[i] > best) first = int64_t(i);
      best = std::max(best, order[i]);
    }
  }
  const double slack = 1e-5 * (1 + std::fabs(worst));
  if (!CHECK(best <= worst + slack) || !CHECK(!ties || best < worst || last < first) || !CHECK(kept >= mass - 2e-6) ||
      !CHECK(kept - of_worst <= mass + 2e-5)) {
    std::fprintf(stderr, "  %s, %zu tokens: kept %.9g of %g, worst %.9g, best removed %.9g\n", what, left.size(), kept,
                 mass, worst, best);
  }
}

// The tokens that tail-free leaves, by a whole sort of those that are no -inf.
std::vector<bool> before_the_tail(const std::vector<float>& logits, const std::vector<double>& p, double z) {
  std::vector<size_t> order;
  for (size_t i = 0; i < logits.size(); i++) {
    if (logits[i] > -INFINITY) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> curvature;
  for (size_t i = 0; i + 2 < order.size(); i++) {
    curvature.push_back(std::fabs(p[order[i]] - 2 * p[order[i + 1]] + p[order[i + 2]]));
  }
  const double total = std::accumulate(curvature.begin(), curvature.end(), 0.0);
  size_t kept = total == 0 ? order.size() : 1;  // also of fewer than three
  for (double spent = 0; kept <= curvature.size() && (spent += curvature[kept - 1]) <= z * total;) kept++;
  std::vector<bool> stays(logits.size());
  for (size_t i = 0; i < kept; i++) stays[order[i]] = true;
  return stays;
}

void test_cuts_of_a_vocabulary() {
  ThreadPool one(1), four(4);
  for (int64_t v : {1, 2, 5, 300, 5000, 150000}) {
    for (double spread : {0.0, 0.01, 0.5, 3.0, 30.0}) {
      for (bool coarse : {false, true}) {
        if (v > 5000 && coarse != (spread == 3)) continue;  // under a sanitizer each takes seconds
        auto logits = normals(v, uint32_t(v), float(spread));
        if (coarse) {
          for (float& x : logits) x = std::round(x * 16) / 16;  // thousands of ties
          for (size_t i = 1; i < logits.size(); i += 3) logits[i] = -INFINITY;
        }
        const double top = double(*std::max_element(logits.begin(), logits.end()));
        std::vector<double> p, nearness;
        double total = 0, entropy = 0;
        for (const float x : logits) total += std::exp(double(x) - top);
        for (const float x : logits) p.push_back(std::exp(double(x) - top) / total);
        for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
        for (const double x : p) nearness.push_back(x > 0 ? -std::fabs(-std::log(x) - entropy) : -INFINITY);
        for (Tier tier : math_tiers()) {
          ThreadPool& pool = tier == math_tiers().back() ? four : one;
          for (double mass : {0.02, 0.5, 0.9, 0.999}) {
            const auto by = [&](Kind kind) { return left_by(tier, pool, logits, Chain().begin(kind).number(mass).words()); };
            check_cut(by(k_top_p), p, p, mass, true, "top p");
            check_cut(by(k_typical), p, nearness, mass, false, "typical");
          }
          for (double z : {0.3, 0.95}) {
            if (coarse && spread == 0.01) continue;  // curvatures of rounding alone
            const auto left = left_by(tier, pool, logits, Chain().begin(k_tail_free).number(z).words());
            const auto stays = before_the_tail(logits, p, z);
            size_t wrong = 0;
            for (size_t i = 0; i < left.size(); i++) wrong += p[i] > 0 && (left[i] > -INFINITY) != stays[i];
            if (!CHECK(wrong <= left.size() / 10000)) {
              std::fprintf(stderr, "  tail free %g, %lld tokens, spread %g: %zu\n", z, (long long)v, spread, wrong);
            }
          }
          for (int32_t k : {1, 40, 3000, 100000}) {
            if (k >= v) continue;
            const auto left = left_by(tier, pool, logits, Chain().begin(k_top_k).int_(k).words());
            auto sorted = logits;
            std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<float>());
            const float kth = sorted[size_t(k - 1)];
            bool right = true;
            for (size_t i = 0; i < left.size(); i++) right = right && left[i] == (logits[i] >= kth ? logits[i] : -INFINITY);
            CHECK(right);
          }
          for (double limit : {0.3, 1e-3, 7e-6, 1e-8}) {
            const std::pair<std::vector<int32_t>, double> cases[] = {
                {Chain().begin(k_min_p).number(limit).words(), limit / total},
                {Chain().begin(k_epsilon).number(limit).words(), limit},
                {Chain().begin(k_eta).number(limit).words(), std::min(limit, std::sqrt(limit) * std::exp(-entropy))},
                {Chain().begin(k_mirostat).number(-std::log2(limit)).words(), limit},
            };
            for (const auto& [words, least] : cases) {
              const auto left = left_by(tier, pool, logits, words);
              bool right = true;
              for (size_t i = 0; i < left.size(); i++) {
                if (std::fabs(p[i] - least) <= 1e-4 * least) continue;  // rounding may decide
                right = right && (left[i] > -INFINITY) == (p[i] > least || double(logits[i]) == top);
              }
              if (!CHECK(right)) {
                std::fprintf(stderr, "  kind %d, limit %g, %lld tokens, spread %g\n", words[0], limit, (long long)v, spread);
              }
            }
          }
        }
      }
    }
  }
}

void test_unusable() {
  ThreadPool pool(1);
  const auto greedy = Chain().begin(k_greedy).words();
  for (Tier tier : math_tiers()) {
    const auto token = [&](std::vector<float> x) { return choose(tier, pool, x, 1, greedy, {}).tokens[0]; };
    CHECK(token({1, NAN, 2}) == -2 && token({-INFINITY, -INFINITY}) == -2 && token({1, INFINITY}) == -2);
    std::vector<float> long_row(3000, 1);
    long_row[2999] = NAN;
    CHECK(token(long_row) == -2);
    CHECK(token({1, 3, 3, -INFINITY}) == 1);
    const auto banned = Chain().begin(k_token_bias).list({0, std::bit_cast<int32_t>(-INFINITY)}).words();
    CHECK(choose(tier, pool, {4}, 1, banned, {}).tokens[0] == -1);
    const auto none = Chain().begin(k_token_mask).list({0}).begin(k_top_p).number(0.5).begin(k_typical).number(0.5);
    CHECK(choose(tier, pool, {4, 2, 5}, 1, Chain(none).words(), {}).tokens[0] == -1);
    const auto cold = Chain().begin(k_temperature).number(1e-38).words();
    CHECK(choose(tier, pool, {2, 4}, 1, cold, {}).tokens[0] == 1);
  }
}

// Random words must end in a token or an error, never beside the data (under a sanitizer).
void test_hostile_words() {
  ThreadPool pool(2);
  std::mt19937 random(3);
  const auto logits = normals(70, 4, 2);
  auto known = chains();
  for (int round = 0; round < 4000; round++) {
    std::vector<int32_t> words = known[random() % known.size()].second.words();
    for (uint32_t changes = 1 + random() % 3; changes > 0 && !words.empty(); changes--) {
      int32_t& word = words[random() % words.size()];
      switch (random() % 4) {
        case 0: word = int32_t(random()); break;
        case 1: word = int32_t(random() % 24); break;
        case 2: word = -1; break;
        default: word ^= 1 << (random() % 32);
      }
    }
    if (random() % 8 == 0 && !words.empty()) words.pop_back();
    try {
      const auto token = choose(Tier::kScalar, pool, logits, 1, words, {1, 2, 1, -5, 1 << 30, 2, 1}).tokens[0];
      CHECK(token >= -2 && token < 70);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kOption);
    }
  }
  const auto rows_error = [&](std::vector<int32_t> row) {
    return error_of([&] {
      Call("sample").f32({1, 3}, {1, 2, 3}).i32({1, 6}, row).i32({4}, {0, 0, 0, 0}).out(DType::kI32, {1})
          .out(DType::kF32, {1}).out(DType::kF32, {1}).run(Tier::kScalar, pool);
    });
  };
  CHECK(rows_error({0, 2, 0, 0, 0, 0}) == "");
  CHECK(rows_error({0, 5, 0, 0, 0, 0}).find("within data of 4") != std::string::npos);
  CHECK(rows_error({-1, 2, 0, 0, 0, 0}).find("within data of 4") != std::string::npos);
  CHECK(rows_error({0, 0, 3, 2, 0, 0}).find("within data of 4") != std::string::npos);
  CHECK(rows_error({0, 3, 0, 0, 0, 0}).find("chain of") != std::string::npos);
}

}  // namespace

int main() {
  test_same_bits();
  test_cuts_of_a_vocabulary();
  test_unusable();
  test_hostile_words();
  return report();
}
