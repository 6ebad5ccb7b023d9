// What the products of rows that are grouped by expert share: rows offsets[e] … offsets[e + 1] - 1 belong to
// expert e.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>

#include "cpu/linear.h"
#include "cpu/tile.h"
#include "runtime/kernel.h"

namespace switchyard {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t to) { return ceil_div(a, to) * to; }

// Rows of a matrix, grouped by expert: row r is x[ids[r]], or x[r] without ids.
struct GroupedRows {
  const float* x = nullptr;
  const int32_t* ids = nullptr;
  int64_t width = 0;

  const float* at(int64_t r) const { return x + (ids == nullptr ? r : ids[r]) * width; }

  // From an operand and its optional index; the index of rows before `used` is checked.
  static GroupedRows of(const char* kernel, const Operand* x, const Operand* ids, int64_t used) {
    const GroupedRows rows{x->as<float>(), ids == nullptr ? nullptr : ids->as<int32_t>(), x->shape[1]};
    for (int64_t r = 0; rows.ids != nullptr && r < used; r++) {
      if (rows.ids[r] >= 0 && rows.ids[r] < x->shape[0]) continue;
      fail(ErrorCode::kOption, "[%s] got row id %d at row %lld, expected 0 to %lld", kernel, rows.ids[r],
           static_cast<long long>(r), static_cast<long long>(x->shape[0] - 1));
    }
    return rows;
  }
};

// The tasks of all experts in one list, the experts with the most rows first, so that none of those ends last.
// It lives in scratch: order [E], first [E + 1].
struct TaskList {
  int64_t *order, *first, E;

  static int64_t bytes(int64_t E) { return (2 * E + 1) * static_cast<int64_t>(sizeof(int64_t)); }

  // tasks_of(rows): tasks of an expert with that many.
  template <class F>
  TaskList(std::byte* memory, const int32_t* offsets, int64_t experts, const F& tasks_of)
      : order(reinterpret_cast<int64_t*>(memory)), first(order + experts), E(experts) {
    const auto rows = [&](int64_t e) { return int64_t{offsets[e + 1]} - offsets[e]; };
    std::iota(order, order + E, 0);
    std::sort(order, order + E, [&](int64_t a, int64_t b) { return rows(a) != rows(b) ? rows(a) > rows(b) : a < b; });
    first[0] = 0;
    for (int64_t i = 0; i < E; i++) first[i + 1] = first[i] + tasks_of(rows(order[i]));
  }
  int64_t count() const { return first[E]; }
  // The expert of a task; `task` becomes its number within the expert.
  int64_t expert_of(int64_t& task) const {
    const int64_t i = std::upper_bound(first, first + E + 1, task) - first - 1;
    task -= first[i];
    return order[i];
  }
};

// Asks for cache lines some time before they are read: what lies in many short runs the processor does not foresee.
class Prefetch {
 public:
  Prefetch() = default;
  // `bytes` from offset `offset` (in floats) of each row.
  Prefetch(const float* const* rows, int64_t count, int64_t offset, int64_t floats)
      : rows_(rows), count_(count), offset_(offset), lines_(ceil_div(floats, 16)) {}
  int64_t left() const { return (count_ - row_) * lines_ - line_; }
  void some(int64_t lines) {
    for (; lines > 0 && row_ < count_; lines--) {
#if defined(__GNUC__)
      __builtin_prefetch(rows_[row_] + offset_ + 16 * line_, 0, 2);
#endif
      if (++line_ == lines_) line_ = 0, row_++;
    }
  }

 private:
  const float* const* rows_ = nullptr;
  int64_t count_ = 0, offset_ = 0, lines_ = 1, row_ = 0, line_ = 0;
};

}  // namespace switchyard
