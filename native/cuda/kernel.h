// What a kernel of the CUDA backend is. Programs reach it checked: the loader has run prepare() of the CPU kernel of the same
// name, so counts, dtypes, ranks, sizes and attributes are those that kernel admits. Only values (indices, offsets) are
// unchecked: a kernel must not read or write outside its operands whatever they are, and report() those that are wrong.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cuda/error_word.h"
#include "formats/format.h"
#include "formats/pack.h"
#include "runtime/types.h"

namespace switchyard::cuda {

// A packed weight in the memory of the device: byte for byte the panels of formats/pack.h.
struct DeviceWeight {
  Format format = Format::kF32;
  int64_t experts = 1, rows = 0, columns = 0;
  PanelLayout layout;
  int64_t expert_stride = 0;  // bytes; 0 where all experts are the same bytes
  const std::byte* data = nullptr;

  int64_t panels() const { return (rows + kPanel - 1) / kPanel; }
};

// A tensor, or a packed weight. `data` is device memory, 64-byte aligned except for inputs, which are aligned to elements at
// least.
struct Operand {
  DType dtype = DType::kF32;
  Shape shape;
  std::byte* data = nullptr;
  const DeviceWeight* weight = nullptr;  // set instead of data

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// Which member counts is told by the signature of the CPU kernel.
struct Attribute {
  int64_t i = 0;
  double f = 0;
  std::vector<int64_t> ints;
};

struct Instruction {
  uint32_t number = 0;              // in its program; what errors say
  std::vector<const Operand*> in;   // nullptr: an optional operand that is absent
  std::vector<const Operand*> out;
  std::vector<Attribute> attrs;
};

struct DeviceLimits {
  int multiprocessors = 1;
  int capability = 90;              // 10 · major + minor
  int64_t shared_per_block = 0;     // bytes, after opting in
  int64_t l2 = 0;
};

// What a launch may use. All of it is asynchronous: a kernel never waits for the device, allocates, or reads what it computes,
// so that runs can be captured as graphs.
struct Launch {
  cudaStream_t stream = nullptr;
  const DeviceLimits* device = nullptr;
  ErrorWord* error = nullptr;       // device memory
  std::byte* scratch = nullptr;     // as scratch() asked for, 256-byte aligned, contents undefined
  const std::byte* constant = nullptr;  // what constant() gave, 256-byte aligned
};

struct Kernel {
  std::string_view name;            // of the CPU kernel whose place it takes
  void (*launch)(const Instruction&, const Launch&);
  // Bytes of scratch; nullptr: none. Asked once, at load (run-time integers are 0 then: ask for what any value needs).
  int64_t (*scratch)(const Instruction&, const DeviceLimits&) = nullptr;
  // Bytes that are put in device memory once, at load; nullptr: none. Not for attributes that are run-time integers.
  std::vector<std::byte> (*constant)(const Instruction&) = nullptr;
};

class KernelTable {
 public:
  void add(const Kernel& kernel) { kernels_.push_back(kernel); }
  const Kernel* find(std::string_view name) const {
    for (const Kernel& k : kernels_) {
      if (k.name == name) return &k;
    }
    return nullptr;
  }
  std::span<const Kernel> all() const { return kernels_; }

 private:
  std::vector<Kernel> kernels_;
};

// All kernels of the backend (register.cu lists the files).
const KernelTable& kernels();

}  // namespace switchyard::cuda
