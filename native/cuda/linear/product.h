// What all products with packed weights are: rows of x, grouped by expert or one group, against the panels of a weight.
#pragma once
#include <span>

#include "cuda/kernel.h"

namespace switchyard::cuda {

// y[r] = W[e]·x[token(r)] for the rows r of expert e; rows past the last offset are written as zeros.
struct Product {
  const DeviceWeight* weight = nullptr;
  const float* x = nullptr;            // [tokens, columns]
  const int32_t* row_token = nullptr;  // [rows]; nullptr: row r reads x[r]
  const int32_t* offsets = nullptr;    // [experts + 1], on the device and not trusted; nullptr: one group of all rows
  int64_t tokens = 0, rows = 0, experts = 1;
  float* y = nullptr;                  // [rows, weight->rows]
};

// How activations enter a product (the attribute `compute` of linear, grouped_linear and moe_experts): as they are, or rounded
// to bf16. The CPU's int8 (2) stands for "rounded to 8 bits"; here rounding to bf16 is as fast and closer, so both are kBf16.
enum class Compute { kF32, kBf16 };
inline Compute compute_of(int64_t attribute) { return attribute == 0 ? Compute::kF32 : Compute::kBf16; }

// Float weights of 32 bits are products of f32 whatever is asked for: tensor cores have no such operand.
inline bool exact(const DeviceWeight& w, Compute compute) { return compute == Compute::kF32 || w.format == Format::kF32; }

// Three ways, chosen on the host by shapes alone; each wants `scratch` bytes.
//   exact  linear/exact.cu   f32 multiply-adds; every format; any number of rows
//   few    linear/few.cu     bf16 tensor cores, weights streamed once: at most kFewRows rows of x, and kFewExperts experts
//   many   linear/many.cu    bf16 tensor cores, tiles of rows
constexpr int64_t kFewRows = 64;
constexpr int64_t kFewExperts = 4096;  // their table lies in shared memory, beside what is streamed
bool has_few(Format f);
int64_t exact_scratch(const Product& p, const DeviceLimits& device);
void launch_exact(const Product& p, uint32_t instruction, const Launch& on, std::byte* scratch);
int64_t few_scratch(const Product& p, const DeviceLimits& device);
// Products of the same rows and x with several weights; few_scratch() of any of them.
void launch_few(std::span<const Product> products, uint32_t instruction, const Launch& on, std::byte* scratch);
bool has_many(Format f);
int64_t many_scratch(const Product& p, const DeviceLimits& device);
void launch_many(const Product& p, uint32_t instruction, const Launch& on, std::byte* scratch);

}  // namespace switchyard::cuda
