// A program on a device: instructions bound to kernels, run one by one or as a captured graph.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/backend/device_state.h"
#include "cuda/backend/host_step.h"
#include "cuda/kernel.h"
#include "runtime/backend.h"

namespace switchyard::cuda {

class Program {
 public:
  // Throws where a kernel cannot serve.
  Program(std::shared_ptr<DeviceState> device, const SyProgramSource& source);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Throws ValueError for what kernels report, CudaError for what the driver does.
  void run(const SyRun& run);

 private:
  struct Bound {
    SyKind kind;
    uint32_t index;
    int64_t offset;
  };
  struct Step {
    Instruction instruction;
    const Kernel* kernel = nullptr;  // nullptr: on the host
    std::string name;
    DeviceMemory constant;
    std::unique_ptr<HostStep> on_host;
    std::vector<std::pair<uint32_t, uint32_t>> slots;  // attribute, slot of `ints`
  };
  // What a run was captured for: the addresses and numbers that its launches hold.
  struct Captured {
    std::vector<uint64_t> key;
    uint64_t generation = 0;
    cudaGraphExec_t graph = nullptr;  // nullptr: seen once
  };

  void bind(const SyRun& run);
  void launch_all(const std::function<void()>& mark = [] {});
  void launch_traced(double* trace);
  Captured* captured(const SyRun& run);
  void capture(Captured& into);
  void finish();
  void launch_step(Step& step);
  void drop(Captured& c);

  std::shared_ptr<DeviceState> device_;
  std::vector<Operand> operands_;
  std::vector<Bound> bound_;
  std::deque<DeviceWeight> weights_;
  std::vector<Step> steps_;
  int64_t arena_bytes_, scratch_bytes_ = 0, pinned_bytes_ = 0;
  uint32_t ints_, inputs_ = 0, outputs_ = 0;
  std::vector<Captured> graphs_;  // the latest last
};

// What an instruction on the host has said.
struct HostError {
  SyStatus status;
};

// A value that a kernel found to be wrong.
struct ValueError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace switchyard::cuda
