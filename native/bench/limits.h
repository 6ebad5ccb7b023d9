// What this machine can do at most, measured by loops that do nothing else: the limits that benches give shares of.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "runtime/thread_pool.h"
#include "runtime/tier.h"

namespace switchyard {

// kRead: bytes per second from memory. The others: operations per second, a multiply-add counting two.
enum class Limit { kRead = 0, kF32, kBf16, kInt8 };
constexpr int kLimitCount = 4;
bool parse_limit(std::string_view name, Limit* out);  // "read", "f32", "bf16", "int8"

// A loop over independent multiply-adds in registers; returns the operations of `rounds` rounds.
using ComputeLoop = int64_t (*)(int64_t rounds);
// Reads bytes (a multiple of 256, 64-byte aligned) and returns something that depends on all of them.
using ReadLoop = uint64_t (*)(const std::byte* data, int64_t bytes);

// The loops of one tier; null where it brings nothing new (the nearest lower tier's loop is used).
struct LimitLoops {
  ReadLoop read = nullptr;
  ComputeLoop f32 = nullptr, bf16 = nullptr, int8 = nullptr;
};
void fill_limits_x64(Tier tier, LimitLoops* loops);
void fill_limits_neon(Tier tier, LimitLoops* loops);

struct LimitOptions {
  Limit limit = Limit::kRead;
  Tier tier = Tier::kScalar;
  int threads = 1;
  int runs = 5;
  int64_t bytes = int64_t{1} << 30;  // memory that kRead walks; beyond every cache
  double seconds = 0.05;             // of one run of the others
};

// The rate of each run. Throws kUnsupported where the tier has no instruction for it, kAborted once `stopping` says so.
std::vector<double> measure_limit(ThreadPool& pool, const LimitOptions& options, const std::function<bool()>& stopping);

}  // namespace switchyard
