#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

int main() {
  ThreadPool pool(1);
  for (const int64_t n : {1, 5, 1000}) {
    for (const int axis : {0, 1}) CHECK(Compare("iota").out<int32_t>({3, n}).attr(axis).run(pool).same<int32_t>());
  }
  return report();
}
