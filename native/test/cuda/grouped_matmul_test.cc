#include <algorithm>
#include <random>

#include "cuda/linear/tile_choice.h"
#include "runtime/tier.h"
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;
using gpu::TileKind;

namespace {

struct Case {
  std::vector<int32_t> offsets;  // of experts
  int64_t rows;                  // those past the last offset are nobody's
  int64_t n, k, k2;              // k2 0: no second product
  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
  // What the kernels choose by.
  TileKind kind(const gpu::DeviceLimits& device) const {
    return gpu::choose_tile((rows + experts() - 1) / experts(), n, k, experts(), device);
  }
  TileKind gradient_kind(const gpu::DeviceLimits& device) const {
    return gpu::choose_tile(n, k, (rows + experts() - 1) / experts(), experts(), device);
  }
};

// `rows` rows of `tokens` tokens, -1 past the last offset.
std::vector<int32_t> row_ids(const Case& c, int64_t tokens) {
  std::mt19937 engine(7);
  std::vector<int32_t> ids(static_cast<size_t>(c.rows), -1);
  for (int64_t r = 0; r < c.offsets.back(); r++) ids[static_cast<size_t>(r)] = static_cast<int32_t>(engine() % static_cast<uint32_t>(tokens));
  return ids;
}

Compare product(const Case& c, bool transpose, const std::vector<int32_t>* ids, int64_t tokens) {
  Compare call("grouped_matmul");
  const int64_t e = c.experts(), x_rows = ids != nullptr ? tokens : c.rows;
  const auto w = [&](int64_t k) { return transpose ? std::vector{e, k, c.n} : std::vector{e, c.n, k}; };
  call.in({x_rows, c.k}, normals(x_rows * c.k, 1)).in(w(c.k), normals(e * c.n * c.k, 2)).in({e + 1}, c.offsets);
  ids != nullptr ? call.in({c.rows}, *ids) : call.absent();
  if (c.k2 > 0) {
    call.in({c.rows, c.k2}, normals(c.rows * c.k2, 3)).in(w(c.k2), normals(e * c.n * c.k2, 4));
  } else {
    call.absent().absent();
  }
  call.out<float>({c.rows, c.n}).attr(transpose ? 1 : 0);
  return call;
}

Compare gradient(const Case& c, const std::vector<int32_t>* dy_ids, const std::vector<int32_t>* x_ids, int64_t tokens) {
  Compare call("grouped_matmul_grad");
  const int64_t dy_rows = dy_ids != nullptr ? tokens : c.rows, x_rows = x_ids != nullptr ? tokens : c.rows;
  call.in({dy_rows, c.n}, normals(dy_rows * c.n, 5)).in({x_rows, c.k}, normals(x_rows * c.k, 6)).in({c.experts() + 1}, c.offsets);
  dy_ids != nullptr ? call.in({c.rows}, *dy_ids) : call.absent();
  x_ids != nullptr ? call.in({c.rows}, *x_ids) : call.absent();
  call.out<float>({c.experts(), c.n, c.k});
  return call;
}

void hold(Compare call, bool exact, ThreadPool& pool, const Case& c) {
  call.run_cpu(pool, best_tier()).run_device();
  // The scalar tier rounds products before it adds them.
  if (CHECK((exact && best_tier() != Tier::kScalar ? call.same<float>() : call.distance() < 1e-6) && call.error().claimed == 0)) return;
  std::fprintf(stderr, "  %lld rows of %lld experts, n %lld, k %lld: distance %g\n", (long long)c.rows, (long long)c.experts(),
               (long long)c.n, (long long)c.k, call.distance());
}

void all_ways(ThreadPool& pool, const Case& c, const gpu::DeviceLimits& device) {
  const int64_t tokens = 37;
  const auto ids = row_ids(c, tokens);
  for (const bool transpose : {false, true}) {
    for (const auto* of_x : {static_cast<const std::vector<int32_t>*>(nullptr), &ids}) {
      hold(product(c, transpose, of_x, tokens), c.kind(device) == TileKind::kMultiplyAdd64, pool, c);
    }
  }
  const bool exact = c.gradient_kind(device) == TileKind::kMultiplyAdd64;
  hold(gradient(c, nullptr, nullptr, tokens), exact, pool, c);
  hold(gradient(c, &ids, nullptr, tokens), exact, pool, c);
  hold(gradient(c, nullptr, &ids, tokens), exact, pool, c);
}

// `experts` experts: none has rows, one has many, the rest about `average`.
Case uneven(int64_t experts, int64_t average, int64_t n, int64_t k, int64_t k2) {
  std::mt19937 engine(11);
  Case c{{0}, 0, n, k, k2};
  for (int64_t e = 0; e < experts; e++) {
    const int64_t rows = e == 1 ? 0 : e == 2 ? 2 * average + 3 : average - static_cast<int64_t>(engine() % 5);
    c.offsets.push_back(c.offsets.back() + static_cast<int32_t>(rows));
  }
  c.rows = c.offsets.back() + 9;
  return c;
}

}  // namespace

int main() {
  ThreadPool pool(1);
  const gpu::DeviceLimits device = device_limits();
  for (const Case& c : {Case{{0, 1}, 1, 1, 1, 0}, {{0, 3, 3, 10, 11}, 12, 5, 7, 1}, {{0, 0, 70, 70}, 71, 65, 18, 16},
                        {{0, 0, 0}, 20, 6, 4, 0}, {{0, 130}, 130, 3, 40, 3}, {{0, 20, 90}, 100, 64, 32, 64}}) {
    all_ways(pool, c, device);
  }
  // Enough of them for tensor cores on the device at hand.
  const int64_t experts = std::max(int64_t{4}, int64_t{device.multiprocessors / 2});
  const Case small = uneven(experts, 56, 100, 72, 33), large = uneven(experts, 125, 125, 67, 5);
  CHECK(small.kind(device) == TileKind::kTensor64 && large.kind(device) == TileKind::kTensor128);
  for (const Case& c : {small, large}) all_ways(pool, c, device);
  const Case thin = uneven(experts, 70, 61, 120, 0), thick = uneven(experts, 80, 121, 119, 0);
  CHECK(thin.gradient_kind(device) == TileKind::kTensor64 && thick.gradient_kind(device) == TileKind::kTensor128);
  for (const Case& c : {thin, thick}) {
    const auto ids = row_ids(c, 50);
    hold(gradient(c, &ids, &ids, 50), false, pool, c);
  }

  for (const Case& c : {Case{{0, 0, 0}, 0, 4, 3, 0}, {{0, 2, 5}, 5, 0, 3, 0}, {{0, 2, 5}, 6, 3, 0, 0}, {{0}, 3, 2, 2, 0}}) {
    for (const bool transpose : {false, true}) hold(product(c, transpose, nullptr, 1), true, pool, c);
    hold(gradient(c, nullptr, nullptr, 1), true, pool, c);
  }

  // Hostile values are reported, and nothing is read or written outside.
  const struct {
    std::vector<int32_t> offsets;
    int64_t place, got;
  } wrong[] = {{{0, 5, 3, 8}, 2, 3}, {{1, 2, 3, 8}, 0, 1}, {{0, 2, 3, 9}, 3, 9}, {{0, -4, 3, 8}, 1, -4}, {{0, 2, 2, 1 << 30}, 3, 1 << 30}};
  for (const auto& w : wrong) {
    const Case c{w.offsets, 8, 6, 5, 2};
    const auto reported = [&](Compare call) {
      const auto error = call.run_device().error();
      const auto y = call.device<float>();
      CHECK(std::none_of(y.begin(), y.end(), [](float v) { return v != v; }));
      return error.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && error.place == w.place && error.got == w.got;
    };
    CHECK(reported(product(c, false, nullptr, 1)));
    CHECK(reported(gradient(c, nullptr, nullptr, 1)));
  }
  for (const int32_t bad : {-1, 4, 1 << 30}) {
    const Case c{{0, 3, 8}, 8, 6, 5, 0};
    const std::vector<int32_t> ids{0, 1, 2, 3, 0, bad, 1, 2};
    const auto reported = [&](Compare call) {
      const auto error = call.run_device().error();
      return error.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && error.place == 5 && error.got == bad && error.high == 3;
    };
    CHECK(reported(product(c, true, &ids, 4)));
    CHECK(reported(gradient(c, &ids, nullptr, 4)));
    CHECK(reported(gradient(c, nullptr, &ids, 4)));
  }
  return report();
}
