// What routing asks of the vector kernels, for the scores of one token.
#pragma once
#include <cstdint>

#include "runtime/tier.h"

namespace switchyard {

struct RouteKernels {
  // e^(x - max x) in place, divided by the sum. A row of -inf only gives zeros.
  void (*softmax)(float* x, int64_t n);
  void (*sigmoid)(float* x, int64_t n);
  // The k ≤ n places of the largest values, falling, ties to the lower place. Leaves x in another state; x has room
  // for n rounded up to 16.
  void (*top_k)(float* x, int64_t n, int64_t k, int32_t* ids);
  // Of each of `groups` runs of `size` values: the largest, or the sum of the two largest (of one, where size is 1).
  void (*group_scores)(const float* x, int64_t groups, int64_t size, bool two, float* scores);
  // A step of a search for shortest paths among n nodes, a multiple of 8: where base + (price - gain) is below the
  // distance, it becomes the distance and `from` the origin. Returns the first node of the smallest distance.
  int64_t (*relax)(double base, double from, const double* price, const double* gain, int64_t n, double* distance,
                   double* origin);
};

const RouteKernels& route_kernels(Tier tier);

}  // namespace switchyard
