// sort, top_k and what stands on them, token_logprobs; with the losses of rows.
#include <algorithm>
#include <random>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

ThreadPool pool(1);

enum class Values { kNormal, kFew, kSame, kOdd };

// kFew: many ties; kOdd: NaN of both signs, infinities and both zeros among them.
std::vector<float> values_of(Values kind, int64_t count, uint32_t seed) {
  std::vector<float> x = normals(count, seed);
  if (kind == Values::kNormal) return x;
  if (kind == Values::kSame) return std::vector<float>(x.size(), 2.5f);
  std::mt19937 engine(seed);
  const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, -1e-40f};
  for (float& v : x) {
    if (kind == Values::kFew) v = static_cast<float>(static_cast<int>(engine() % 5) - 2);
    else if (engine() % 2 == 0) v = odd[engine() % 8];
  }
  return x;
}

bool same_pair(Compare& c) { return c.same<float>(0) && c.same<int32_t>(1); }

void sort() {
  for (const auto& [rows, n] : std::vector<std::array<int64_t, 2>>{{0, 5}, {3, 0}, {2, 1}, {5, 7}, {70, 64}, {3, 1000}, {2, 2048}, {3, 2049}, {2, 9000}, {1, 70001}}) {
    for (const Values kind : {Values::kNormal, Values::kFew, Values::kSame, Values::kOdd}) {
      for (const int falling : {0, 1}) {
        Compare c("sort");
        c.in({rows, n}, values_of(kind, rows * n, 1)).out<float>({rows, n}).out<int32_t>({rows, n}).attr(falling).run(pool);
        CHECK(same_pair(c));
      }
    }
  }
}

void top_k() {
  for (const auto& [rows, n, k] : std::vector<std::array<int64_t, 3>>{
           {0, 5, 2}, {2, 1, 1}, {5, 7, 3}, {9, 128, 8}, {3, 2048, 2048}, {3, 2049, 1}, {2, 5000, 40}, {2, 5000, 2048}, {2, 5000, 2049}, {1, 150000, 1000}, {70, 2100, 3}}) {
    for (const Values kind : {Values::kNormal, Values::kFew, Values::kSame, Values::kOdd}) {
      Compare c("top_k");
      c.in({rows, n}, values_of(kind, rows * n, 2)).out<float>({rows, k}).out<int32_t>({rows, k}).attr(k).run(pool);
      CHECK(same_pair(c));
    }
  }
  // So many equal keys that only places tell, in all digits of a place.
  std::vector<float> steps(70000, 1.0f);
  for (size_t i = 0; i < 100; i++) steps[700 * i] = 2.0f;
  for (const int64_t k : {50, 100, 101, 2000}) {
    Compare c("top_k");
    c.in({1, 70000}, steps).out<float>({1, k}).out<int32_t>({1, k}).attr(k).run(pool);
    CHECK(same_pair(c));
  }
}

std::vector<int32_t> targets_of(int64_t rows, int64_t v) {
  std::mt19937 engine(5);
  std::vector<int32_t> targets(static_cast<size_t>(rows));
  for (int32_t& t : targets) t = static_cast<int32_t>(engine() % static_cast<uint32_t>(v + 1)) - 1;
  return targets;
}

void token_logprobs() {
  for (const auto& [rows, v, n] : std::vector<std::array<int64_t, 3>>{{0, 5, 2}, {2, 1, 1}, {5, 7, 3}, {9, 128, 0}, {3, 2048, 20}, {3, 5000, 20}, {2, 5000, 5000}, {1, 150000, 5}}) {
    for (const Values kind : {Values::kNormal, Values::kFew, Values::kSame}) {
      Compare c("token_logprobs");
      c.in({rows, v}, values_of(kind, rows * v, 3)).in({rows}, targets_of(rows, v));
      c.out<float>({rows}).out<int32_t>({rows}).out<int32_t>({rows, n}).out<float>({rows, n}).run(pool);
      CHECK(c.close(1e-5, 1e-6, 0) && c.same<int32_t>(1) && c.same<int32_t>(2) && c.close(1e-5, 1e-6, 3));
    }
  }
  const auto kind_of = [](const std::vector<float>& x, int32_t target) {
    Compare c("token_logprobs");
    c.in({1, 3}, x).in({1}, std::vector<int32_t>{target}).out<float>({1}).out<int32_t>({1}).out<int32_t>({1, 2}).out<float>({1, 2}).run_device();
    return static_cast<gpu::ErrorKind>(c.error().kind);
  };
  CHECK(kind_of({1, -INFINITY, 2}, -7) == gpu::ErrorKind::kNone);
  CHECK(kind_of({1, 0, 2}, 3) == gpu::ErrorKind::kIndex);
  CHECK(kind_of({1, NAN, 2}, 0) == gpu::ErrorKind::kNotFinite);
  CHECK(kind_of({1, INFINITY, 2}, 0) == gpu::ErrorKind::kNotFinite);
  CHECK(kind_of({-INFINITY, -INFINITY, -INFINITY}, 0) == gpu::ErrorKind::kNotFinite);
}

void cross_entropy() {
  for (const auto& [rows, v] : std::vector<std::array<int64_t, 2>>{{0, 5}, {2, 1}, {5, 7}, {40, 1000}, {3, 4096}, {3, 4097}, {2, 150000}}) {
    std::vector<float> x = normals(rows * v, 4, 4);
    if (v > 7) x[0] = x[7] = -INFINITY;  // what a mask leaves
    const auto targets = targets_of(rows, v);
    CHECK(Compare("cross_entropy").in({rows, v}, x).in({rows}, targets).out<float>({rows}).run(pool).close(1e-5, 1e-6));
    Compare apart("cross_entropy_grad"), in_place("cross_entropy_grad");
    apart.in({rows, v}, x).in({rows}, targets).in({rows}, normals(rows, 6)).out<float>({rows, v}).run(pool);
    in_place.in({rows, v}, x).in({rows}, targets).in({rows}, normals(rows, 6)).out_in_place(0).run_device();
    CHECK(apart.close(1e-5, 1e-9) && same_bits(apart.device<float>(), in_place.device<float>()));
  }
  for (const std::vector<float>& x : {std::vector<float>{1, NAN, 2}, {1, INFINITY, 2}, {-INFINITY, -INFINITY, -INFINITY}}) {
    CHECK(Compare("cross_entropy").in({1, 3}, x).in({1}, std::vector<int32_t>{0}).out<float>({1}).run(pool).close(1e-5, 1e-6));
    CHECK(Compare("cross_entropy_grad").in({1, 3}, x).in({1}, std::vector<int32_t>{0}).in({1}, std::vector<float>{1}).out<float>({1, 3}).run(pool).close(1e-5, 1e-9));
  }
  for (const int32_t wrong : {-2, 3}) {
    Compare c("cross_entropy");
    c.in({2, 3}, normals(6, 7)).in({2}, std::vector<int32_t>{-1, wrong}).out<float>({2}).run_device();
    const gpu::ErrorWord& e = c.error();
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == 1 && e.got == wrong && e.low == -1 && e.high == 2);
    CHECK(same_bits(c.device<float>(), {0, 0}));
  }
}

}  // namespace

int main() {
  sort();
  top_k();
  token_logprobs();
  cross_entropy();
  return report();
}
