// What the benches of kernels share: instructions on memory of their own, and the time that a graph of them takes.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "cuda/backend/device_state.h"
#include "cuda/device/launch.h"

namespace switchyard::cuda::bench {

constexpr int kReplays = 30;
constexpr int kWarmUp = 3;

// Random words, so that no two sets of inputs are the same bytes.
__device__ inline uint32_t hashed(uint64_t i, uint32_t seed) {
  uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u + seed * uint64_t{0xd1342543de82ef95u};
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>(z >> 32);
}
// Of the interval (-1, 1).
static __global__ void fill_floats(float* y, int64_t n, uint32_t seed) {
  SWITCHYARD_GRID_STRIDE(i, n) y[i] = static_cast<float>(static_cast<int32_t>(hashed(static_cast<uint64_t>(i), seed))) * 0x1p-31f;
}

// Microseconds of each replay of a graph of what `work` asks of the stream, in rising order, after `warm_up` that do not count.
template <class F>
std::vector<double> time_graph(cudaStream_t stream, int warm_up, int replays, const F& work) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  work();
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&exec, graph, 0));
  std::vector<double> us;
  const Event from(cudaEventDefault), to(cudaEventDefault);
  for (int i = 0; i < warm_up + replays; i++) {
    check(cudaEventRecord(from, stream));
    check(cudaGraphLaunch(exec, stream));
    check(cudaEventRecord(to, stream));
    check(cudaEventSynchronize(to));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, from, to));
    if (i >= warm_up) us.push_back(1e3 * ms);
  }
  check(cudaGraphExecDestroy(exec)), check(cudaGraphDestroy(graph));
  std::sort(us.begin(), us.end());
  return us;
}

// The device, its stream, and the word that kernels report to.
class Bench {
 public:
  Bench(const char* name, bool smoke) : name_(name), smoke_(smoke), device_(0) {
    check(cudaGetDeviceProperties(&properties_, 0));
    on_.stream = device_.stream(), on_.device = &device_.limits(), on_.error = device_.error_word();
    check(cudaMemsetAsync(on_.error, 0, sizeof(ErrorWord), on_.stream));
  }

  const Launch& on() const { return on_; }
  const cudaDeviceProp& properties() const { return properties_; }
  void fill(float* y, int64_t n, uint32_t seed) const { launch(fill_floats, grid_for(n, 256, on_), 256, 0, on_, y, n, seed); }

  // Works are as many sets of inputs for the same thing. One graph goes through them in turn until it holds `repeats`; the median
  // of its replays, divided by that, is printed as a line of JSON with `about` ("\"tokens\":1"). bytes, flops: of one work.
  void time(const char* what, const std::string& about, const std::vector<std::function<void(const Launch&)>>& works, int repeats,
            double bytes, double flops = 0) {
    if (smoke_) repeats = static_cast<int>(works.size());
    for (const auto& work : works) work(on_);  // memory that is asked for at first is not asked for under the capture
    check(cudaStreamSynchronize(on_.stream));
    const std::vector<double> us = time_graph(on_.stream, smoke_ ? 0 : kWarmUp, smoke_ ? 1 : kReplays, [&] {
      for (int i = 0; i < repeats; i++) works[static_cast<size_t>(i) % works.size()](on_);
    });
    const double median = us[us.size() / 2] / repeats;
    std::printf("{\"bench\":\"%s\",\"device\":\"%s\",\"what\":\"%s\",%s,\"us\":%.3f,\"low\":%.3f,\"high\":%.3f,\"gb_per_s\":%.1f", name_,
                properties_.name, what, about.c_str(), median, us.front() / repeats, us.back() / repeats, bytes / median * 1e-3);
    if (flops > 0) std::printf(",\"tflop_per_s\":%.1f", flops / median * 1e-6);
    std::printf("}\n");
    std::fflush(stdout);
  }

  // Copies of 1 GiB: what all other figures are held against. Read and written bytes count.
  void time_copy() {
    const int64_t bytes = smoke_ ? 1 << 10 : 1 << 30;
    const DeviceMemory from(bytes), to(bytes);
    fill(reinterpret_cast<float*>(from.data()), bytes / 4, 1);
    time("copy", "\"bytes\":" + std::to_string(bytes), {[&](const Launch& on) {
           check(cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on.stream));
         }}, 4, 2.0 * static_cast<double>(bytes));
  }

  // Whether no kernel reported a wrong value.
  bool good() const {
    check(cudaStreamSynchronize(on_.stream));
    ErrorWord word;
    check(cudaMemcpy(&word, on_.error, sizeof word, cudaMemcpyDeviceToHost));
    if (word.kind != 0) {
      std::fprintf(stderr, "%s: instruction %u got %lld at place %lld\n", name_, word.instruction, static_cast<long long>(word.got),
                   static_cast<long long>(word.place));
    }
    return word.kind == 0;
  }

 private:
  const char* name_;
  bool smoke_;
  DeviceState device_;
  cudaDeviceProp properties_{};
  Launch on_;
};

// An instruction whose outputs and scratch are its own; inputs are the operands of others, or its own too.
class Call {
 public:
  explicit Call(const char* name) : name_(name) {}

  // Memory of this instruction's own, not filled.
  const Operand* make(DType dtype, std::initializer_list<int64_t> dims) {
    operands_.push_back(std::make_unique<Operand>());
    Operand& o = *operands_.back();
    o.dtype = dtype;
    for (const int64_t d : dims) o.shape.dims[static_cast<size_t>(o.shape.rank++)] = d;
    memory_.emplace_back(o.shape.size() * dtype_size(dtype));
    o.data = memory_.back().data();
    return &o;
  }
  Call& in(const Operand* operand) {
    instruction_.in.push_back(operand);
    return *this;
  }
  Call& out(DType dtype, std::initializer_list<int64_t> dims) {
    instruction_.out.push_back(make(dtype, dims));
    return *this;
  }
  Call& result_in(const Operand* operand) {
    instruction_.out.push_back(operand);
    return *this;
  }
  Call& attr(int64_t i) {
    instruction_.attrs.push_back({i, static_cast<double>(i), {}});
    return *this;
  }
  Call& attr(double f) {
    instruction_.attrs.push_back({0, f, {}});
    return *this;
  }
  Call& attr(std::vector<int64_t> ints) {
    instruction_.attrs.push_back({0, 0, std::move(ints)});
    return *this;
  }
  // Of all operands.
  double bytes() const {
    double sum = 0;
    for (const auto& list : {instruction_.in, instruction_.out}) {
      for (const Operand* o : list) sum += static_cast<double>(o->shape.size() * dtype_size(o->dtype));
    }
    return sum;
  }
  const Operand* result(size_t i = 0) const { return instruction_.out[i]; }
  const Instruction& instruction() const { return instruction_; }

  void launch(const Launch& on) {
    if (kernel_ == nullptr) {
      kernel_ = kernels().find(name_);
      if (kernel_ == nullptr) throw std::runtime_error(std::string("no kernel '") + name_ + "'");
      if (kernel_->scratch != nullptr) scratch_ = DeviceMemory(kernel_->scratch(instruction_, *on.device));
      const auto words = kernel_->constant != nullptr ? kernel_->constant(instruction_) : std::vector<std::byte>();
      constant_ = DeviceMemory(static_cast<int64_t>(words.size()));
      if (!words.empty()) check(cudaMemcpy(constant_.data(), words.data(), words.size(), cudaMemcpyHostToDevice));
    }
    Launch own = on;
    own.scratch = scratch_.data(), own.constant = constant_.data();
    kernel_->launch(instruction_, own);
  }

 private:
  const char* name_;
  const Kernel* kernel_ = nullptr;
  Instruction instruction_;
  std::vector<std::unique_ptr<Operand>> operands_;
  std::vector<DeviceMemory> memory_;
  DeviceMemory scratch_, constant_;
};

}  // namespace switchyard::cuda::bench
