// What attention.cc asks of the vector kernels: the work of one block of keys on some rows of queries.
#pragma once
#include <cstdint>

#include "runtime/tier.h"

namespace switchyard {

// Keys of a block; blocks start at multiples of it, counted from the first key of the sequence.
constexpr int kKeyBlock = 64;
constexpr int kLanes = 16;

constexpr int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Online softmax of some rows over the keys met so far (arXiv 1805.02867, algorithm 3).
struct AttentionState {
  float* max;  // [rows], -inf: no key yet
  float* sum;  // [rows, 16]: Σ exp(score - max) in 16 parts, part j of the keys at positions ≡ j mod 16
  float* out;  // [rows, padded(Cv)]: Σ exp(score - max)·v
};

struct AttentionBlock {
  int64_t rows, C, Cv;
  float scale;
  bool half;                  // k and v are f16
  const float* const* q;      // [rows] → [C]
  const uint64_t* visible;    // [rows]: bit j is set where the row sees key j
  const void* const* k;       // [64] → [C]; a key that no row sees points to zeros
  const void* const* v;       // [64] → [Cv]
  float* keys;                // scratch [C, 64]
  float* values;              // scratch [64, padded(Cv)]
  AttentionState state;
};

struct AttentionKernels {
  void (*clear)(const AttentionState&, int64_t rows, int64_t Cv);
  void (*block)(const AttentionBlock&);
  // total = total ∘ part, for every row.
  void (*merge)(const AttentionState& total, const AttentionState& part, int64_t rows, int64_t Cv);
  // y[row] → [Cv] = out / Σ sum, zeros for a row that saw no key.
  void (*finish)(const AttentionState&, int64_t rows, int64_t Cv, float* const* y);
};

const AttentionKernels& attention_kernels(Tier tier);

}  // namespace switchyard
