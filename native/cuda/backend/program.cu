#include "cuda/backend/program.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "formats/pack.h"

namespace switchyard::cuda {
namespace {

constexpr size_t kMostGraphs = 8;       // a program's; the one that was used longest ago goes
constexpr size_t kLeastSteps = 3;       // fewer launches are as fast as a graph
constexpr int64_t kAlign = 256;

int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

std::string text_of(const ErrorWord& e, const std::string& kernel) {
  char text[320];
  const auto i = [](int64_t v) { return static_cast<long long>(v); };
  switch (static_cast<ErrorKind>(e.kind)) {
    case ErrorKind::kNotFinite:
      std::snprintf(text, sizeof text, "[%s] got a number that is not finite at place %lld, expected finite numbers",
                    kernel.c_str(), i(e.place));
      break;
    case ErrorKind::kNoChoice:
      std::snprintf(text, sizeof text, "[%s] got nothing to choose from in row %lld, expected one choice or more",
                    kernel.c_str(), i(e.place));
      break;
    default:
      std::snprintf(text, sizeof text, "[%s] got %lld at place %lld, expected %lld to %lld", kernel.c_str(), i(e.got), i(e.place),
                    i(e.low), i(e.high));
  }
  return text;
}

}  // namespace

Program::Program(std::shared_ptr<DeviceState> device, const SyProgramSource& source)
    : device_(std::move(device)), arena_bytes_(source.arena_bytes), ints_(source.ints) {
  device_->enter();
  operands_.resize(source.operand_count);
  for (uint32_t i = 0; i < source.operand_count; i++) {
    const SyOperand& from = source.operands[i];
    Operand& to = operands_[i];
    to.dtype = static_cast<DType>(from.dtype);
    to.shape.rank = from.rank;
    std::copy(from.dims, from.dims + kMaxRank, to.shape.dims.begin());
    bound_.push_back({static_cast<SyKind>(from.kind), from.index, from.offset});
    if (from.kind == SY_INPUT) inputs_ = std::max(inputs_, from.index + 1);
    if (from.kind == SY_OUTPUT) outputs_ = std::max(outputs_, from.index + 1);
    if (from.kind == SY_CONSTANT) to.data = static_cast<std::byte*>(const_cast<void*>(from.data));
    if (from.kind != SY_WEIGHT) continue;
    DeviceWeight& w = weights_.emplace_back();
    w.format = static_cast<Format>(from.format);
    w.experts = from.experts, w.rows = from.rows, w.columns = from.columns;
    w.layout = panel_layout(w.format, w.columns);
    w.expert_stride = from.expert_stride;
    w.data = static_cast<const std::byte*>(from.data);
    to.weight = &w;
  }

  steps_.resize(source.instruction_count);
  for (uint32_t i = 0; i < source.instruction_count; i++) {
    const SyInstruction& from = source.instructions[i];
    Step& step = steps_[i];
    step.name = from.kernel;
    step.instruction.number = i;
    for (uint32_t o = 0; o < from.ins; o++) {
      step.instruction.in.push_back(from.in[o] == SWITCHYARD_ABSENT ? nullptr : &operands_[from.in[o]]);
    }
    for (uint32_t o = 0; o < from.outs; o++) {
      step.instruction.out.push_back(from.out[o] == SWITCHYARD_ABSENT ? nullptr : &operands_[from.out[o]]);
    }
    for (uint32_t a = 0; a < from.attributes; a++) {
      const SyAttribute& attribute = from.attribute[a];
      step.instruction.attrs.push_back(
          {attribute.i, attribute.f, std::vector<int64_t>(attribute.ints, attribute.ints + attribute.count)});
      if (attribute.slot != SWITCHYARD_ABSENT) step.slots.push_back({a, attribute.slot});
    }
    const auto with_host = [&](uint32_t number) {
      if (number == SWITCHYARD_ABSENT) return false;
      const Operand& o = operands_[number];
      return o.weight != nullptr ? o.weight->data == nullptr : bound_[number].kind == SY_CONSTANT && o.data == nullptr;
    };
    const bool left = std::any_of(from.in, from.in + from.ins, with_host);
    step.kernel = left ? nullptr : kernels().find(step.name);
    if (step.kernel == nullptr) {
      const auto places = [&](const uint32_t* numbers, uint32_t count) {
        std::vector<HostStep::PlaceKey> keys;
        for (uint32_t o = 0; o < count; o++) {
          if (numbers[o] == SWITCHYARD_ABSENT) {
            keys.push_back({-1, 0, 0});
            continue;
          }
          const Bound& b = bound_[numbers[o]];
          if (b.kind == SY_WEIGHT && operands_[numbers[o]].weight->data != nullptr) {
            throw ValueError("[" + step.name + "] got weights of the device for an instruction on the host, expected them there");
          }
          keys.push_back({static_cast<int>(b.kind), b.index, b.kind == SY_ARENA ? b.offset : 0});
        }
        return keys;
      };
      step.on_host = std::make_unique<HostStep>(step.instruction, places(from.in, from.ins), places(from.out, from.outs),
                                                source.host_run, source.host);
      pinned_bytes_ = std::max(pinned_bytes_, step.on_host->bytes());
      continue;
    }
    if (step.kernel->scratch != nullptr) {
      scratch_bytes_ = std::max(scratch_bytes_, aligned(step.kernel->scratch(step.instruction, device_->limits())));
    }
    if (step.kernel->constant != nullptr) {
      const std::vector<std::byte> words = step.kernel->constant(step.instruction);
      step.constant = DeviceMemory(static_cast<int64_t>(words.size()));
      device_->working += step.constant.bytes();
      device_->upload(step.constant.data(), words.data(), static_cast<int64_t>(words.size()));
    }
  }
}

Program::~Program() {
  cudaSetDevice(device_->ordinal());
  cudaStreamSynchronize(device_->stream());
  for (Captured& c : graphs_) drop(c);
  for (const Step& step : steps_) device_->working -= step.constant.bytes();
}

void Program::drop(Captured& c) {
  if (c.graph != nullptr) cudaGraphExecDestroy(c.graph);
  c.graph = nullptr;
}

void Program::bind(const SyRun& run) {
  for (size_t i = 0; i < operands_.size(); i++) {
    const Bound& b = bound_[i];
    if (b.kind == SY_INPUT) operands_[i].data = static_cast<std::byte*>(run.inputs[b.index]);
    if (b.kind == SY_OUTPUT) operands_[i].data = static_cast<std::byte*>(run.outputs[b.index]);
    if (b.kind == SY_ARENA) operands_[i].data = device_->arena() + b.offset;
  }
  for (Step& step : steps_) {
    for (const auto& [attribute, slot] : step.slots) step.instruction.attrs[attribute].i = run.ints[slot];
  }
}

void Program::launch_step(Step& step) {
  if (step.on_host) {
    step.on_host->launch(step.instruction, device_->pinned(), device_->stream());
    return;
  }
  Launch on;
  on.stream = device_->stream();
  on.device = &device_->limits();
  on.error = device_->error_word();
  on.scratch = device_->scratch();
  on.constant = step.constant.data();
  step.kernel->launch(step.instruction, on);
}

// With the word of errors cleared before and fetched behind. mark(): before the first step and behind each.
void Program::launch_all(const std::function<void()>& mark) {
  check(cudaMemsetAsync(device_->error_word(), 0, sizeof(ErrorWord), device_->stream()));
  mark();
  for (Step& step : steps_) {
    launch_step(step);
    mark();
  }
  check(cudaMemcpyAsync(device_->error_on_host(), device_->error_word(), sizeof(ErrorWord), cudaMemcpyDeviceToHost,
                        device_->stream()));
}

void Program::launch_traced(double* trace) {
  std::vector<std::unique_ptr<Event>> marks;
  launch_all([&] {
    marks.push_back(std::make_unique<Event>(cudaEventDefault));
    check(cudaEventRecord(*marks.back(), device_->stream()));
  });
  check(cudaStreamSynchronize(device_->stream()));
  for (size_t i = 0; i < steps_.size(); i++) {
    float begin = 0, length = 0;  // milliseconds
    check(cudaEventElapsedTime(&begin, *marks[0], *marks[i]));
    check(cudaEventElapsedTime(&length, *marks[i], *marks[i + 1]));
    trace[2 * i] = 1000.0 * begin;
    trace[2 * i + 1] = 1000.0 * length;
  }
}

// The entry of a run that is seen again: with a graph, or to be captured now. nullptr: seen for the first time, or too small.
Program::Captured* Program::captured(const SyRun& run) {
  if (steps_.size() < kLeastSteps) return nullptr;
  std::vector<uint64_t> key;
  for (uint32_t i = 0; i < inputs_; i++) key.push_back(reinterpret_cast<uint64_t>(run.inputs[i]));
  for (uint32_t i = 0; i < outputs_; i++) key.push_back(reinterpret_cast<uint64_t>(run.outputs[i]));
  for (uint32_t i = 0; i < ints_; i++) key.push_back(static_cast<uint64_t>(run.ints[i]));
  const auto found = std::find_if(graphs_.begin(), graphs_.end(), [&](const Captured& c) { return c.key == key; });
  if (found != graphs_.end()) {
    std::rotate(found, found + 1, graphs_.end());
    return &graphs_.back();
  }
  if (graphs_.size() == kMostGraphs) {
    drop(graphs_.front());
    graphs_.erase(graphs_.begin());
  }
  graphs_.push_back({std::move(key), 0, nullptr});
  return nullptr;
}

void Program::capture(Captured& into) {
  drop(into);
  // Other threads may use the device meanwhile.
  check(cudaStreamBeginCapture(device_->stream(), cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    launch_all();
  } catch (...) {
    cudaStreamEndCapture(device_->stream(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(device_->stream(), &graph));
  const cudaError_t made = cudaGraphInstantiate(&into.graph, graph, 0);
  cudaGraphDestroy(graph);
  check(made);
  into.generation = device_->generation();
}

void Program::run(const SyRun& run) {
  std::lock_guard one_run(device_->run_mutex);
  device_->enter();
  {
    std::lock_guard lock(device_->stream_mutex);
    device_->reserve(std::max<int64_t>(arena_bytes_, 1), std::max<int64_t>(scratch_bytes_, 1), pinned_bytes_);
    bind(run);
    if (run.trace != nullptr) {
      launch_traced(run.trace);
    } else if (Captured* c = captured(run)) {
      if (c->graph == nullptr || c->generation != device_->generation()) capture(*c);
      check(cudaGraphLaunch(c->graph, device_->stream()));
    } else {
      launch_all();
    }
  }
  finish();
}

void Program::finish() {
  check(cudaStreamSynchronize(device_->stream()));
  for (Step& step : steps_) {
    if (!step.on_host) continue;
    const SyStatus status = step.on_host->take_status();
    if (status.code != 0) throw HostError{status};
  }
  const ErrorWord& e = *device_->error_on_host();
  if (e.kind == static_cast<int32_t>(ErrorKind::kNone)) return;
  throw ValueError(text_of(e, e.instruction < steps_.size() ? steps_[e.instruction].name : "run"));
}

}  // namespace switchyard::cuda
