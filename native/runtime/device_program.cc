#include "runtime/device_program.h"

#include <algorithm>
#include <deque>

#include "runtime/weight.h"

namespace switchyard {
namespace {

// Such a constant is read where it lies, by instructions on the host.
bool lies_with_host(const Program& program, const Program::Entry& entry) {
  return entry.kind == Program::Kind::kConstant && program.constants()[entry.index]->device() == nullptr;
}

SyOperand operand_of(const Program& program, const Program::Entry& entry, const Operand& operand) {
  SyOperand to{};
  to.kind = static_cast<int32_t>(entry.kind);
  to.index = entry.index;
  to.offset = entry.offset;
  to.bytes = entry.bytes;
  to.dtype = static_cast<int32_t>(operand.dtype);
  to.rank = operand.shape.rank;
  std::copy(operand.shape.dims.begin(), operand.shape.dims.end(), to.dims);
  if (const Weight* w = operand.weight) {
    to.data = w->device() != nullptr ? w->data() : nullptr;
    to.format = static_cast<int32_t>(w->format());
    to.experts = w->experts(), to.rows = w->rows(), to.columns = w->columns();
    to.expert_stride = w->experts() > 1 ? w->expert_stride() : 0;
  } else if (entry.kind == Program::Kind::kConstant && !lies_with_host(program, entry)) {
    to.data = operand.data;
  }
  return to;
}

}  // namespace

DeviceProgram::DeviceProgram(std::shared_ptr<const Device> device, Program& program)
    : device_(std::move(device)), program_(program) {
  const std::span<const Operand> operands = program.operands();
  const std::span<const Program::Entry> entries = program.entries();
  std::vector<SyOperand> told;
  for (size_t i = 0; i < operands.size(); i++) told.push_back(operand_of(program, entries[i], operands[i]));

  // What the backend's pointers point to while it loads.
  std::deque<std::vector<uint32_t>> numbers;
  std::deque<std::vector<SyAttribute>> attributes;
  std::vector<SyInstruction> instructions;
  const auto numbers_of = [&](const std::vector<const Operand*>& list) {
    std::vector<uint32_t>& to = numbers.emplace_back();
    for (const Operand* o : list) {
      to.push_back(o == nullptr ? SWITCHYARD_ABSENT : static_cast<uint32_t>(o - operands.data()));
    }
    return to.data();
  };
  for (const Program::Step& step : program.steps()) {
    const Instruction& from = step.instruction;
    std::vector<SyAttribute>& list = attributes.emplace_back();
    for (const Attribute& a : from.attrs) {
      list.push_back({a.i, a.f, a.ints.data(), static_cast<int64_t>(a.ints.size()), SWITCHYARD_ABSENT});
    }
    for (const Program::RuntimeAttribute& r : step.runtime) list[r.attribute].slot = r.slot;
    SyInstruction to{};
    to.kernel = from.kernel->name.data();  // a literal: it ends with a zero
    to.in = numbers_of(from.in), to.ins = static_cast<uint32_t>(from.in.size());
    to.out = numbers_of(from.out), to.outs = static_cast<uint32_t>(from.out.size());
    to.attribute = list.data(), to.attributes = static_cast<uint32_t>(list.size());
    instructions.push_back(to);
  }
  SyProgramSource source{};
  source.operands = told.data(), source.operand_count = static_cast<uint32_t>(told.size());
  source.instructions = instructions.data(), source.instruction_count = static_cast<uint32_t>(instructions.size());
  source.arena_bytes = program.arena_bytes();
  source.ints = program.ints();
  source.host_run = run_on_host, source.host = this;
  SyStatus status{};
  loaded_ = device_->backend()->load(device_->handle(), &source, &status);
  check_status(status);
}

DeviceProgram::~DeviceProgram() { device_->backend()->unload(loaded_); }

void DeviceProgram::run(std::span<const std::shared_ptr<Buffer>> inputs, std::span<const std::shared_ptr<Buffer>> outputs,
                        std::span<const int64_t> ints, double* trace, const Context& host,
                        const HostScratch& scratch) {
  host_ = host, scratch_ = &scratch;
  std::vector<void*> in, out;
  for (const auto& buffer : inputs) in.push_back(buffer->data());
  for (const auto& buffer : outputs) out.push_back(buffer->data());
  const SyRun run{in.data(), out.data(), ints.data(), trace};
  SyStatus status{};
  device_->backend()->run(loaded_, &run, &status);
  check_status(status);
}

void DeviceProgram::run_on_host(void* self, uint32_t number, void* const* in, void* const* out, SyStatus* status) {
  auto& program = *static_cast<DeviceProgram*>(self);
  try {
    const Instruction& original = program.program_.steps()[number].instruction;
    // Operands of its own: those of the program stand for device memory.
    Instruction instruction = original;
    std::deque<Operand> operands;
    alignas(64) std::byte nothing{};  // where an operand without elements is
    const auto bind = [&](std::vector<const Operand*>& list, void* const* memory) {
      for (size_t i = 0; i < list.size(); i++) {
        if (list[i] == nullptr) continue;
        operands.push_back(*list[i]);
        const auto number = static_cast<size_t>(list[i] - program.program_.operands().data());
        list[i] = &operands.back();
        if (lies_with_host(program.program_, program.program_.entries()[number])) continue;
        operands.back().data = memory[i] != nullptr ? static_cast<std::byte*>(memory[i]) : &nothing;
      }
    };
    bind(instruction.in, in);
    bind(instruction.out, out);
    Context context = program.host_;
    context.worker_stride = (instruction.worker_scratch + 127) / 128 * 128;
    context.shared_scratch = program.scratch_->shared(instruction.shared_scratch);
    context.worker_scratch = program.scratch_->workers(context.worker_stride * context.threads);
    instruction.kernel->run(instruction, context);
  } catch (...) {
    status_of_exception(status);
  }
}

}  // namespace switchyard
