// The runtime thread: takes tasks from a queue one by one and runs programs on its own thread pool.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/program.h"
#include "runtime/thread_pool.h"

namespace switchyard {

class Executor;

// Work for the runtime thread.
class Task {
 public:
  virtual ~Task() = default;
  // On the runtime thread. What it throws becomes `error`.
  virtual void perform(Executor& executor) = 0;
  // From any thread, while perform() runs: the runtime stops. Programs need nothing here: run() looks by itself.
  virtual void cancel() {}
  std::exception_ptr error;
};

struct RunOptions {
  int threads = 1;  // clamped to those of the pool
  Tier tier = Tier::kScalar;
  bool trace = false;
  const std::atomic<bool>* abort = nullptr;
};

// One instruction of a traced run, or one phase of it; times in microseconds of the steady clock.
struct TraceEvent {
  std::string_view kernel;
  std::string_view phase;  // empty: the whole instruction, whose phases follow it
  uint64_t program = 0;  // Program::id
  uint32_t step = 0;     // number of the instruction
  double start = 0, duration = 0;
};

class Executor {
 public:
  // Runs programs on the device of `buffers`, else on the host. `done` receives every submitted task once, on the runtime thread (tasks that never ran too, with kAborted).
  using Done = std::function<void(std::unique_ptr<Task>)>;
  Executor(int threads, std::shared_ptr<BufferPool> buffers, Done done);
  ~Executor() { stop(); }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  int threads() const { return pool_.threads(); }
  const std::shared_ptr<const Device>& device() const { return buffers_->device(); }  // null: the host
  // From any thread. After stop() it throws kDisposed.
  void submit(std::unique_ptr<Task> task);
  // Ends the running program before its next instruction and what is queued at once, then joins the thread.
  void stop();
  // The events since the last call (beyond a million, the newest instructions are dropped).
  std::vector<TraceEvent> take_trace();

  // Performs the task now, on the calling thread, unless another is performed or waits: then it returns false. Throws
  // what the task throws; after stop() kDisposed.
  bool perform_here(Task& task);

  // For tasks, while they are performed.
  ThreadPool& pool() { return pool_; }
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  // Runs a program on what Program::check_run has accepted; allocates the outputs that are null.
  void run(Program& program, std::span<const std::shared_ptr<Buffer>> inputs,
           std::span<std::shared_ptr<Buffer>> outputs, std::span<const int64_t> ints, const RunOptions& options);

 private:
  void loop();
  std::unique_ptr<Task> next();
  void finish(std::unique_ptr<Task> task);
  std::byte* reserve(Block& block, int64_t bytes);
  void run_on_device(Program& program, std::span<const std::shared_ptr<Buffer>> inputs,
                     std::span<const std::shared_ptr<Buffer>> outputs, std::span<const int64_t> ints,
                     const RunOptions& options);
  void run_steps(Program& program, const Context& context, const RunOptions& options);
  void run_traced(const Program& program, uint32_t number, const Instruction& instruction, const Context& context);

  ThreadPool pool_;
  std::shared_ptr<BufferPool> buffers_;
  Done done_;
  // Memory of the programs: it only grows, all programs share it.
  Block arena_, shared_scratch_, worker_scratch_;
  int64_t device_memory_ = 0;  // what runs on the device use, as last told

  std::mutex trace_mutex_;
  std::vector<TraceEvent> trace_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Task>> queue_;
  Task* running_ = nullptr;  // guarded by mutex_; on the runtime thread
  bool here_ = false;        // guarded by mutex_; perform_here has the runtime
  std::atomic<int> queued_{0};  // what the spinning thread watches
  std::atomic<bool> stopping_{false};
  std::mutex stop_mutex_;
  std::thread thread_;
};

}  // namespace switchyard
