// Products of many rows, as tests choose them; launch_many() of product.h takes kExpandBytes.
#pragma once
#include "cuda/linear/product.h"

namespace switchyard::cuda {

// Weights that are not bf16 are decoded so many bytes at a time (or one group of panels), where the L2 cache still holds them.
constexpr int64_t kExpandBytes = int64_t{64} << 20;
int64_t many_scratch(const Product& p, int64_t expand_bytes);
void launch_many(const Product& p, int64_t expand_bytes, uint32_t instruction, const Launch& on, std::byte* scratch);

}  // namespace switchyard::cuda
