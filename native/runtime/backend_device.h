// A device of a backend library, as the executor uses it.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace switchyard {

class Program;

// A program on the device. Unloaded with the last holder, on the runtime thread or after its end.
class BackendProgram {
 public:
  virtual ~BackendProgram() = default;
};

class BackendDevice : public std::enable_shared_from_this<BackendDevice> {
 public:
  // Loads the library and opens a device. Throws kUnsupported with the reason where there is none that works.
  static std::shared_ptr<BackendDevice> open(const std::string& library, int index);
  ~BackendDevice();
  BackendDevice(const BackendDevice&) = delete;
  BackendDevice& operator=(const BackendDevice&) = delete;

  sy_device_info info() const;
  bool supports(const char* kernel) const { return backend_->supports(kernel) != 0; }
  // Runs `program`, loading it at its first run. `times`, if not empty, gets microseconds per instruction.
  void run(Program& program, std::span<const std::shared_ptr<Buffer>> inputs,
           std::span<const std::shared_ptr<Buffer>> outputs, std::span<const int64_t> ints,
           const std::atomic<bool>* abort, std::span<double> times);

 private:
  friend class LoadedProgram;
  BackendDevice() = default;
  std::shared_ptr<BackendProgram> load(Program& program);

  // Programs may be unloaded by any thread while another one runs.
  mutable std::mutex mutex_;
  void* library_ = nullptr;
  const sy_backend* backend_ = nullptr;
  void* device_ = nullptr;
};

}  // namespace switchyard
