// A program on a device: what the loader has checked, told to the backend.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/device.h"
#include "runtime/kernel.h"
#include "runtime/program.h"

namespace switchyard {

class DeviceProgram {
 public:
  // Both must outlive it. Instructions that the backend has no kernel for run on the host in their place of the order, on the
  // kernels of the CPU.
  DeviceProgram(std::shared_ptr<const Device> device, Program& program);
  ~DeviceProgram();
  DeviceProgram(const DeviceProgram&) = delete;
  DeviceProgram& operator=(const DeviceProgram&) = delete;

  // Memory of one instruction on the host: at least so many bytes, until the next call. Fresh memory for each would cost more
  // time, page by page, than many an instruction takes.
  struct HostScratch {
    std::function<std::byte*(int64_t bytes)> shared, workers;
  };

  // `trace`: null, or two numbers an instruction (SyRun). `host`, `scratch`: what instructions on the host use meanwhile.
  void run(std::span<const std::shared_ptr<Buffer>> inputs, std::span<const std::shared_ptr<Buffer>> outputs,
           std::span<const int64_t> ints, double* trace, const Context& host, const HostScratch& scratch);

 private:
  static void run_on_host(void* self, uint32_t instruction, void* const* in, void* const* out, SyStatus* status);

  std::shared_ptr<const Device> device_;
  Program& program_;
  Context host_;
  const HostScratch* scratch_ = nullptr;  // of the run
  SyProgram* loaded_ = nullptr;
};

}  // namespace switchyard
