// Scratch of one row of a sampler chain.
#pragma once
#include <cstddef>
#include <cstdint>

namespace switchyard::samplers {

// Places that packing may write behind what it packs.
constexpr int64_t kPackingRoom = 16;

// Where nothing else is said, an array has a place for each of v tokens and kPackingRoom.
struct RowMemory {
  float* scores;        // a copy, if the chain edits
  float* gathered;      // of listed candidates
  float* weights;
  float* order;         // of candidates near a cut; scores that are sorted
  float* spare;         // twice as long: more of candidates near a cut; sort keys, and what tail-free makes of what is sorted
  int32_t* ids;         // of listed candidates
  int32_t* counts;      // of tokens of the history
  float* near_weights;  // of those near a cut; the memory of counts, which no filter needs
  double* sums;         // of blocks of kSumBlock weights
  double* moments;      // of such blocks; other sums of a filter
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
