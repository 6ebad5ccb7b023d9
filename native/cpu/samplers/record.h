// How a sampler chain is written: i32 words, the counterpart of src/generate/samplers/chain-writer.ts.
//
// A chain is a run of records: kind, number of words that follow, those words. A float is two words (f64, low word
// first); a list is its length and its words.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include "runtime/error.h"

namespace switchyard::samplers {

class Record {
 public:
  explicit Record(std::span<const int32_t> words) : words_(words) {}

  bool done() const { return at_ == words_.size(); }
  int32_t word() { return take(1)[0]; }
  uint32_t index() { return uint32_t(word()); }
  double number() {
    double x;
    std::memcpy(&x, take(2).data(), 8);
    return x;
  }
  // No NaN may come into scores: searches compare them.
  double finite() {
    const double x = number();
    if (!std::isfinite(x)) fail(ErrorCode::kOption, "[sample] got %g, expected a finite number", x);
    return x;
  }
  float bias() {
    const auto x = std::bit_cast<float>(word());
    if (!(x < INFINITY)) fail(ErrorCode::kOption, "[sample] got bias %g, expected a finite number or -inf", double(x));
    return x;
  }
  void skip() { at_ = words_.size(); }
  std::span<const int32_t> list() { return take(index()); }
  std::span<const int32_t> take(size_t count) {
    if (count > words_.size() - at_) {
      fail(ErrorCode::kOption, "[sample] got a chain of %zu words, expected %zu more", words_.size(),
           count - (words_.size() - at_));
    }
    at_ += count;
    return words_.subspan(at_ - count, count);
  }

 private:
  std::span<const int32_t> words_;
  size_t at_ = 0;
};

}  // namespace switchyard::samplers
