// Scratch of one row of a sampler chain.
#pragma once
#include <cstddef>
#include <cstdint>

namespace switchyard::samplers {

// Where nothing else is said, an array has a place for each of v tokens and for 16 more, which packing may write.
struct RowMemory {
  uint64_t* words;      // sort keys
  float* scores;        // a copy, if the chain edits
  float* gathered;      // scores of listed candidates; else those near a cut
  float* weights;
  float* order;         // what a cut goes by, where that is not the weight
  int32_t* ids;         // of listed candidates
  int32_t* counts;      // of tokens of the history
  float* near_weights;  // of those near a cut; the memory of counts, which no filter needs
  double* sums;         // of blocks of kSumBlock weights
  double* moments;      // of such blocks
  double* above;        // of segments
  int64_t* lengths;     // of segments
  float* maxima;        // of blocks of kMaximumBlock scores
  uint8_t* stale;       // those blocks whose largest score an edit has lowered since

  static int64_t bytes(int64_t v);
  RowMemory(std::byte* at, int64_t v);

 private:
  RowMemory() = default;
  int64_t lay_out(std::byte* at, int64_t v);
};

}  // namespace switchyard::samplers
