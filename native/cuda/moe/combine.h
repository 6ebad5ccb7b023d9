// The last step of an MoE layer on the device: the weighted sum of each token's expert rows.
#pragma once
#include "cuda/device/launch.h"

namespace switchyard::cuda {

struct Bf16;
struct Half;

// y[n] = Σ_k weights[n, k] · rows[slot_row[n, k]] in f32, k in order by fused multiply-adds (the CPU's bits where rows are f32);
// slots of -1 are left out. Rows that are no multiple of 16 bytes, or not aligned to them, are read value by value.
// rows [R, D] of float, Bf16 or Half, slot_row [N, K] (not trusted: others than -1 to R - 1 are reported at their place and left
// out), weights [N, K] or nullptr (ones), y [N, D].
template <class T>
void launch_combine(const T* rows, const int32_t* slot_row, const float* weights, int64_t R, int64_t N, int64_t K, int64_t D,
                    float* y, uint32_t instruction, const Launch& on, Start start = Start::kAfterPrevious);

}  // namespace switchyard::cuda
