// A stable sort of 32-bit keys, each with a 32-bit value, on the device: segments of equal length, each sorted on its own.
#pragma once
#include "cuda/kernel.h"

namespace switchyard::cuda {

class RadixSort {
 public:
  struct Pairs {
    uint32_t *keys, *values;  // [segments, n]
  };

  // Bytes of scratch; n < 2^32.
  static int64_t bytes(int64_t segments, int64_t n);
  RadixSort(std::byte* scratch, int64_t segments, int64_t n);

  // In the scratch, to be filled before run().
  Pairs pairs() const { return from_; }
  // Sorts by the lowest `bits` bits of the keys, rising; returns where the pairs lie then, in the scratch too.
  Pairs run(int bits, const Launch& on);

 private:
  int64_t segments_, n_, tiles_;
  Pairs from_, to_;
  uint32_t* counts_;  // [segments, digits, tiles]
};

}  // namespace switchyard::cuda
