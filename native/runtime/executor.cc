#include "runtime/executor.h"

#include <algorithm>
#include <chrono>

#include "runtime/device_program.h"
#include "runtime/error.h"
#include "runtime/scheduling.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

// After a task the thread watches for the next this long before it parks: longer than JavaScript needs between two
// decode steps. A round trip costs 9 µs while it watches and 75 µs once it is parked (two cores).
constexpr std::chrono::microseconds kSpin{600};
// A program that takes less may have no region for more than one thread: nobody is woken for it ahead of time.
constexpr double kWakingMicroseconds = 200;
constexpr size_t kMostEvents = 1'000'000;

double microseconds(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

}  // namespace

Executor::Executor(int threads, std::shared_ptr<BufferPool> buffers, Done done)
    : pool_(threads), buffers_(std::move(buffers)), done_(std::move(done)) {
  try {
    thread_ = std::thread([this] { loop(); });
  } catch (const std::system_error&) {
    fail(ErrorCode::kOutOfMemory, "[runtime] got no thread from the system, expected one");
  }
}

void Executor::submit(std::unique_ptr<Task> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) fail(ErrorCode::kDisposed, "[runtime] got a use after dispose(), expected a live runtime");
    queue_.push_back(std::move(task));
    queued_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_one();
}

void Executor::stop() {
  std::lock_guard once(stop_mutex_);
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (running_ != nullptr) running_->cancel();
  }
  wake_.notify_one();
  if (!thread_.joinable()) return;
  thread_.join();
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return !here_; });
  }
  for (Block* block : {&arena_, &shared_scratch_, &worker_scratch_}) reserve(*block, -1);
}

std::vector<TraceEvent> Executor::take_trace() {
  std::lock_guard lock(trace_mutex_);
  return std::exchange(trace_, {});
}

// The next task, or nothing once all are done after stop().
std::unique_ptr<Task> Executor::next() {
  const auto until = Clock::now() + kSpin;
  while (queued_.load(std::memory_order_acquire) == 0 && !stopping() && Clock::now() < until) {
    for (int i = 0; i < 32; i++) cpu_relax();
  }
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return stopping() || (!queue_.empty() && !here_); });
  if (queue_.empty()) return nullptr;
  std::unique_ptr<Task> task = std::move(queue_.front());
  queue_.pop_front();
  queued_.fetch_sub(1, std::memory_order_relaxed);
  running_ = task.get();
  return task;
}

bool Executor::perform_here(Task& task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) fail(ErrorCode::kDisposed, "[runtime] got a use after dispose(), expected a live runtime");
    if (running_ != nullptr || here_ || !queue_.empty()) return false;
    here_ = true;
  }
  const auto leave = [this](void*) {
    std::lock_guard lock(mutex_);
    here_ = false;
    if (stopping_ || !queue_.empty()) wake_.notify_all();
  };
  const std::unique_ptr<void, decltype(leave)> guard(this, leave);
  task.perform(*this);
  return true;
}

void Executor::loop() {
  prefer_long_slices();
  while (std::unique_ptr<Task> task = next()) {
    try {
      if (stopping()) fail(ErrorCode::kAborted, "[runtime] got stopped before a task began");
      task->perform(*this);
    } catch (...) {
      task->error = std::current_exception();
    }
    finish(std::move(task));
  }
}

void Executor::finish(std::unique_ptr<Task> task) {
  {
    std::lock_guard lock(mutex_);
    running_ = nullptr;
  }
  try {
    done_(std::move(task));
  } catch (const std::bad_alloc&) {
    // No memory to hand the result over: its promise stays open, the process lives.
  }
}

// Makes `block` hold at least `bytes`; -1 frees it. Nothing in it survives.
std::byte* Executor::reserve(Block& block, int64_t bytes) {
  if (block.bytes() >= bytes && bytes >= 0) return block.data();
  MemoryUsage& usage = buffers_->usage();
  const auto replace = [&](Block with) {
    usage.arena += with.bytes() - block.bytes();
    usage.external += with.bytes() - block.bytes();
    block = std::move(with);
  };
  replace(Block());  // first, so that both are never held at once
  if (bytes > 0) replace(Block(bytes));
  return block.data();
}

void Executor::run(Program& program, std::span<const std::shared_ptr<Buffer>> inputs,
                   std::span<std::shared_ptr<Buffer>> outputs, std::span<const int64_t> ints,
                   const RunOptions& options) {
  const auto start = Clock::now();
  program.check_files();
  // Another runtime may hold the same program; its operands are bound to one run at a time.
  std::lock_guard lock(program.mutex);
  program.set_ints(ints);

  int64_t fresh_bytes = 0;
  for (size_t i = 0; i < outputs.size(); i++) fresh_bytes += outputs[i] ? 0 : program.output_bytes()[i];
  buffers_->expect(fresh_bytes);
  for (size_t i = 0; i < outputs.size(); i++) {
    if (!outputs[i]) outputs[i] = buffers_->allocate(program.output_bytes()[i], false);
  }

  if (program.device() != device().get()) {
    fail(ErrorCode::kOption, "[run] got a program of another device than the runtime's, expected one of its own");
  }
  if (program.on_device() != nullptr) return run_on_device(program, inputs, outputs, ints, options);

  Context context;
  context.pool = &pool_;
  context.threads = std::clamp(options.threads, 1, pool_.threads());
  context.tier = options.tier;
  // Workers write beside each other: a cache line and the neighbour that the prefetcher takes along lie between.
  context.worker_stride = (program.worker_scratch() + 127) / 128 * 128;
  context.shared_scratch = reserve(shared_scratch_, program.shared_scratch());
  context.worker_scratch =
      reserve(worker_scratch_, checked_mul(context.worker_stride, context.threads, "runtime"));
  // An empty arena has an address too: an intermediate without elements must not be a null pointer.
  program.bind(inputs, outputs, reserve(arena_, std::max<int64_t>(program.arena_bytes(), 1)));
  try {
    run_steps(program, context, options);
  } catch (const Error&) {
    program.check_files();  // zeros in place of weights can look like any error: the file is its cause
    throw;
  }
  program.check_files();
  program.took(microseconds(Clock::now() - start));
}

void Executor::run_on_device(Program& program, std::span<const std::shared_ptr<Buffer>> inputs,
                             std::span<const std::shared_ptr<Buffer>> outputs, std::span<const int64_t> ints,
                             const RunOptions& options) {
  if (stopping() || (options.abort != nullptr && options.abort->load(std::memory_order_relaxed))) {
    fail(ErrorCode::kAborted, "[run] got an abort before a run on the device, expected none");
  }
  Context host;  // of instructions that the device leaves to the host
  host.pool = &pool_;
  host.threads = std::clamp(options.threads, 1, pool_.threads());
  host.tier = options.tier;
  std::vector<double> times(options.trace ? 2 * program.size() : 0);
  const auto start = Clock::now();
  const DeviceProgram::HostScratch scratch{[&](int64_t bytes) { return reserve(shared_scratch_, bytes); },
                                           [&](int64_t bytes) { return reserve(worker_scratch_, bytes); }};
  try {
    program.on_device()->run(inputs, outputs, ints, options.trace ? times.data() : nullptr, host, scratch);
  } catch (const Error&) {
    program.check_files();  // as below: weights that lie with the host may be a file's
    throw;
  }
  program.check_files();
  const int64_t memory = device()->working_memory();
  buffers_->usage().arena += memory - device_memory_;
  device_memory_ = memory;
  if (!options.trace) return;
  const double zero = microseconds(start.time_since_epoch());
  std::lock_guard lock(trace_mutex_);
  for (size_t i = 0; i < program.size() && trace_.size() < kMostEvents; i++) {
    trace_.push_back({program.steps()[i].instruction.kernel->name, {}, program.id, static_cast<uint32_t>(i),
                      zero + times[2 * i], times[2 * i + 1]});
  }
}

void Executor::run_steps(Program& program, const Context& context, const RunOptions& options) {
  const ThreadPool::Watch watch(pool_, program.microseconds() < kWakingMicroseconds ? 1 : context.threads);
  const std::span<Program::Step> steps = program.steps();
  for (size_t i = 0; i < steps.size(); i++) {
    if (stopping() || (options.abort != nullptr && options.abort->load(std::memory_order_relaxed))) {
      fail(ErrorCode::kAborted, "[run] got an abort before instruction %zu of %zu", i, steps.size());
    }
    const Instruction& instruction = steps[i].instruction;
    if (options.trace) {
      run_traced(program, static_cast<uint32_t>(i), instruction, context);
    } else {
      instruction.kernel->run(instruction, context);
    }
  }
}

void Executor::run_traced(const Program& program, uint32_t number, const Instruction& instruction,
                          const Context& context) {
  PhaseLog log;
  Context traced = context;
  traced.phases = &log;
  const auto start = Clock::now();
  instruction.kernel->run(instruction, traced);
  const auto end = Clock::now();
  std::lock_guard lock(trace_mutex_);
  if (trace_.size() >= kMostEvents) return;
  const auto add = [&](std::string_view phase, Clock::time_point from, Clock::time_point to) {
    trace_.push_back({instruction.kernel->name, phase, program.id, number, microseconds(from.time_since_epoch()),
                      microseconds(to - from)});
  };
  add({}, start, end);
  for (size_t i = 0; i < log.marks.size(); i++) {
    add(log.marks[i].name, log.marks[i].start, i + 1 < log.marks.size() ? log.marks[i + 1].start : end);
  }
}

}  // namespace switchyard
