// Where a cut through candidates lies, without sorting them.
#pragma once
#include <cmath>
#include <cstdint>

#include "cpu/isa/math_table.h"
#include "cpu/samplers/passes.h"
#include "cpu/samplers/row_memory.h"

namespace switchyard::samplers {

inline float below(float x) { return std::nextafter(x, -INFINITY); }

// The least float that is at least x >= 0; infinity, where none is.
inline float at_least(double x) { return double(float(x)) < x ? std::nextafter(float(x), INFINITY) : float(x); }

// Candidates side by side.
struct Candidates {
  const float* order;    // no NaN
  const float* weights;  // >= 0; may be `order`; null: each weighs 1
  int64_t n;
  const Nearness* nearness = nullptr;  // where the order is not `order` itself, but how near that is

  float order_of(int64_t i) const { return nearness ? nearness->of(order[i]) : order[i]; }
};

struct Cut {
  float limit = -INFINITY;  // the order of the last one taken
  int64_t equal = 0;        // how many of just that order are taken, lower places first; 0: all
};

// Candidates are taken by falling order, equal ones by rising place, until their weights, `total` all together, reach the
// target (above 0, where they go by nearness); where rounding keeps them from it, all are taken. The memory's `order`,
// near_weights and spare are overwritten.
Cut find_cut(const MathTable& math, const Passes& passes, const RowMemory& memory, const Candidates& all, double total,
             double target);

// The place of the nth (from 1) of x[0…n) that equals `value`; there are that many.
int64_t place_of_equal(const MathTable& math, const float* x, int64_t n, float value, int64_t nth);

}  // namespace switchyard::samplers
