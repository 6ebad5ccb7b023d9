#include "bench/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "runtime/error.h"
#include "runtime/memory.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kLimitName[kLimitCount] = {"read", "f32", "bf16", "int8"};
// Large enough that claiming one costs nothing, small enough that a thread that lost its processor holds nobody up.
constexpr int64_t kReadTask = int64_t{1} << 20;
constexpr int64_t kTasksPerThread = 16;

std::atomic<uint64_t> sink{0};  // keeps the loops from being dropped

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

uint64_t read_scalar(const std::byte* data, int64_t bytes) {
  const auto word = [](const std::byte* p) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    return v;
  };
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (const std::byte* p = data; p != data + bytes; p += 32) {
    a += word(p);
    b += word(p + 8);
    c += word(p + 16);
    d += word(p + 24);
  }
  return a + b + c + d;
}

// The multiplier is read once through a volatile, so that nothing can be computed ahead of time.
volatile float float_one = 1.0f;

int64_t f32_scalar(int64_t rounds) {
  const float a = float_one, b = 1e-6f * float_one;
  float c[64] = {};
  for (int64_t i = 0; i < rounds; i++) {
    for (float& x : c) x = x * a + b;
  }
  float sum = 0;
  for (const float x : c) sum += x;
  sink.fetch_add(static_cast<uint64_t>(sum), std::memory_order_relaxed);
  return rounds * 64 * 2;
}

// The loops of `tier`: its own, else those of the tiers below it.
LimitLoops loops_of(Tier tier) {
  LimitLoops loops{read_scalar, f32_scalar, nullptr, nullptr};
  for (const Tier t : present_tiers()) {
    if (t > tier) break;
    fill_limits_x64(t, &loops);
    fill_limits_neon(t, &loops);
  }
  return loops;
}

ComputeLoop compute_loop(const LimitLoops& loops, Limit limit) {
  switch (limit) {
    case Limit::kF32:
      return loops.f32;
    case Limit::kBf16:
      return loops.bf16;
    case Limit::kInt8:
      return loops.int8;
    default:
      return nullptr;
  }
}

std::vector<double> measure_read(ThreadPool& pool, const LimitOptions& o, ReadLoop loop, int width,
                                 const std::function<bool()>& stopping) {
  const int64_t tasks = std::max<int64_t>(o.bytes / kReadTask, 1);
  Block block(tasks * kReadTask);
  pool.parallel_for(tasks, width, [&](int64_t task, int) {
    std::memset(block.data() + task * kReadTask, static_cast<int>(task % 251 + 1), kReadTask);
  });
  std::vector<double> rates;
  for (int run = -1; run < o.runs; run++) {  // the first one warms up
    if (stopping()) fail(ErrorCode::kAborted, "[measureLimit] got an abort between two runs");
    const auto start = Clock::now();
    pool.parallel_for(tasks, width, [&](int64_t task, int) {
      sink.fetch_add(loop(block.data() + task * kReadTask, kReadTask), std::memory_order_relaxed);
    });
    if (run >= 0) rates.push_back(static_cast<double>(block.bytes()) / seconds_since(start));
  }
  return rates;
}

std::vector<double> measure_compute(ThreadPool& pool, const LimitOptions& o, ComputeLoop loop, int width,
                                    const std::function<bool()>& stopping) {
  // Rounds that fill a task's share of the time.
  const int64_t tasks = kTasksPerThread * width;
  int64_t rounds = 1000;
  for (;;) {
    const auto start = Clock::now();
    loop(rounds);
    const double time = seconds_since(start);
    if (time > 1e-3 || rounds > int64_t{1} << 40) {
      rounds = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(rounds) * o.seconds / kTasksPerThread / time));
      break;
    }
    rounds *= 4;
  }
  std::vector<double> rates;
  for (int run = -1; run < o.runs; run++) {
    if (stopping()) fail(ErrorCode::kAborted, "[measureLimit] got an abort between two runs");
    std::atomic<int64_t> operations{0};
    const auto start = Clock::now();
    pool.parallel_for(tasks, width,
                      [&](int64_t, int) { operations.fetch_add(loop(rounds), std::memory_order_relaxed); });
    if (run >= 0) rates.push_back(static_cast<double>(operations) / seconds_since(start));
  }
  return rates;
}

}  // namespace

bool parse_limit(std::string_view name, Limit* out) {
  for (int i = 0; i < kLimitCount; i++) {
    if (name != kLimitName[i]) continue;
    *out = static_cast<Limit>(i);
    return true;
  }
  return false;
}

std::vector<double> measure_limit(ThreadPool& pool, const LimitOptions& o, const std::function<bool()>& stopping) {
  const LimitLoops loops = loops_of(o.tier);
  const int width = std::clamp(o.threads, 1, pool.threads());
  if (o.limit == Limit::kRead) return measure_read(pool, o, loops.read, width, stopping);
  const ComputeLoop loop = compute_loop(loops, o.limit);
  if (loop == nullptr) {
    fail(ErrorCode::kUnsupported, "[measureLimit] got '%s' for tier %s, expected something it has instructions for",
         kLimitName[static_cast<int>(o.limit)], tier_name(o.tier));
  }
  return measure_compute(pool, o, loop, width, stopping);
}

}  // namespace switchyard
