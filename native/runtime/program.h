// A program: instructions over numbered operands, checked once when it is loaded (docs/program-format.md).
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/kernel.h"

namespace switchyard {

class Device;
class DeviceProgram;
class MappedFile;

// A weight as the loader sees it.
struct ProgramWeight {
  std::shared_ptr<const Weight> weight;
  int64_t experts = 0, rows = 0, columns = 0;
};

class Program {
 public:
  enum class Kind : uint8_t { kInput = 0, kConstant = 1, kArena = 2, kOutput = 3, kWeight = 4 };

  // One row of the buffer table.
  struct Entry {
    Kind kind = Kind::kArena;
    uint32_t index = 0;  // within the kind
    int64_t offset = 0;  // within the arena
    int64_t bytes = 0;
  };

  // An int attribute whose value each run brings.
  struct RuntimeAttribute {
    uint32_t attribute = 0, slot = 0;
  };

  struct Step {
    Instruction instruction;
    std::vector<RuntimeAttribute> runtime;  // if any, prepare() waits for the values
    bool prepared = false;
  };

  // Keeps constants and weights alive. Throws Error(kProgram…) for a malformed program, one that names an unknown
  // kernel, or one that a kernel's prepare() refuses.
  // `device`: where it will run and where constants lie; null: the host. An instruction whose weights or constants lie in the
  // host's memory runs there, in its place of the order.
  static std::shared_ptr<Program> load(std::span<const std::byte> binary, const KernelRegistry& kernels,
                                       std::vector<std::shared_ptr<Buffer>> constants,
                                       std::vector<ProgramWeight> weights,
                                       std::shared_ptr<const Device> device = nullptr);
  Program();  // empty
  ~Program();

  // Throws unless runs can start with these: their number, the exact bytes of each, and that what is written (outputs;
  // inputs and constants by kernels that may) shares its memory with nothing else. Outputs that are null are allocated
  // by each run.
  void check_run(std::span<const std::shared_ptr<Buffer>> inputs, std::span<const std::shared_ptr<Buffer>> outputs,
                 size_t ints) const;

  // Throws Error(kIo) where a file that weights are mapped from was cut or could not be read.
  void check_files() const;

  uint64_t id = 0;  // set by the owner; what trace events say
  // How long the next run may take: as long as the shorter of the last two, since the system may take the processor from
  // one of them; infinity before the first.
  double microseconds() const { return expected_.load(std::memory_order_relaxed); }

  // The rest is for the executor, which holds `mutex` meanwhile: operands and attributes are bound in place.
  std::mutex mutex;
  void bind(std::span<const std::shared_ptr<Buffer>> inputs, std::span<const std::shared_ptr<Buffer>> outputs,
            std::byte* arena);
  // Writes run-time integers into the attributes and prepares again the steps whose value is new.
  void set_ints(std::span<const int64_t> ints);
  void took(double microseconds);
  // Of a program on a device; null: on the host.
  DeviceProgram* on_device() { return on_device_.get(); }
  const Device* device() const { return device_.get(); }
  std::span<Step> steps() { return steps_; }
  std::span<const Operand> operands() const { return operands_; }
  std::span<const Entry> entries() const { return entries_; }
  std::span<const std::shared_ptr<Buffer>> constants() const { return constants_; }
  uint32_t ints() const { return ints_; }
  size_t size() const { return steps_.size(); }
  std::span<const int64_t> output_bytes() const { return output_bytes_; }
  int64_t arena_bytes() const { return arena_bytes_; }
  // The most that any step asks for (those with run-time integers as of the last set_ints).
  int64_t shared_scratch() const { return shared_scratch_; }
  int64_t worker_scratch() const { return worker_scratch_; }

 private:
  friend class ProgramLoader;
  void prepare(Step& step);

  std::vector<Operand> operands_;  // never resized after load: instructions point into it
  std::vector<Entry> entries_;
  std::vector<Step> steps_;
  std::vector<std::shared_ptr<Buffer>> constants_;
  std::vector<ProgramWeight> weights_;
  std::vector<std::shared_ptr<const MappedFile>> files_;  // of the weights, each once
  std::vector<int64_t> input_bytes_;  // -1: no entry, so any size will do
  std::vector<int64_t> output_bytes_;
  std::vector<uint32_t> written_inputs_, written_constants_;  // in place, by kernels that may
  uint32_t ints_ = 0;
  int64_t arena_bytes_ = 0;
  int64_t shared_scratch_ = 0, worker_scratch_ = 0;
  std::atomic<double> expected_{std::numeric_limits<double>::infinity()};
  double last_ = std::numeric_limits<double>::infinity();
  std::shared_ptr<const Device> device_;
  std::unique_ptr<DeviceProgram> on_device_;  // last: it speaks of what is above
};

}  // namespace switchyard
