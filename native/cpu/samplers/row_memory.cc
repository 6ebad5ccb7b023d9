#include "cpu/samplers/row_memory.h"

#include "cpu/isa/math_table.h"
#include "cpu/samplers/passes.h"
#include "runtime/error.h"

namespace switchyard::samplers {

// Arrays one behind the other from `at` on, each on a cache line of its own; returns how many bytes.
int64_t RowMemory::lay_out(std::byte* at, int64_t v) {
  constexpr int64_t kLine = 64;
  int64_t used = 0;
  const auto take = [&](auto*& array, int64_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(at ? at + used : nullptr);
    used += parts(checked_mul(count, int64_t(sizeof(*array)), "sample"), kLine) * kLine;
  };
  const int64_t room = v + kPackingRoom, blocks = parts(v, kMaximumBlock);
  take(scores, room);
  take(gathered, room);
  take(weights, room);
  take(order, room);
  take(spare, 2 * room);
  take(ids, room);
  take(counts, room);
  near_weights = reinterpret_cast<float*>(counts);
  take(sums, parts(v, kSumBlock));
  take(moments, parts(v, kSumBlock));
  take(above, parts(v, kSegment));
  take(lengths, parts(v, kSegment));
  take(maxima, blocks);
  take(stale, blocks);
  return used;
}

int64_t RowMemory::bytes(int64_t v) { return RowMemory().lay_out(nullptr, v); }
RowMemory::RowMemory(std::byte* at, int64_t v) { lay_out(at, v); }

}  // namespace switchyard::samplers
