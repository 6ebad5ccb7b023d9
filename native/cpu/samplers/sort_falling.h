// Scores sorted by falling value.
#pragma once
#include <cstdint>

namespace switchyard::samplers {

// x[0…n), no NaN; -0 becomes 0. keys: room for 2n. Takes the same time whatever the values are.
void sort_falling(float* x, int64_t n, uint32_t* keys);

}  // namespace switchyard::samplers
