#include "runtime/thread_pool.h"

#include <algorithm>
#include <chrono>

#include "runtime/error.h"
#include "runtime/scheduling.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace switchyard {
namespace {

constexpr uint64_t kOpen = 1u << 15;
constexpr uint64_t kInside = kOpen - 1;
constexpr int kRegionShift = 16;
constexpr int kMaxThreads = 1024;  // below kInside

// After its last region a worker watches the gate this long before it parks. Waking a parked one costs 5 to 100 µs.
constexpr std::chrono::microseconds kSpin{40};
// The same while somebody has said that more regions come (Watch): longer than what a program runs on one thread between
// two products.
constexpr std::chrono::microseconds kWatch{400};
// Reading the clock costs as much as a few turns of the loop, so it is read once in so many.
constexpr int kTurnsPerLook = 32;

}  // namespace

void cpu_relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("yield");
#else
  std::this_thread::yield();
#endif
}

ThreadPool::ThreadPool(int threads) {
  threads = std::clamp(threads, 1, kMaxThreads);
  for (int i = 1; i < threads; i++) beds_.push_back(std::make_unique<Bed>());
  try {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { loop(i); });
  } catch (const std::system_error&) {
    stop();
    fail(ErrorCode::kOutOfMemory, "[runtime] got no more threads from the system, expected %d", threads);
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stop_.store(true);
  for (auto& bed : beds_) wake(*bed);
  for (auto& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::wake(int width) {
  for (int i = 1; i < width; i++) wake(*beds_[i - 1]);
}

void ThreadPool::wake(Bed& bed) {
  if (!bed.parked.load()) return;
  {
    // Taking the lock puts this after the worker's own last look at the gate, so the notification cannot fall
    // between that look and the wait.
    std::lock_guard lock(bed.mutex);
    bed.parked.store(false);
  }
  bed.wake.notify_one();
}

void ThreadPool::run(int64_t tasks, int width, Call call, const void* fn) {
  const uint64_t before = gate_.load(std::memory_order_relaxed);
  if (before & kOpen) fail(ErrorCode::kNative, "[thread pool] got a region inside a region, expected one at a time");
  width = std::min(width, threads());
  call_ = call;
  fn_ = fn;
  tasks_ = tasks;
  width_.store(width, std::memory_order_relaxed);
  next_.store(0, std::memory_order_relaxed);
  // Sequentially consistent, as are `parked` and the worker's look at the gate: of the two sides, one sees the other.
  gate_.store(((before >> kRegionShift) + 1) << kRegionShift | kOpen);
  wake(width);

  work(0);

  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int turn = 0; gate_.load(std::memory_order_acquire) & kInside; turn++) {
    // Those inside are busy with their last task. Where the system has taken the processor from one, give way.
    if (turn < 4096) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
  if (error_) {
    std::exception_ptr error;
    std::swap(error, error_);
    std::rethrow_exception(error);
  }
}

void ThreadPool::work(int worker) {
  const Call call = call_;
  const void* fn = fn_;
  const int64_t tasks = tasks_;
  for (;;) {
    const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
    if (task >= tasks) return;
    try {
      call(fn, task, worker);
    } catch (...) {
      std::lock_guard lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
      next_.store(tasks, std::memory_order_relaxed);
    }
  }
}

// True: the worker is inside a region it has not seen before.
bool ThreadPool::enter(int worker, uint64_t* seen) {
  uint64_t gate = gate_.load(std::memory_order_acquire);
  while ((gate & kOpen) && gate >> kRegionShift != *seen) {
    if (worker >= width_.load(std::memory_order_relaxed)) return false;
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      *seen = gate >> kRegionShift;
      return true;
    }
  }
  return false;
}

void ThreadPool::loop(int worker) {
  prefer_long_slices();
  using Clock = std::chrono::steady_clock;
  Bed& bed = *beds_[worker - 1];
  uint64_t seen = 0;
  bool watched = false;
  auto since = Clock::now();
  const auto idle_from_now = [&] {
    watched = watched_.load(std::memory_order_relaxed);
    since = Clock::now();
  };
  for (int turn = 1; !stop_.load(std::memory_order_relaxed); turn++) {
    if (enter(worker, &seen)) {
      work(worker);
      gate_.fetch_sub(1, std::memory_order_acq_rel);
      idle_from_now();
      continue;
    }
    cpu_relax();
    if (turn % kTurnsPerLook != 0) continue;
    const bool watching = watched_.load(std::memory_order_relaxed), over = watched && !watching;
    watched = watching;
    const auto idle = Clock::now() - since;
    if (!over && idle < (watching ? kWatch : kSpin)) {
      if (idle >= kSpin) std::this_thread::yield();  // to who may be what it waits for
      continue;
    }

    std::unique_lock lock(bed.mutex);
    bed.parked.store(true);
    const uint64_t gate = gate_.load();
    const bool open = (gate & kOpen) && gate >> kRegionShift != seen && worker < width_.load();
    // One that was woken spins even where its region is over by now: the next one comes soon.
    if (!open && !stop_.load()) bed.wake.wait(lock, [&] { return !bed.parked.load(); });
    bed.parked.store(false);
    idle_from_now();
  }
}

ThreadPool::Watch::Watch(ThreadPool& pool, int width) : pool_(pool) {
  pool_.watched_.store(true, std::memory_order_relaxed);
  pool_.wake(std::min(width, pool_.threads()));
}

ThreadPool::Watch::~Watch() { pool_.watched_.store(false, std::memory_order_relaxed); }

}  // namespace switchyard
