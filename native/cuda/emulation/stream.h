// Streams, events and graphs of the emulation.
#pragma once
#include <chrono>
#include <functional>

#include "cuda/emulation/cuda_runtime.h"

namespace switchyard::cuda::emulation {

struct Stream {
  Graph* captured = nullptr;  // what is asked for goes there instead of being done
};

struct Event {
  std::chrono::steady_clock::time_point at;
};

}  // namespace switchyard::cuda::emulation
