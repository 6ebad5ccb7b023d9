// Every task once, in any width; exceptions; pools that come and go; regions that meet parked workers.
// Arguments: `--bench` prints what a region costs.
#include "runtime/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "check.h"

using namespace switchyard;
using Clock = std::chrono::steady_clock;

namespace {

void every_task_once() {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int width : {0, 1, 2, 5, 100}) {
      for (int64_t tasks : {-1, 0, 1, 2, 7, 1000}) {
        std::vector<std::atomic<int>> seen(std::max<int64_t>(tasks, 1));
        std::atomic<bool> worker_ok{true};
        pool.parallel_for(tasks, width, [&](int64_t task, int worker) {
          seen[task]++;
          if (worker < 0 || worker >= std::max(1, std::min(width, threads))) worker_ok = false;
        });
        CHECK(worker_ok);
        CHECK(std::all_of(seen.begin(), seen.end(), [&](auto& n) { return n == (tasks > 0 ? 1 : 0); }));
      }
    }
  }
}

// Plain memory written in one region is read in the next: what a kernel relies on (TSan proves it).
void regions_follow_each_other() {
  ThreadPool pool(4);
  std::vector<int64_t> data(64, 0);
  constexpr int kRounds = 3000;
  for (int round = 0; round < kRounds; round++) {
    pool.parallel_for(64, 1 + round % 4, [&](int64_t i, int) { data[i] += data[i] + i == 0 ? 0 : 1; });
    // From time to time the workers fall asleep between regions.
    if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(std::accumulate(data.begin(), data.end(), int64_t{0}) == 63 * kRounds);
}

void exceptions_come_back() {
  ThreadPool pool(3);
  for (int round = 0; round < 200; round++) {
    const std::string got = test::error_of([&] {
      pool.parallel_for(50, 3, [&](int64_t i, int) {
        if (i == 20) fail(ErrorCode::kShape, "task %lld", static_cast<long long>(i));
      });
    });
    CHECK(got == "ERR_SHAPE task 20");
    std::atomic<int> n{0};
    pool.parallel_for(50, 3, [&](int64_t, int) { n++; });
    CHECK(n == 50);
  }
  const std::string nested = test::error_of([&] {
    pool.parallel_for(4, 3, [&](int64_t, int) { pool.parallel_for(4, 3, [](int64_t, int) {}); });
  });
  CHECK(test::holds(nested, "region inside a region"));
}

// Workers that watch, that park within a watch, and that are released when it ends.
void watched_regions() {
  ThreadPool pool(4);
  std::vector<int64_t> data(64, 0);
  int64_t expected = 0;
  for (int round = 0; round < 60; round++) {
    const ThreadPool::Watch watch(pool, round % 7);
    for (int pause_us : {0, 0, 30, 150, round % 10 == 0 ? 900 : 60}) {
      const auto resume = Clock::now() + std::chrono::microseconds(pause_us);
      while (Clock::now() < resume) cpu_relax();
      pool.parallel_for(64, 1 + round % 4, [&](int64_t i, int) { data[i] += i; });
      expected += 63 * 64 / 2;
    }
    if (round % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(std::accumulate(data.begin(), data.end(), int64_t{0}) == expected);
  // A pool may end while its workers watch nothing and while the last watch is fresh.
  for (int round = 0; round < 50; round++) {
    ThreadPool brief(3);
    const ThreadPool::Watch watch(brief, 3);
    std::atomic<int> n{0};
    if (round % 2 == 0) brief.parallel_for(9, 3, [&](int64_t, int) { n++; });
    CHECK(n == (round % 2 == 0 ? 9 : 0));
  }
}

// Sixteen threads on few cores: most never come in time, and the caller must not need them.
void more_threads_than_cores() {
  ThreadPool pool(16);
  int64_t sum = 0;
  for (int round = 0; round < 2000; round++) {
    std::unique_ptr<ThreadPool::Watch> watch;
    if (round % 2 == 0) watch = std::make_unique<ThreadPool::Watch>(pool, 16);
    std::atomic<int64_t> n{0};
    pool.parallel_for(16, 16, [&](int64_t i, int) { n += i; });
    sum += n;
  }
  CHECK(sum == 2000 * 120);
}

void pools_come_and_go() {
  for (int round = 0; round < 300; round++) {
    ThreadPool pool(4);
    std::atomic<int> n{0};
    if (round % 3 != 0) pool.parallel_for(8, 4, [&](int64_t, int) { n++; });
    CHECK(n == (round % 3 != 0 ? 8 : 0));
  }
}

void bench() {
  for (int threads : {2, 4}) {
    ThreadPool pool(threads);
    for (const auto& [pause_us, watched] : {std::pair(0, false), {20, false}, {200, false}, {200, true}}) {
      std::vector<double> cost;
      std::unique_ptr<ThreadPool::Watch> watch;
      if (watched) watch = std::make_unique<ThreadPool::Watch>(pool, threads);
      for (int i = 0; i < 5000; i++) {
        const auto resume = Clock::now() + std::chrono::microseconds(pause_us);
        while (Clock::now() < resume) cpu_relax();
        const auto start = Clock::now();
        pool.parallel_for(threads, threads, [](int64_t, int) {});
        cost.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
      }
      std::sort(cost.begin(), cost.end());
      std::printf("%d threads, %d us between regions%s: median %.2f us, 95 %% %.2f us\n", threads, pause_us,
                  watched ? ", watched" : "", cost[cost.size() / 2], cost[cost.size() * 95 / 100]);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  every_task_once();
  regions_follow_each_other();
  exceptions_come_back();
  watched_regions();
  more_threads_than_cores();
  pools_come_and_go();
  return test::report();
}
