// What a kernel is: checked once when a program is loaded, then run many times.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/error.h"
#include "runtime/thread_pool.h"
#include "runtime/tier.h"
#include "runtime/types.h"

namespace switchyard {

class Weight;

// A tensor or a packed weight as an instruction sees it. `data` (64-byte aligned for intermediates, at least
// element-aligned for inputs) is bound before each run.
struct Operand {
  DType dtype = DType::kF32;
  Shape shape;
  std::byte* data = nullptr;
  const Weight* weight = nullptr;  // set instead of data

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// One attribute; which member counts is told by the kernel's signature.
struct Attribute {
  int64_t i = 0;
  double f = 0;
  std::vector<int64_t> ints;
};

struct Kernel;

struct Instruction {
  const Kernel* kernel = nullptr;
  std::vector<const Operand*> in;  // nullptr: an optional operand that is absent
  std::vector<const Operand*> out;
  std::vector<Attribute> attrs;    // in the order of the kernel's signature
  // Set by prepare(): temporary memory, 64-byte aligned, valid during run().
  int64_t shared_scratch = 0;
  int64_t worker_scratch = 0;
};

// Where the parts of one traced instruction begin.
struct PhaseLog {
  struct Mark {
    std::string_view name;  // a literal
    std::chrono::steady_clock::time_point start;
  };
  std::vector<Mark> marks;
};

// What a running kernel may use.
struct Context {
  ThreadPool* pool = nullptr;
  int threads = 1;
  Tier tier = Tier::kScalar;
  std::byte* shared_scratch = nullptr;
  std::byte* worker_scratch = nullptr;  // of worker 0; see scratch_of
  int64_t worker_stride = 0;
  PhaseLog* phases = nullptr;  // only in a traced run

  // Names what the kernel does from here on, up to its next phase or its end. Not from inside a task.
  void phase(std::string_view name) const {
    if (phases != nullptr) phases->marks.push_back({name, std::chrono::steady_clock::now()});
  }
  std::byte* scratch_of(int worker) const { return worker_scratch + worker * worker_stride; }
  template <class F>
  void parallel_for(int64_t tasks, const F& fn) const {
    pool->parallel_for(tasks, threads, fn);
  }
};

// Where an output may lie exactly on an input of the same bytes. Everywhere else the loader refuses programs whose
// outputs overlap an operand of the same instruction, so a kernel never sees its inputs change under it.
enum class InPlace {
  kNo,
  kArena,  // on an intermediate
  kAny,    // also on an input or constant of the program: the caller's memory is written
};

struct Kernel {
  std::string_view name;
  // Attributes in order, "name:type" joined by commas; types are int, float, ints. Empty: none.
  std::string_view signature;
  // Checks operand counts, dtypes, ranks, sizes and attributes; sets scratch sizes. Throws Error(kProgram…). Runs once
  // at load; where an int attribute is a run-time integer, instead before each run that brings another value.
  void (*prepare)(Instruction&);
  // May assume all that prepare() checked. Values of index tensors are data: check them here and throw.
  void (*run)(const Instruction&, const Context&);
  InPlace in_place = InPlace::kNo;
};

class KernelRegistry {
 public:
  void add(const Kernel& kernel);
  const Kernel* find(std::string_view name) const;
  std::span<const Kernel> all() const { return kernels_; }

 private:
  std::vector<Kernel> kernels_;
};

// All kernels of the CPU backend (native/cpu/register.cc lists the files).
const KernelRegistry& cpu_kernels();

// Helpers for prepare(); each throws an Error that names the kernel and the operand.
void require_counts(const Instruction&, int min_in, int max_in, int min_out, int max_out);
void require_tensor(const Instruction&, const Operand*, const char* what, DType dtype, int rank);
void require_weight(const Instruction&, const Operand*, const char* what);
void require_dim(const Instruction&, const char* what, int64_t got, int64_t expected);
void require_that(const Instruction&, bool ok, const char* message);

}  // namespace switchyard
