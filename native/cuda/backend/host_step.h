// An instruction that the backend has no kernel for: its operands go to pinned memory, the host runs it in its place of the
// stream, and what it wrote comes back.
#pragma once
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "cuda/kernel.h"
#include "cuda/backend/memory.h"
#include "runtime/backend.h"

namespace switchyard::cuda {

class HostStep {
 public:
  // `places`: what makes two operands the same memory, one for each of in and out.
  using PlaceKey = std::tuple<int, uint32_t, int64_t>;
  HostStep(const Instruction& instruction, const std::vector<PlaceKey>& in, const std::vector<PlaceKey>& out, SyHostRun run,
           void* host);
  // Puts the copies and the call into the stream.
  void launch(const Instruction& instruction, cudaStream_t stream);
  // What the last call said; 0 again afterwards.
  SyStatus take_status() { return std::exchange(status_, {}); }

 private:
  static void call(void* self);

  uint32_t number_;
  SyHostRun run_;
  void* host_;
  std::map<PlaceKey, PinnedMemory> memory_;
  std::vector<void*> in_, out_;
  SyStatus status_{};
};

}  // namespace switchyard::cuda
