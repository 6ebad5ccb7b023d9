// How kernels tell that a value is wrong: the first report of a run is kept, and the run fails with it once it has ended.
#pragma once
#include <cstdint>

namespace switchyard::cuda {

enum class ErrorKind : int32_t {
  kNone = 0,
  kIndex,      // an index outside [low, high]
  kNotFinite,  // a value that must be finite is not
  kNoChoice,   // nothing is left to choose from
};

// In device memory, zeroed before a run.
struct ErrorWord {
  int32_t kind;          // ErrorKind; written last
  uint32_t instruction;
  int32_t claimed;
  int32_t reserved;
  int64_t place, got, low, high;  // got stands at `place` of its operand; expected low to high
};

}  // namespace switchyard::cuda
