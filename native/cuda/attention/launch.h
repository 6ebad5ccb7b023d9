// How attention is started: the choices, and what both files of kernels share.
#pragma once
#include <algorithm>
#include <stdexcept>

#include "cuda/attention/combine.h"

namespace switchyard::cuda {

// Which kernel: f32 with tiles of 16 or 64 rows, or tensor cores for steps or for prompts by tiles of 64 or 128 rows.
enum class AttentionPath { kRows16, kRows64, kSteps, kPrompts, kWidePrompts };

// Choices that only time tells (bench/attention_bench.cu --sweep).
struct AttentionTuning {
  int stages = 3;  // of a step's blocks of keys in shared memory, 2 or 3
  int blocks = 2;  // of threads that a multiprocessor holds; below half of it keys are split
  int least = 1;   // blocks of 64 keys that are worth a split
  bool wide = true;  // tiles of 128 rows for prompts that fill them
};

void launch_attention(const Instruction&, const Launch&, const AttentionTuning&);
void launch_paged_attention(const Instruction&, const Launch&, const AttentionTuning&);
int64_t attention_scratch(const Instruction&, const DeviceLimits&, const AttentionTuning&);

// By the tensor cores (mma_half.cu, mma_bf16.cu).
template <class T>
void attend_mma(const AttentionProblem&, AttentionPath, const PagedKeys<T>&, const AttentionTuning&, const Launch&);

inline dim3 attention_grid(const AttentionProblem& p, int64_t chunks = 1) {
  return dim3(static_cast<unsigned>(p.tiles), static_cast<unsigned>(p.G * chunks), static_cast<unsigned>(p.splits));
}

template <int kRows, class Keys>
void combine_splits(const AttentionProblem& p, const Keys& keys, const Launch& on) {
  if (p.splits == 1) return;
  const dim3 grid(static_cast<unsigned>(p.tiles), static_cast<unsigned>(p.G), kRows);
  launch(Start::kEarly, attention_combine<Keys, kRows>, grid, kCombineThreads, 0, on, p, keys);
}

}  // namespace switchyard::cuda
