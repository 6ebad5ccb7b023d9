// A pool of its own threads: workers spin briefly after work, then park.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace switchyard {

class ThreadPool {
 public:
  // `threads` counts the calling thread: 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs fn(task, worker) for every task in [0, tasks), each claimed atomically, on at most `width` threads
  // (the caller is worker 0). Returns when all are done; rethrows the first exception of a task.
  template <class F>
  void parallel_for(int64_t tasks, int width, const F& fn) {
    if (tasks <= 0) return;
    if (tasks == 1 || width <= 1 || workers_.empty()) {
      for (int64_t i = 0; i < tasks; i++) fn(i, 0);
      return;
    }
    run(tasks, width, [](const void* f, int64_t task, int worker) { (*static_cast<const F*>(f))(task, worker); }, &fn);
  }

 private:
  using Call = void (*)(const void* fn, int64_t task, int worker);
  void run(int64_t tasks, int width, Call call, const void* fn);
  void work(int worker);   // claims tasks until none is left
  void loop(int worker);   // body of a pool thread

  std::vector<std::thread> workers_;
  Call call_ = nullptr;
  const void* fn_ = nullptr;
  int64_t tasks_ = 0;
  int width_ = 0;
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint64_t> epoch_{0};  // one per region; workers wait for it to change
  alignas(64) std::atomic<int> busy_{0};        // pool threads still inside the region
  std::atomic<int> parked_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace switchyard
