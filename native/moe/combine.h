// The last step of an MoE layer: the weighted sum of each token's expert rows.
#pragma once
#include <cstdint>

#include "runtime/kernel.h"

namespace switchyard {

// y[n] = Σ_k weights[n, k] · rows[slot_row[n, k]], in order of k, slots of -1 left out.
// rows [R, D], slot_row [N, K], weights [N, K] or nullptr (ones), y [N, D]. Throws where a slot row is not -1 to R - 1.
void combine_rows(const Context& context, const char* kernel, const float* rows, const int32_t* slot_row,
                  const float* weights, int64_t R, int64_t N, int64_t K, int64_t D, float* y);

}  // namespace switchyard
