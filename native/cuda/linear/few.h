// The streaming way through a product (linear/product.h) with its choices open, for the bench.
#pragma once
#include "cuda/linear/product.h"
#include "cuda/linear/stream.h"

namespace switchyard::cuda {

// Products of weights of one format, at most kMostStreamed.
void launch_few(std::span<const Product> products, const StreamTuning& tuning, uint32_t instruction, const Launch& on,
                std::byte* scratch);

}  // namespace switchyard::cuda
