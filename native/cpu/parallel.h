// Splitting work into tasks, and checks that many kernels share.
#pragma once
#include <algorithm>

#include "cpu/isa/math_table.h"
#include "runtime/kernel.h"

namespace switchyard {

// A parallel region costs about 2 us, more where another process holds a core. A core does some 20 units (one
// lane loaded, computed or stored) a nanosecond from cache with AVX-512: a task lasts at least 6 us, smaller
// work stays with the caller.
constexpr int64_t kGrain = 131072;

// fn(begin, end, worker) over [0, n) in runs of about kGrain units of work, where one item costs `cost`
// units. Runs start at multiples of `align`.
template <class F>
void parallel_ranges(const Context& context, int64_t n, int64_t cost, const F& fn, int64_t align = 1) {
  if (n <= 0) return;
  const int64_t per_item = std::max<int64_t>(cost, 1);
  int64_t run = std::max<int64_t>(1, kGrain / per_item);
  run = std::max(run, (n + context.threads * 8 - 1) / (context.threads * 8));  // at most 8 tasks a thread
  run = (run + align - 1) / align * align;
  if (context.threads <= 1 || run >= n) {
    fn(int64_t{0}, n, 0);
    return;
  }
  context.parallel_for((n + run - 1) / run, [&](int64_t task, int worker) {
    fn(task * run, std::min(n, (task + 1) * run), worker);
  });
}

// A tensor (not a weight) of any dtype and rank.
inline void require_dense(const Instruction& instruction, const Operand* operand, const char* message) {
  require_that(instruction, operand && !operand->weight, message);
}

}  // namespace switchyard
