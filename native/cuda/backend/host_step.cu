#include "cuda/backend/host_step.h"

#include "cuda/device/check.h"

namespace switchyard::cuda {
namespace {

int64_t bytes_of(const Operand& o) { return o.shape.size() * dtype_size(o.dtype); }

}  // namespace

HostStep::HostStep(const Instruction& instruction, const std::vector<PlaceKey>& in, const std::vector<PlaceKey>& out,
                   SyHostRun run, void* host)
    : number_(instruction.number), run_(run), host_(host) {
  const auto take = [&](const std::vector<const Operand*>& operands, const std::vector<PlaceKey>& places,
                        std::vector<void*>* pointers) {
    for (size_t i = 0; i < operands.size(); i++) {
      if (operands[i] == nullptr) {
        pointers->push_back(nullptr);
        continue;
      }
      PinnedMemory& memory = memory_[places[i]];
      if (memory.bytes() < bytes_of(*operands[i])) memory = PinnedMemory(bytes_of(*operands[i]));
      pointers->push_back(nullptr);
    }
  };
  take(instruction.in, in, &in_);
  take(instruction.out, out, &out_);
  for (size_t i = 0; i < in.size(); i++) {
    if (instruction.in[i] != nullptr) in_[i] = memory_[in[i]].data();
  }
  for (size_t i = 0; i < out.size(); i++) {
    if (instruction.out[i] != nullptr) out_[i] = memory_[out[i]].data();
  }
}

void HostStep::launch(const Instruction& instruction, cudaStream_t stream) {
  for (size_t i = 0; i < in_.size(); i++) {
    if (instruction.in[i] == nullptr || bytes_of(*instruction.in[i]) == 0) continue;
    check(cudaMemcpyAsync(in_[i], instruction.in[i]->data, static_cast<size_t>(bytes_of(*instruction.in[i])),
                          cudaMemcpyDeviceToHost, stream));
  }
  check(cudaLaunchHostFunc(stream, call, this));
  for (size_t i = 0; i < out_.size(); i++) {
    if (instruction.out[i] == nullptr || bytes_of(*instruction.out[i]) == 0) continue;
    check(cudaMemcpyAsync(instruction.out[i]->data, out_[i], static_cast<size_t>(bytes_of(*instruction.out[i])),
                          cudaMemcpyHostToDevice, stream));
  }
}

void HostStep::call(void* self) {
  auto& step = *static_cast<HostStep*>(self);
  step.run_(step.host_, step.number_, step.in_.data(), step.out_.data(), &step.status_);
}

}  // namespace switchyard::cuda
