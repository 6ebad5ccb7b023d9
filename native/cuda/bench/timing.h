// What the benches of kernels share: instructions on memory of their own, and the time that a graph of them takes.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device/launch.h"
#include "test/cuda/compare.h"

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

// The device, its stream, and the word that kernels report to.
class Bench {
 public:
  Bench(const char* name, bool smoke) : name_(name), smoke_(smoke), limits_(test::device_limits()), error_(nullptr, sizeof(ErrorWord)) {
    check(cudaGetDeviceProperties(&properties_, 0));
    check(cudaStreamCreateWithFlags(&on_.stream, cudaStreamNonBlocking));
    check(cudaMemsetAsync(error_.data(), 0, sizeof(ErrorWord), on_.stream));
    on_.device = &limits_, on_.error = reinterpret_cast<ErrorWord*>(error_.data());
  }
  ~Bench() { cudaStreamDestroy(on_.stream); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  const Launch& on() const { return on_; }
  void fill(float* y, int64_t n, uint32_t seed) const { launch(fill_floats, grid_for(n, 256, on_), 256, 0, on_, y, n, seed); }

  // Works are as many sets of inputs for the same thing. One graph goes through them in turn until it holds `repeats`; the median
  // of its replays, divided by that, is printed as a line of JSON with `about` ("\"tokens\":1"). bytes, flops: of one work.
  void time(const char* what, const std::string& about, const std::vector<std::function<void(const Launch&)>>& works, int repeats,
            double bytes, double flops = 0) {
    if (smoke_) repeats = static_cast<int>(works.size());
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    check(cudaStreamBeginCapture(on_.stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < repeats; i++) works[static_cast<size_t>(i) % works.size()](on_);
    check(cudaStreamEndCapture(on_.stream, &graph));
    check(cudaGraphInstantiate(&exec, graph, 0));
    std::vector<double> us;
    cudaEvent_t from, to;
    check(cudaEventCreateWithFlags(&from, cudaEventDefault));
    check(cudaEventCreateWithFlags(&to, cudaEventDefault));
    const int replays = smoke_ ? 1 : kReplays, warm_up = smoke_ ? 0 : kWarmUp;
    for (int i = 0; i < warm_up + replays; i++) {
      check(cudaEventRecord(from, on_.stream));
      check(cudaGraphLaunch(exec, on_.stream));
      check(cudaEventRecord(to, on_.stream));
      check(cudaEventSynchronize(to));
      float ms = 0;
      check(cudaEventElapsedTime(&ms, from, to));
      if (i >= warm_up) us.push_back(1e3 * ms / repeats);
    }
    check(cudaEventDestroy(from)), check(cudaEventDestroy(to));
    check(cudaGraphExecDestroy(exec)), check(cudaGraphDestroy(graph));
    std::sort(us.begin(), us.end());
    const double median = us[us.size() / 2];
    std::printf("{\"bench\":\"%s\",\"device\":\"%s\",\"what\":\"%s\",%s,\"us\":%.3f,\"low\":%.3f,\"high\":%.3f,\"gb_per_s\":%.1f", name_,
                properties_.name, what, about.c_str(), median, us.front(), us.back(), bytes / median * 1e-3);
    if (flops > 0) std::printf(",\"tflop_per_s\":%.1f", flops / median * 1e-6);
    std::printf("}\n");
    std::fflush(stdout);
  }

  // Copies of 1 GiB: what all other figures are held against. Read and written bytes count.
  void time_copy() {
    const int64_t bytes = smoke_ ? 1 << 10 : 1 << 30;
    const test::DeviceBytes from(nullptr, bytes), to(nullptr, bytes);
    fill(reinterpret_cast<float*>(from.data()), bytes / 4, 1);
    time("copy", "\"bytes\":" + std::to_string(bytes), {[&](const Launch& on) {
           check(cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on.stream));
         }}, 4, 2.0 * static_cast<double>(bytes));
  }

  // Whether no kernel reported a wrong value.
  bool good() const {
    check(cudaStreamSynchronize(on_.stream));
    ErrorWord word;
    error_.read(&word);
    if (word.kind != 0) std::fprintf(stderr, "%s: instruction %u reports %lld at place %lld\n", name_, word.instruction, (long long)word.got, (long long)word.place);
    return word.kind == 0;
  }

 private:
  const char* name_;
  bool smoke_;
  DeviceLimits limits_;
  test::DeviceBytes error_;
  cudaDeviceProp properties_{};
  Launch on_;
};

// An instruction whose outputs and scratch are its own; inputs are the operands of others, or its own too.
class Call {
 public:
  explicit Call(const char* name) : name_(name) {}

  template <class T>
  const Operand* make(std::initializer_list<int64_t> dims, const T* from = nullptr) {
    operands_.push_back(std::make_unique<Operand>());
    Operand& o = *operands_.back();
    o.dtype = test::dtype_of<T>(), o.shape = test::shape_of(dims);
    memory_.push_back(std::make_unique<test::DeviceBytes>(from, o.shape.size() * static_cast<int64_t>(sizeof(T))));
    o.data = memory_.back()->data();
    return &o;
  }
  Call& in(const Operand* operand) {
    instruction_.in.push_back(operand);
    return *this;
  }
  template <class T>
  Call& out(std::initializer_list<int64_t> dims) {
    instruction_.out.push_back(make<T>(dims));
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
  const Operand* result(size_t i = 0) const { return instruction_.out[i]; }

  void launch(const Launch& on) {
    const Kernel* kernel = kernels().find(name_);
    if (scratch_ == nullptr) {
      scratch_ = std::make_unique<test::DeviceBytes>(nullptr, kernel->scratch != nullptr ? kernel->scratch(instruction_, *on.device) : 0);
      const auto words = kernel->constant != nullptr ? kernel->constant(instruction_) : std::vector<std::byte>();
      constant_ = std::make_unique<test::DeviceBytes>(words.data(), static_cast<int64_t>(words.size()));
    }
    Launch own = on;
    own.scratch = scratch_->data(), own.constant = constant_->data();
    kernel->launch(instruction_, own);
  }

 private:
  const char* name_;
  Instruction instruction_;
  std::vector<std::unique_ptr<Operand>> operands_;
  std::vector<std::unique_ptr<test::DeviceBytes>> memory_;
  std::unique_ptr<test::DeviceBytes> scratch_, constant_;
};

}  // namespace switchyard::cuda::bench
