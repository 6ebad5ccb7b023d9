// An instruction that the backend has no kernel for: its operands go to pinned memory, the host runs it in its place of the
// stream, and what it wrote comes back.
#pragma once
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
  // Of pinned memory, which instructions of one stream share.
  int64_t bytes() const { return bytes_; }
  // Puts the copies and the call into the stream. `memory`: bytes() of pinned memory.
  void launch(const Instruction& instruction, std::byte* memory, cudaStream_t stream);
  // What the last call said; 0 again afterwards.
  SyStatus take_status() { return std::exchange(status_, {}); }

 private:
  static void call(void* self);

  uint32_t number_;
  SyHostRun run_;
  void* host_;
  int64_t bytes_ = 0;
  std::vector<int64_t> in_at_, out_at_;  // where an operand lies in the memory; -1: nowhere
  std::vector<void*> in_, out_;          // the same as addresses, since the last launch
  SyStatus status_{};
};

}  // namespace switchyard::cuda
