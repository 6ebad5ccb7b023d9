// embedding: rows of weights of every format, bit for bit what the CPU decodes.
#include <algorithm>
#include <random>

#include "test/cuda/compare.h"
#include "test/cuda/weights.h"

using namespace switchyard;
using namespace switchyard::test;

int main() {
  ThreadPool pool(1);
  for (const Format f : all_formats()) {
    for (const int64_t blocks : {1, 3}) {
      const int64_t rows = 37, columns = is_packed_only(f) ? 32 * blocks : odd_columns(f, blocks);
      const WeightPtr weight = random_weight(f, 1, rows, columns, 1);
      for (const int64_t n : {0, 1, 50}) {
        std::mt19937 engine(2);
        std::vector<int32_t> ids(static_cast<size_t>(n));
        for (int32_t& id : ids) id = static_cast<int32_t>(engine() % rows);
        if (n > 1) ids[0] = rows - 1, ids[1] = 0;
        CHECK(Compare("embedding").in({n}, ids).in(*weight, {rows, columns}).out<float>({n, columns}).run(pool).same<float>());
      }
    }
  }
  const WeightPtr weight = random_weight(Format::kQ4_0, 1, 20, 64, 3);
  for (const int32_t wrong : {-1, 20, INT32_MAX, INT32_MIN}) {
    Compare c("embedding");
    c.in({2}, std::vector<int32_t>{3, wrong}).in(*weight, {20, 64}).out<float>({2, 64}).run_device();
    const gpu::ErrorWord& e = c.error();
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == 1 && e.got == wrong && e.low == 0 && e.high == 19);
    const std::vector<float> y = c.device<float>();
    CHECK(std::all_of(y.begin() + 64, y.end(), [](float v) { return v == 0; }));
  }
  return report();
}
