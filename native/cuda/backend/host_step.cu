#include "cuda/backend/host_step.h"

#include "cuda/device/check.h"

namespace switchyard::cuda {
namespace {

int64_t bytes_of(const Operand& o) { return o.shape.size() * dtype_size(o.dtype); }
// Weights are the host's own.
bool is_copied(const Operand* o) { return o != nullptr && o->weight == nullptr && bytes_of(*o) > 0; }

}  // namespace

HostStep::HostStep(const Instruction& instruction, const std::vector<PlaceKey>& in, const std::vector<PlaceKey>& out,
                   SyHostRun run, void* host)
    : number_(instruction.number), run_(run), host_(host) {
  const auto take = [&](const std::vector<const Operand*>& operands, const std::vector<PlaceKey>& places,
                        std::vector<void*>* pointers) {
    for (size_t i = 0; i < operands.size(); i++) {
      if (!is_copied(operands[i])) continue;
      PinnedMemory& memory = memory_[places[i]];
      if (memory.bytes() < bytes_of(*operands[i])) memory = PinnedMemory(bytes_of(*operands[i]));
    }
    pointers->resize(operands.size(), nullptr);
  };
  take(instruction.in, in, &in_);
  take(instruction.out, out, &out_);
  // Once all are as large as they must be.
  for (size_t i = 0; i < in.size(); i++) {
    if (is_copied(instruction.in[i])) in_[i] = memory_[in[i]].data();
  }
  for (size_t i = 0; i < out.size(); i++) {
    if (is_copied(instruction.out[i])) out_[i] = memory_[out[i]].data();
  }
}

void HostStep::launch(const Instruction& instruction, cudaStream_t stream) {
  for (size_t i = 0; i < in_.size(); i++) {
    if (!is_copied(instruction.in[i])) continue;
    check(cudaMemcpyAsync(in_[i], instruction.in[i]->data, static_cast<size_t>(bytes_of(*instruction.in[i])),
                          cudaMemcpyDeviceToHost, stream));
  }
  check(cudaLaunchHostFunc(stream, call, this));
  for (size_t i = 0; i < out_.size(); i++) {
    if (!is_copied(instruction.out[i])) continue;
    check(cudaMemcpyAsync(instruction.out[i]->data, out_[i], static_cast<size_t>(bytes_of(*instruction.out[i])),
                          cudaMemcpyHostToDevice, stream));
  }
}

void HostStep::call(void* self) {
  auto& step = *static_cast<HostStep*>(self);
  step.run_(step.host_, step.number_, step.in_.data(), step.out_.data(), &step.status_);
}

}  // namespace switchyard::cuda
