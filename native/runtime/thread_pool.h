// A pool of its own threads: workers spin after work, briefly or for as long as a program runs, then park.
//
// A region (one parallel_for) is published by opening the gate, one atomic word of
//   region number · 2^16 | open bit 2^15 | pool threads inside.
// 1. The caller writes the region's fields, opens the gate under the next number and wakes parked workers.
// 2. A worker that sees an open gate with a new number enters by a compare-and-swap that adds 1, claims tasks,
//    and leaves by subtracting 1.
// 3. The caller claims tasks too; when none is left it closes the gate and waits for those inside. A worker that
//    never came (parked, or descheduled by the system) is not waited for, and can no longer enter.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace switchyard {

// Tells the processor that this is a waiting loop.
void cpu_relax();

class ThreadPool {
 public:
  // `threads` counts the calling thread: 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs fn(task, worker) for every task in [0, tasks), each claimed atomically, on at most `width` threads
  // (the caller is worker 0, worker < width). Returns when all are done; rethrows the first exception of a task,
  // after which tasks not yet begun are skipped. One region at a time: not from inside a task, not from two threads.
  template <class F>
  void parallel_for(int64_t tasks, int width, const F& fn) {
    if (tasks <= 0) return;
    if (tasks == 1 || width <= 1 || workers_.empty()) {
      for (int64_t i = 0; i < tasks; i++) fn(i, 0);
      return;
    }
    run(tasks, width, [](const void* f, int64_t task, int worker) { (*static_cast<const F*>(f))(task, worker); }, &fn);
  }

  // While one lives, workers without work watch for the next region instead of parking soon, and park at once when it ends:
  // what follows wants the processors. Those of the first `width` that are parked are woken at its beginning, so that
  // they are there when the first region comes. One at a time, on the thread that opens regions.
  class Watch {
   public:
    Watch(ThreadPool& pool, int width);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    ThreadPool& pool_;
  };

 private:
  using Call = void (*)(const void* fn, int64_t task, int worker);
  // Where one worker sleeps; apart, so that waking one leaves the others alone.
  struct alignas(64) Bed {
    std::atomic<bool> parked{false};
    std::mutex mutex;
    std::condition_variable wake;
  };

  void run(int64_t tasks, int width, Call call, const void* fn);
  void work(int worker);  // claims tasks until none is left
  void loop(int worker);  // body of a pool thread
  bool enter(int worker, uint64_t* seen);
  void wake(int width);  // the workers below it
  void wake(Bed& bed);
  void stop();

  std::vector<std::unique_ptr<Bed>> beds_;  // of workers 1, 2, …
  std::vector<std::thread> workers_;
  // The region; written only while the gate is closed and nobody is inside.
  Call call_ = nullptr;
  const void* fn_ = nullptr;
  int64_t tasks_ = 0;
  std::exception_ptr error_;  // guarded by error_mutex_
  std::mutex error_mutex_;
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint64_t> gate_{0};
  std::atomic<int> width_{0};
  std::atomic<bool> watched_{false};
  std::atomic<bool> stop_{false};
};

}  // namespace switchyard
