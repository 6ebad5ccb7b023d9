// What attention.cc asks of the vector kernels: the work of one block of keys on some rows of queries.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/tier.h"

namespace switchyard {

// Keys of a block; blocks start at multiples of it, counted from the first key of the sequence.
constexpr int kKeyBlock = 64;
constexpr int kLanes = 16;
constexpr int kKeyVectors = kKeyBlock / kLanes;

constexpr int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Online softmax of some rows over the keys met so far (arXiv 1805.02867, algorithm 3).
struct AttentionState {
  float* max;  // [rows], -inf: no key yet
  float* sum;  // [rows, 16]: Σ exp(score - max) in 16 parts, part j of the keys at positions ≡ j mod 16
  float* out;  // [rows, padded(Cv)]: Σ exp(score - max)·v
};

// How keys and values are stored. int8: codes, and a scale for each key and each value.
enum class KvType { kF32, kF16, kBf16, kInt8 };

// Where the keys and values of a block lie, by vectors of 16. A vector that no row sees repeats another one: it is read
// as keys, its scores count for nothing. Values are read only where a row sees them.
struct KeyBlock {
  const std::byte* k[kKeyVectors];  // → [C, 16]: channel after channel
  const std::byte* v[kKeyVectors];  // → [16, Cv]
  const float *k_scale[kKeyVectors], *v_scale[kKeyVectors];  // int8: → [16]; both the key's where values lie in keys
};

// What happens to a score before the softmax, in this order. Rows are ordered by position, then head: row r is head
// r % heads at position first + r / heads.
struct ScoreTerms {
  float cap;            // cap·tanh(score / cap); 0: none
  const float* slopes;  // [heads] or nullptr: + slope·(key position - query position)
  const float* bias;    // [heads, bias_size] or nullptr: + bias[clamp(key position - query position + left)]
  int64_t bias_size, left;
  int64_t heads, first;
  int64_t base;  // position of the block's first key
  bool any() const { return cap > 0 || slopes != nullptr || bias != nullptr; }
};

struct AttentionBlock {
  int64_t rows, C, Cv;
  float scale;
  KvType type;
  const float* const* q;    // [rows] → [C]
  const uint64_t* visible;  // [rows]: bit j is set where the row sees key j
  const ScoreTerms* terms;  // nullptr: none
  const KeyBlock* at;
  int64_t k_distance, v_distance;  // elements from channel to channel, from value to value
  const KeyBlock* next;            // what the caller will ask for next, nullptr: unknown
  bool values_in_keys;             // a value is the first Cv channels of its key; then at->v is not read
  // Keys that lie as rows of f32, [64] → [C]; then at->k is not read. One that no row sees points to zeros.
  const float* const* key_rows;
  float* keys;    // scratch [C, 64]
  float* values;  // scratch [64, padded(Cv)]
  AttentionState state;
};

struct AttentionKernels {
  void (*clear)(const AttentionState&, int64_t rows, int64_t Cv);
  void (*block)(const AttentionBlock&);
  // total = total ∘ part, for every row.
  void (*merge)(const AttentionState& total, const AttentionState& part, int64_t rows, int64_t Cv);
  // y[row] → [Cv] = out / Σ sum, zeros for a row that saw no key. sinks [heads]: row r has one score more without a value,
  // sinks[r % heads]; nullptr: none.
  void (*finish)(const AttentionState&, int64_t rows, int64_t Cv, const float* sinks, int64_t heads, float* const* y);
};

const AttentionKernels& attention_kernels(Tier tier);

}  // namespace switchyard
