// Passes over the scores of a row: in segments that threads share, with sums whose bits do not depend on who takes which.
#pragma once
#include <algorithm>
#include <cstdint>

#include "runtime/kernel.h"

namespace switchyard::samplers {

// Sums are taken in f64 over blocks of this many (math_table.h), which are added in order.
constexpr int64_t kSumBlock = 1024;
// One task of a row that threads share: about 2 us a pass.
constexpr int64_t kSegment = 8192;

inline int64_t parts(int64_t n, int64_t of) { return (n + of - 1) / of; }

class Passes {
 public:
  // `shared`: threads that may help, or null.
  explicit Passes(const Context* shared) : shared_(shared) {}

  // fn(segment, begin, end) for [0, n) in segments.
  template <class F>
  void segments(int64_t n, const F& fn) const {
    const int64_t count = parts(n, kSegment);
    const auto one = [&](int64_t s) { fn(s, s * kSegment, std::min(n, (s + 1) * kSegment)); };
    if (shared_ && count > 1) {
      shared_->parallel_for(count, [&](int64_t s, int) { one(s); });
    } else {
      for (int64_t s = 0; s < count; s++) one(s);
    }
  }

  // fn(block, begin, length) for [0, n) in blocks of kSumBlock.
  template <class F>
  void blocks(int64_t n, const F& fn) const {
    segments(n, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kSumBlock) fn(i / kSumBlock, i, std::min(kSumBlock, end - i));
    });
  }

 private:
  const Context* shared_;
};

}  // namespace switchyard::samplers
