// Where a cut through candidates lies, without sorting them all.
#pragma once
#include <cmath>
#include <cstdint>

namespace switchyard::samplers {

inline float below(float x) { return std::nextafter(x, -INFINITY); }

// Candidates are taken by falling `order` (equal ones: the lower place first) until their weights reach the target. Returns
// the place of the last one taken, or -1 where all weights together do not reach it. `words` has room for n.
int64_t cut_place(const float* order, const float* weights, int64_t n, double target, uint64_t* words);

// The k-th largest of x[0…n), 1 <= k <= n; -inf counts. `words` has room for n.
float kth_largest(const float* x, int64_t n, int64_t k, uint64_t* words);

}  // namespace switchyard::samplers
