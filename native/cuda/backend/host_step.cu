#include "cuda/backend/host_step.h"

#include <algorithm>
#include <map>

#include "cuda/device/check.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kAlign = 64;

int64_t bytes_of(const Operand& o) { return o.shape.size() * dtype_size(o.dtype); }
// Weights are the host's own, and so are constants without device memory.
bool is_copied(const Operand* o, const HostStep::PlaceKey& place) {
  if (o == nullptr || o->weight != nullptr || bytes_of(*o) == 0) return false;
  return std::get<0>(place) != SY_CONSTANT || o->data != nullptr;
}

}  // namespace

HostStep::HostStep(const Instruction& instruction, const std::vector<PlaceKey>& in, const std::vector<PlaceKey>& out,
                   SyHostRun run, void* host)
    : number_(instruction.number), run_(run), host_(host) {
  std::map<PlaceKey, int64_t> bytes, at;
  const auto measure = [&](const std::vector<const Operand*>& operands, const std::vector<PlaceKey>& places) {
    for (size_t i = 0; i < operands.size(); i++) {
      if (is_copied(operands[i], places[i])) bytes[places[i]] = std::max(bytes[places[i]], bytes_of(*operands[i]));
    }
  };
  measure(instruction.in, in);
  measure(instruction.out, out);
  for (const auto& [place, size] : bytes) {
    at[place] = bytes_;
    bytes_ += (size + kAlign - 1) / kAlign * kAlign;
  }
  const auto locate = [&](const std::vector<const Operand*>& operands, const std::vector<PlaceKey>& places) {
    std::vector<int64_t> offsets;
    for (size_t i = 0; i < operands.size(); i++) offsets.push_back(is_copied(operands[i], places[i]) ? at[places[i]] : -1);
    return offsets;
  };
  in_at_ = locate(instruction.in, in), out_at_ = locate(instruction.out, out);
}

void HostStep::launch(const Instruction& instruction, std::byte* memory, cudaStream_t stream) {
  const auto addresses = [&](const std::vector<int64_t>& offsets) {
    std::vector<void*> list;
    for (const int64_t offset : offsets) list.push_back(offset < 0 ? nullptr : memory + offset);
    return list;
  };
  in_ = addresses(in_at_), out_ = addresses(out_at_);
  for (size_t i = 0; i < in_.size(); i++) {
    if (in_[i] == nullptr) continue;
    check(cudaMemcpyAsync(in_[i], instruction.in[i]->data, static_cast<size_t>(bytes_of(*instruction.in[i])),
                          cudaMemcpyDeviceToHost, stream));
  }
  check(cudaLaunchHostFunc(stream, call, this));
  for (size_t i = 0; i < out_.size(); i++) {
    if (out_[i] == nullptr) continue;
    check(cudaMemcpyAsync(instruction.out[i]->data, out_[i], static_cast<size_t>(bytes_of(*instruction.out[i])),
                          cudaMemcpyHostToDevice, stream));
  }
}

void HostStep::call(void* self) {
  auto& step = *static_cast<HostStep*>(self);
  step.run_(step.host_, step.number_, step.in_.data(), step.out_.data(), &step.status_);
}

}  // namespace switchyard::cuda
