#pragma once
#include "cuda/error_word.h"
#include "cuda/device/launch.h"

namespace switchyard::cuda {

// From any thread: the first report of a run is kept.
__device__ inline void report(ErrorWord* error, uint32_t instruction, ErrorKind kind, int64_t place, int64_t got,
                              int64_t low, int64_t high) {
  if (atomicCAS(&error->claimed, 0, 1) != 0) return;
  error->instruction = instruction;
  error->place = place, error->got = got, error->low = low, error->high = high;
  __threadfence();
  error->kind = static_cast<int32_t>(kind);
}

// Whether `index` lies in [0, size); reports it otherwise. `place`: where in its operand it stands.
__device__ inline bool in_range(ErrorWord* error, uint32_t instruction, int64_t place, int64_t index, int64_t size) {
  if (index >= 0 && index < size) return true;
  report(error, instruction, ErrorKind::kIndex, place, index, 0, size - 1);
  return false;
}
// The same where -1 stands for "none": false for it, and reports only what is neither.
__device__ inline bool in_range_or_none(ErrorWord* error, uint32_t instruction, int64_t place, int64_t index, int64_t size) {
  if (index >= 0 && index < size) return true;
  if (index != -1) report(error, instruction, ErrorKind::kIndex, place, index, -1, size - 1);
  return false;
}

}  // namespace switchyard::cuda
