// Values that change their format.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/weight.h"

namespace switchyard {

// A row of f32 into one lane of a panel; `row` counts the rows of all experts. Throws kFormat for values that the format
// cannot hold, naming their place.
void pack_converted(const WeightSource& source, int64_t row, const std::vector<float>& values, Format format,
                    const PanelLayout& layout, std::byte* panel, int lane);

}  // namespace switchyard
