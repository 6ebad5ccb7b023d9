#include "cpu/samplers/row.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace switchyard::samplers {

namespace {
constexpr int64_t kRoom = 16;  // what keep_above may write past the end
int64_t padded(int64_t n) { return (n + kRoom + 15) / 16 * 16; }
int64_t parts(int64_t n, int64_t of) { return (n + of - 1) / of; }
}  // namespace

int64_t RowMemory::bytes(int64_t v) {
  const int64_t room = padded(v);
  return checked_mul(room, 28, "sample") + 64 * parts(room, kMaximumBlock) + 64;
}

RowMemory::RowMemory(std::byte* at, int64_t v) {
  const int64_t room = padded(v);
  const auto take = [&at](int64_t count, auto* kind) {
    auto* p = reinterpret_cast<decltype(kind)>(at);
    at += count * int64_t(sizeof(*kind));
    return p;
  };
  words = take(room, words);
  scores = take(room, scores);
  gathered = take(room, gathered);
  weights = take(room, weights);
  ids = take(room, ids);
  counts = take(room, counts);
  sums = take(parts(v, kSumBlock), sums);
  lengths = take(parts(v, kSegment), lengths);
  maxima = take(parts(v, kMaximumBlock), maxima);
  stale = take(parts(v, kMaximumBlock), stale);
}

// fn(segment, begin, end), on several threads where the row may and is long enough.
template <class F>
void Row::segments(int64_t n, const F& fn) {
  const int64_t count = parts(n, kSegment);
  const auto one = [&](int64_t s) { fn(s, s * kSegment, std::min(n, (s + 1) * kSegment)); };
  if (shared_ && count > 1) {
    shared_->parallel_for(count, [&](int64_t s, int) { one(s); });
  } else {
    for (int64_t s = 0; s < count; s++) one(s);
  }
}

double Row::sum_of_blocks(int64_t n) const {
  double total = 0;
  for (int64_t b = 0; b < parts(n, kSumBlock); b++) total += memory.sums[b];
  return total;
}

// One pass: the copy, the maxima, and for the log-probability of whatever will be chosen the sum of exponentials. A
// block's sum is relative to its own maximum, while it is in the nearest cache.
Row::Row(const MathTable& math, const Context* shared, const RowMemory& memory, const float* logits, int64_t v,
         bool edits)
    : math(math), memory(memory), vocabulary(v), shared_(shared), logits_(logits), n_(v) {
  if (edits) scores_ = memory.scores;
  base_ = edits ? scores_ : logits;
  float* tops = memory.gathered;  // of sum blocks; free until the first gather
  segments(v, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kSumBlock) {
      const int64_t length = std::min(kSumBlock, end - i);
      const float top = math.block_maxima(memory.maxima + i / kMaximumBlock, logits + i, length);
      tops[i / kSumBlock] = top;
      memory.sums[i / kSumBlock] = std::isfinite(top) ? math.exp_sum(nullptr, logits + i, length, top) : 0;
      if (edits) std::memcpy(scores_ + i, logits + i, size_t(length) * 4);
    }
  });
  raw_max_ = -INFINITY;
  for (int64_t b = 0; b < parts(v, kSumBlock); b++) {
    if (!(tops[b] <= raw_max_)) raw_max_ = tops[b];  // NaN stays: nothing compares with it
    if (std::isnan(tops[b])) break;
  }
  usable_ = std::isfinite(raw_max_);
  double total = 0;
  for (int64_t b = 0; b < parts(v, kSumBlock) && usable_; b++) {
    if (memory.sums[b] > 0) total += memory.sums[b] * std::exp(double(tops[b]) - double(raw_max_));
  }
  raw_log_total_ = std::log(total);
  if (edits) std::memset(memory.stale, 0, size_t(parts(v, kMaximumBlock)));
}

void Row::settle() {
  if (divisor_ == 1) return;
  if (ids_) {
    for (int64_t i = 0; i < n_; i++) scores_[ids_[i]] /= divisor_;
  } else {
    for (int64_t i = 0; i < n_; i++) scores_[i] /= divisor_;
    std::memset(memory.stale, 1, size_t(parts(n_, kMaximumBlock)));
    stale_ = true;
  }
  divisor_ = 1;
}

void Row::divide(float divisor) {
  if (divisor == 1) return;
  if (divisor_ != 1) settle();
  divisor_ = divisor;
  weighed_ = false;
}

// Brings maxima up to date with edits and forgets what was computed from older scores.
void Row::refresh() {
  if (!stale_) return;
  stale_ = weighed_ = false;
  if (ids_) return;  // maxima are of use only while there is no list
  for (int64_t b = 0; b < parts(vocabulary, kMaximumBlock); b++) {
    if (!memory.stale[b]) continue;
    memory.stale[b] = 0;
    const int64_t from = b * kMaximumBlock;
    math.block_maxima(memory.maxima + b, scores_ + from, std::min(kMaximumBlock, vocabulary - from));
  }
}

float Row::largest() {
  refresh();
  if (n_ == 0) return -INFINITY;
  if (!ids_) return math.row_max(memory.maxima, parts(n_, kMaximumBlock));
  float top = -INFINITY;
  for (int64_t i = 0; i < n_; i++) top = std::max(top, base_[ids_[i]]);
  return top;
}

const float* Row::gather() {
  if (!ids_) return base_;
  for (int64_t i = 0; i < n_; i++) memory.gathered[i] = base_[ids_[i]];
  return memory.gathered;
}

void Row::weigh() {
  refresh();
  if (weighed_) return;
  weighed_ = true;
  const float top = largest() / divisor_;
  total_ = 0;
  if (!std::isfinite(top)) {  // nothing is left
    n_ = 0;
    return;
  }
  const float* x = gather();
  segments(n_, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kSumBlock) {
      memory.sums[i / kSumBlock] =
          math.exp_sum_divided(memory.weights + i, x + i, std::min(kSumBlock, end - i), divisor_, top);
    }
  });
  total_ = sum_of_blocks(n_);
}

void Row::weigh_above(float least) {
  refresh();
  if (weighed_ || ids_) return weigh();
  const float top = largest() / divisor_;
  if (!std::isfinite(top)) return weigh();
  weighed_ = true;
  // A block without a score of that weight is only summed.
  const float bound = (top + std::log(least) - 1e-3f * (1 + std::fabs(top))) * divisor_;
  segments(n_, [&](int64_t s, int64_t begin, int64_t end) {
    int64_t kept = begin;
    for (int64_t i = begin; i < end; i += kSumBlock) {
      const int64_t length = std::min(kSumBlock, end - i), b = i / kMaximumBlock;
      const bool any = math.row_max(memory.maxima + b, parts(length, kMaximumBlock)) > bound;
      float weights[kSumBlock];
      memory.sums[i / kSumBlock] =
          math.exp_sum_divided(any ? weights : nullptr, base_ + i, length, divisor_, top);
      if (!any) continue;
      kept += math.keep_above(memory.weights + kept, memory.ids + kept, weights, nullptr, int32_t(i), length, least);
    }
    memory.lengths[s] = kept - begin;
  });
  total_ = sum_of_blocks(n_);
  int64_t kept = 0;
  for (int64_t s = 0; s < parts(n_, kSegment); s++) {
    if (kept == s * kSegment) {
      kept += memory.lengths[s];
      continue;
    }
    const size_t bytes = size_t(memory.lengths[s]) * 4;
    std::memmove(memory.weights + kept, memory.weights + s * kSegment, bytes);
    std::memmove(memory.ids + kept, memory.ids + s * kSegment, bytes);
    kept += memory.lengths[s];
  }
  ids_ = memory.ids;
  n_ = kept;
}

double Row::moment() { return math.moment(memory.weights, gather(), n_, divisor_, largest() / divisor_); }

void Row::listed(int64_t n) {
  ids_ = memory.ids;
  n_ = n;
  if (weighed_) total_ = math.row_sum(memory.weights, n);
}

bool Row::many_above(float limit) {
  refresh();
  const int64_t blocks = parts(vocabulary, kMaximumBlock);
  return dense() && math.count_above(memory.maxima, blocks, limit) > blocks / 4;
}

void Row::keep_scores_above(float limit) {
  refresh();
  int64_t kept = 0;
  if (ids_) {
    for (int64_t i = 0; i < n_; i++) {
      memory.weights[kept] = memory.weights[i];
      memory.ids[kept] = ids_[i];
      kept += base_[ids_[i]] > limit;
    }
    return listed(kept);
  }
  for (int64_t i = 0; i < n_; i += kMaximumBlock) {
    if (!(memory.maxima[i / kMaximumBlock] > limit)) continue;
    const int64_t length = std::min(kMaximumBlock, n_ - i);
    kept += math.keep_above(memory.gathered + kept, memory.ids + kept, base_ + i, nullptr, int32_t(i), length, limit);
  }
  if (weighed_) {
    for (int64_t i = 0; i < kept; i++) memory.weights[i] = memory.weights[memory.ids[i]];
  }
  listed(kept);
}

void Row::keep_weights_above(float limit) {
  listed(math.keep_above(memory.weights, memory.ids, memory.weights, ids_, 0, n_, limit));
}

void Row::keep_weights_above(int64_t place, float first, float rest) {
  const int64_t front = place + 1;
  int64_t kept = math.keep_above(memory.weights, memory.ids, memory.weights, ids_, 0, front, first);
  kept += math.keep_above(memory.weights + kept, memory.ids + kept, memory.weights + front,
                          ids_ ? ids_ + front : nullptr, int32_t(front), n_ - front, rest);
  listed(kept);
}

void Row::keep_only(int32_t id) {
  memory.ids[0] = id;
  memory.weights[0] = 1;
  weighed_ = true;
  stale_ = false;
  listed(1);
}

int64_t Row::pick(double u) {
  const float* w = memory.weights;
  const double target = u * total_;
  double reached = 0;
  int64_t last = 0;  // rounding may leave the end out of reach: then the last one that has a weight
  for (int64_t i = 0; i < n_; i += kSumBlock) {
    const int64_t end = std::min(n_, i + kSumBlock);
    const double block = math.row_sum(w + i, end - i);
    if (end < n_ && reached + block <= target) {
      reached += block;
      continue;
    }
    double within = reached;
    for (int64_t j = i; j < end; j++) {
      if (w[j] == 0) continue;
      within += double(w[j]);
      last = j;
      if (within > target) return j;
    }
    reached += block;
  }
  return last;
}

}  // namespace switchyard::samplers
