#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

int main() {
  ThreadPool pool(1);
  for (const int64_t n : {0, 1, 5, 1000}) {
    for (const int axis : {0, 1}) CHECK(Compare("iota").out<int32_t>({3, n}).attr(axis).run(pool).same<int32_t>());
  }
  for (const int64_t n : {0, 1, 2, 3, 4, 7, 258, 5001, 100002}) {
    const int64_t seeds[] = {0, 42, -7, int64_t{0x123456789abcdef}}, offsets[] = {0, 9, -1, int64_t{1} << 40};
    for (int i = 0; i < 4; i++) {
      CHECK(Compare("random_uniform").out<float>({n}).attr(seeds[i]).attr(offsets[i]).run(pool).same<float>());
      CHECK(Compare("random_normal").out<float>({n}).attr(seeds[i]).attr(offsets[i]).run(pool).close(1e-6, 1e-6));
    }
  }
  return report();
}
