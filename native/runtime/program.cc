#include "runtime/program.h"

#include <algorithm>
#include <string>

#include "runtime/device_program.h"
#include "runtime/mapped_file.h"

namespace switchyard {
namespace {

constexpr int64_t kMostScratch = int64_t{1} << 40;

}  // namespace

Program::Program() = default;
Program::~Program() = default;

void Program::prepare(Step& step) {
  Instruction& instruction = step.instruction;
  instruction.shared_scratch = instruction.worker_scratch = 0;
  instruction.kernel->prepare(instruction);
  const int64_t shared = instruction.shared_scratch, worker = instruction.worker_scratch;
  if (shared < 0 || worker < 0 || shared > kMostScratch || worker > kMostScratch) {
    fail(ErrorCode::kProgram, "[%.*s] got a need for %lld bytes of scratch, expected at most 2^40",
         static_cast<int>(instruction.kernel->name.size()), instruction.kernel->name.data(),
         static_cast<long long>(std::max(shared, worker)));
  }
  shared_scratch_ = std::max(shared_scratch_, shared);
  worker_scratch_ = std::max(worker_scratch_, worker);
  step.prepared = true;
}

void Program::check_run(std::span<const std::shared_ptr<Buffer>> inputs,
                        std::span<const std::shared_ptr<Buffer>> outputs, size_t ints) const {
  if (inputs.size() != input_bytes_.size()) {
    fail(ErrorCode::kShape, "[run] got %zu inputs, expected %zu", inputs.size(), input_bytes_.size());
  }
  if (ints != ints_) fail(ErrorCode::kShape, "[run] got %zu integers, expected %u", ints, ints_);
  for (size_t i = 0; i < inputs.size(); i++) {
    if (input_bytes_[i] < 0 || inputs[i]->bytes() == input_bytes_[i]) continue;
    fail(ErrorCode::kShape, "[run] got %lld bytes for input %zu, expected %lld",
         static_cast<long long>(inputs[i]->bytes()), i, static_cast<long long>(input_bytes_[i]));
  }
  const auto placed = [&](const Buffer& buffer, const char* what, size_t number) {
    if (buffer.device() == device_.get()) return;
    fail(ErrorCode::kOption, "[run] got %s %zu on another device than the program's, expected it there", what, number);
  };
  for (size_t i = 0; i < inputs.size(); i++) placed(*inputs[i], "input", i);
  for (size_t i = 0; i < outputs.size(); i++) {
    if (outputs[i]) placed(*outputs[i], "output", i);
  }
  if (outputs.size() != output_bytes_.size()) {
    fail(ErrorCode::kShape, "[run] got %zu outputs, expected %zu", outputs.size(), output_bytes_.size());
  }
  const auto apart = [](const Buffer& written, const Buffer& other, const char* what, size_t number) {
    if (written.overlaps(other)) {
      fail(ErrorCode::kOption, "[run] got %s %zu in memory that is written, expected them apart", what, number);
    }
  };
  for (const uint32_t w : written_inputs_) {
    for (size_t i = 0; i < inputs.size(); i++) {
      if (i != w) apart(*inputs[w], *inputs[i], "input", i);
    }
    for (const auto& constant : constants_) apart(*inputs[w], *constant, "input", w);
  }
  for (const uint32_t w : written_constants_) {
    for (size_t i = 0; i < inputs.size(); i++) apart(*constants_[w], *inputs[i], "input", i);
  }
  for (size_t o = 0; o < outputs.size(); o++) {
    if (!outputs[o]) continue;
    if (outputs[o]->bytes() != output_bytes_[o]) {
      fail(ErrorCode::kShape, "[run] got %lld bytes for output %zu, expected %lld",
           static_cast<long long>(outputs[o]->bytes()), o, static_cast<long long>(output_bytes_[o]));
    }
    for (const auto& input : inputs) apart(*input, *outputs[o], "output", o);
    for (const auto& constant : constants_) apart(*constant, *outputs[o], "output", o);
    for (size_t before = 0; before < o; before++) {
      if (outputs[before]) apart(*outputs[before], *outputs[o], "output", o);
    }
  }
}

void Program::took(double microseconds) {
  expected_.store(std::min(microseconds, last_), std::memory_order_relaxed);
  last_ = microseconds;
}

void Program::check_files() const {
  for (const auto& file : files_) file->check();
}

void Program::bind(std::span<const std::shared_ptr<Buffer>> inputs, std::span<const std::shared_ptr<Buffer>> outputs,
                   std::byte* arena) {
  for (size_t i = 0; i < entries_.size(); i++) {
    const Entry& entry = entries_[i];
    switch (entry.kind) {
      case Kind::kInput: operands_[i].data = inputs[entry.index]->data(); break;
      case Kind::kOutput: operands_[i].data = outputs[entry.index]->data(); break;
      case Kind::kArena: operands_[i].data = arena + entry.offset; break;
      case Kind::kConstant:
      case Kind::kWeight: break;  // bound at load
    }
  }
}

void Program::set_ints(std::span<const int64_t> ints) {
  if (ints.empty()) return;
  for (Step& step : steps_) {
    if (step.runtime.empty()) continue;
    bool same = step.prepared;
    for (const RuntimeAttribute& r : step.runtime) {
      int64_t& value = step.instruction.attrs[r.attribute].i;
      same = same && value == ints[r.slot];
      value = ints[r.slot];
    }
    if (same) continue;
    step.prepared = false;  // stays so if prepare() refuses the value
    prepare(step);
  }
}

}  // namespace switchyard
