#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

int main() {
  ThreadPool pool(1);
  for (const auto& [n, e] : std::vector<std::array<int64_t, 2>>{{0, 4}, {1, 1}, {7, 60}, {300, 128}}) {
    std::vector<float> x = normals(n * e, 1);
    if (!x.empty()) x[0] = -INFINITY;
    CHECK(Compare("checked_logits").in({n, e}, x).out<float>({n, e}).run(pool).same<float>());
    CHECK(Compare("checked_logits").in({n, e}, x).out_in_place(0).run(pool).same<float>());
  }
  for (const float wrong : {INFINITY, -NAN, NAN}) {
    std::vector<float> x = normals(600, 2);
    x[599] = wrong;
    Compare c("checked_logits");
    c.in({6, 100}, x).out<float>({6, 100}).run_device();
    const gpu::ErrorWord& e = c.error();
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kNotFinite) && e.place == 599);
    CHECK(same_bits(c.device<float>(), x));
  }
  return report();
}
