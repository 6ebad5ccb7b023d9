#include <limits>

#include "cuda/linear/tile_choice.h"
#include "runtime/tier.h"
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;
using gpu::TileKind;

namespace {

struct Case {
  int64_t batch, m, n, k;
  bool shared_b;
};

Compare matmul(const Case& c, int ta, int tb, const std::vector<float>& a, const std::vector<float>& b) {
  Compare call("matmul");
  const int64_t of_b = c.shared_b ? 1 : c.batch;
  call.in(ta ? std::vector{c.batch, c.k, c.m} : std::vector{c.batch, c.m, c.k}, a)
      .in(tb ? std::vector{of_b, c.n, c.k} : std::vector{of_b, c.k, c.n}, b)
      .out<float>({c.batch, c.m, c.n})
      .attr(ta)
      .attr(tb);
  return call;
}

// The scalar tier rounds products before it adds them.
bool fused() { return best_tier() != Tier::kScalar; }
Compare& run(Compare& call, ThreadPool& pool) { return call.run_cpu(pool, best_tier()).run_device(); }

// Every way of lying; multiply-adds give the bits of the CPU, tensor cores come close.
void all_layouts(ThreadPool& pool, const Case& c, bool exact) {
  const auto a = normals(c.batch * c.m * c.k, 1), b = normals((c.shared_b ? 1 : c.batch) * c.n * c.k, 2);
  for (const int ta : {0, 1}) {
    for (const int tb : {0, 1}) {
      Compare call = matmul(c, ta, tb, a, b);
      run(call, pool);
      if (!CHECK(exact && fused() ? call.same<float>() : call.distance() < 1e-6)) {
        std::fprintf(stderr, "  [%lld] %lld x %lld x %lld, transposed %d %d: distance %g\n", (long long)c.batch, (long long)c.m,
                     (long long)c.n, (long long)c.k, ta, tb, call.distance());
      }
    }
  }
}

}  // namespace

int main() {
  ThreadPool pool(1);
  const gpu::DeviceLimits device = device_limits();
  const auto kind = [&](const Case& c) { return gpu::choose_tile(c.m, c.n, c.k, c.batch, device); };
  for (const Case& c : {Case{1, 1, 1, 1, false}, {2, 3, 5, 7, false}, {3, 17, 65, 16, true}, {2, 64, 64, 32, true},
                        {1, 70, 130, 33, false}, {2, 1, 200, 300, false}, {5, 20, 4, 1, false}, {1, 128, 12, 20, true}}) {
    CHECK(kind(c) == TileKind::kMultiplyAdd64);
    all_layouts(pool, c, true);
  }
  // Enough tiles for the device at hand.
  const int64_t sms = device.multiprocessors;
  const Case wide{1, 64 * (sms / 2) - 5, 101, 67, false}, large{1, 128 * (sms / 2) - 9, 124, 100, false};
  const Case batch{sms, 40, 128, 64, true};
  CHECK(kind(wide) == TileKind::kTensor64 && kind(batch) == TileKind::kTensor64 && kind(large) == TileKind::kTensor128);
  for (const Case& c : {wide, large, batch}) all_layouts(pool, c, false);

  for (const Case& c : {Case{0, 2, 3, 4, false}, {2, 0, 3, 4, false}, {2, 3, 0, 4, true}, {2, 3, 4, 0, false}}) {
    const int64_t of_b = c.shared_b ? 1 : c.batch;
    Compare empty = matmul(c, 0, 0, normals(c.batch * c.m * c.k, 1), normals(of_b * c.n * c.k, 2));
    CHECK(run(empty, pool).same<float>());
  }

  // Infinities and NaN are those of f32, large and small numbers too.
  auto a = normals(large.m * large.k, 3), b = normals(large.n * large.k, 4);
  a[5] = std::numeric_limits<float>::infinity(), a[size_t(large.k)] = 3.4e38f, a[size_t(large.k) * 130] = NAN, b[7] = -INFINITY;
  a[size_t(large.k) * 2] = 1e-30f, b[0] = 2;
  Compare call = matmul(large, 0, 1, a, b);
  CHECK(run(call, pool).close(1e-5, 1e-4));
  // Numbers of the same sign: sums that the tensor cores cut off would fall short.
  for (float& v : a) v = 1 + std::fabs(v) / 8;
  for (float& v : b) v = 1 + std::fabs(v) / 8;
  for (float* v : {&a[5], &a[size_t(large.k)], &a[size_t(large.k) * 130], &b[7]}) *v = 1.1f;
  Compare positive = matmul(large, 0, 1, a, b);
  CHECK(run(positive, pool).distance() < 1e-6);
  return report();
}
