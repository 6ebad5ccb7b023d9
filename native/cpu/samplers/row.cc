// Scores and weights of a row; its filters are in row_filter.cc.
#include "cpu/samplers/row.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace switchyard::samplers {

// One pass: the copy, the maxima, and for the log-probability of whatever will be chosen the sum of exponentials. A
// block's sum is relative to its own maximum, while it is in the nearest cache.
Row::Row(const MathTable& math, const Context* shared, const RowMemory& memory, const float* logits, int64_t v,
         bool edits)
    : math(math), passes(shared), memory(memory), vocabulary(v), logits_(logits), n_(v) {
  if (edits) scores_ = memory.scores;
  base_ = edits ? scores_ : logits;
  float* tops = memory.gathered;  // of sum blocks; free until the first gather
  passes.blocks(v, [&](int64_t b, int64_t i, int64_t length) {
    tops[b] = math.block_maxima(memory.maxima + i / kMaximumBlock, logits + i, length);
    memory.sums[b] = std::isfinite(tops[b]) ? math.weigh(nullptr, nullptr, logits + i, length, tops[b], rate()) : 0;
    if (edits) std::memcpy(scores_ + i, logits + i, size_t(length) * 4);
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
  list_thinned();
  if (divisor_ == 1) return;
  if (state_ == State::kListed) {
    for (int64_t i = 0; i < n_; i++) scores_[memory.ids[i]] /= divisor_;
  } else {
    for (int64_t i = 0; i < n_; i++) scores_[i] /= divisor_;
    std::memset(memory.stale, 1, size_t(parts(n_, kMaximumBlock)));
    stale_ = true;
  }
  divisor_ = 1;
}

void Row::divide(float divisor) {
  if (divisor == 1) return;
  list_thinned();
  if (divisor_ != 1) settle();
  divisor_ = divisor;
  weighed_ = false;
}

// Brings maxima up to date with edits and forgets what was computed from older scores.
void Row::refresh() {
  if (!stale_) return;
  stale_ = weighed_ = false;
  if (state_ == State::kListed) return;  // maxima are of use only while there is no list
  for (int64_t b = 0; b < parts(vocabulary, kMaximumBlock); b++) {
    if (!memory.stale[b]) continue;
    memory.stale[b] = 0;
    const int64_t from = b * kMaximumBlock;
    math.block_maxima(memory.maxima + b, scores_ + from, std::min(kMaximumBlock, vocabulary - from));
  }
}

float Row::largest() {
  refresh();
  list_thinned();
  if (n_ == 0) return -INFINITY;
  if (state_ == State::kAll) return math.row_max(memory.maxima, parts(n_, kMaximumBlock));
  float top = -INFINITY;
  for (int64_t i = 0; i < n_; i++) top = std::max(top, score(i));
  return top;
}

int32_t Row::first_above(float limit) {
  list_thinned();
  if (state_ == State::kAll) return int32_t(math.next_above(base_, 0, n_, limit));
  int64_t slot = 0;
  while (!(score(slot) > limit)) slot++;
  return id(slot);
}

const float* Row::gather() {
  if (state_ != State::kListed) return base_;
  for (int64_t i = 0; i < n_; i++) memory.gathered[i] = score(i);
  return memory.gathered;
}

void Row::weigh(bool moments) {
  refresh();
  if (weighed_) return;
  top_ = largest();
  rate_ = rate();
  weighed_ = true;
  largest_weight_ = 1;
  if (!std::isfinite(top_ / divisor_)) return listed(0);  // nothing is left
  const float* x = gather();
  passes.blocks(n_, [&](int64_t b, int64_t i, int64_t length) {
    float products[kSumBlock];
    memory.sums[b] = math.weigh(memory.weights + i, moments ? products : nullptr, x + i, length, top_, rate_);
    if (moments) memory.moments[b] = math.row_sum(products, length);
  });
  total_ = 0;
  for (int64_t b = 0; b < parts(n_, kSumBlock); b++) total_ += memory.sums[b];
}

float Row::largest_weight() {
  if (std::isnan(largest_weight_)) largest_weight_ = math.row_max(memory.weights, slots());
  return largest_weight_;
}

double Row::mean_log_weight() {
  if (!weighed()) {
    weigh(true);
  } else {
    const float* x = gather();
    passes.blocks(slots(), [&](int64_t b, int64_t i, int64_t length) {
      memory.moments[b] = math.moment(memory.weights + i, x + i, length, top_);
    });
  }
  double moment = 0;
  for (int64_t b = 0; b < parts(slots(), kSumBlock); b++) moment += memory.moments[b];
  return moment * double(rate_) * std::numbers::ln2 / total_;
}

int64_t Row::pick(double u) {
  const float* w = memory.weights;
  const int64_t n = slots();
  const double target = u * total_;
  double reached = 0;
  int64_t last = 0;  // rounding may leave the end out of reach: then the last one that has a weight
  for (int64_t i = 0; i < n; i += kSumBlock) {
    const int64_t end = std::min(n, i + kSumBlock);
    const double block = memory.sums[i / kSumBlock];
    if (end < n && reached + block <= target) {
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
