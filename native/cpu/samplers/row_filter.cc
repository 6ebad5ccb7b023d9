// What filters leave of a row's candidates.
#include <algorithm>
#include <cmath>

#include "cpu/samplers/row.h"

namespace switchyard::samplers {

namespace {
// Where the weights that are left are together less than this, those next to nothing beside the likeliest of old may be much
// beside that of now: they are computed again.
constexpr double kFaint = 1e-9;
// A list of more than this part of the vocabulary costs more than weights for all of it.
constexpr int64_t kManyShare = 16;
}  // namespace

void Row::listed(int64_t n) {
  state_ = State::kListed;
  n_ = n;
  if (weighed_) add_up();
}

void Row::add_up() {
  passes.blocks(slots(), [&](int64_t b, int64_t i, int64_t length) {
    memory.sums[b] = math.row_sum(memory.weights + i, length);
  });
  total_ = 0;
  for (int64_t b = 0; b < parts(slots(), kSumBlock); b++) total_ += memory.sums[b];
}

void Row::list_thinned() {
  if (state_ != State::kThinned) return;
  listed(math.keep_present(memory.weights, memory.ids, memory.weights, 0, vocabulary));
}

// Slots up to the place stay where their order is above `first`, those behind it where it is above `rest`.
void Row::thin(const Candidates& by, int64_t place, float first, float rest) {
  passes.segments(vocabulary, [&](int64_t s, int64_t begin, int64_t end) {
    memory.lengths[s] = 0;
    const auto part = [&](int64_t from, int64_t to, float limit) {
      if (from >= to) return 0.0;
      int64_t kept;
      const double sum = math.thin(memory.weights + from, by.order + from, by.nearness, to - from, limit, &kept);
      memory.lengths[s] += kept;
      return sum;
    };
    for (int64_t i = begin; i < end; i += kSumBlock) {
      const int64_t to = std::min(end, i + kSumBlock), middle = std::clamp(place + 1, i, to);
      memory.sums[i / kSumBlock] = part(i, middle, first) + part(middle, to, rest);
    }
  });
  state_ = State::kThinned;
  n_ = 0;
  for (int64_t s = 0; s < parts(vocabulary, kSegment); s++) n_ += memory.lengths[s];
  total_ = 0;
  for (int64_t b = 0; b < parts(vocabulary, kSumBlock); b++) total_ += memory.sums[b];
}

// The largest weight has gone; `now`: what it is, or NaN.
void Row::likeliest_gone(float now) {
  largest_weight_ = now;
  if (total_ >= kFaint) return;
  list_thinned();
  weighed_ = false;
}

bool Row::many_above(float limit) {
  refresh();
  const int64_t blocks = parts(vocabulary, kMaximumBlock);
  return dense() && math.count_above(memory.maxima, blocks, limit) > blocks / 4;
}

// Values and ids become those of x > limit, of blocks whose largest score is above `bound`; returns how many.
int64_t Row::pack_above(float* values, const float* x, float limit, float bound) {
  int64_t kept = 0;
  for (int64_t i = 0; i < vocabulary; i += kMaximumBlock) {
    if (!(memory.maxima[i / kMaximumBlock] > bound)) continue;
    const int64_t length = std::min(kMaximumBlock, vocabulary - i);
    kept += math.keep_above(values + kept, memory.ids + kept, x + i, nullptr, int32_t(i), length, limit);
  }
  return kept;
}

void Row::keep_scores(const Cut& cut) {
  refresh();
  list_thinned();
  const float limit = below(cut.limit);
  if (many_above(limit) && math.count_above(base_, vocabulary, limit) > vocabulary / kManyShare) {
    weigh();
    if (!dense()) return;  // nothing is left
    const int64_t place = cut.equal == 0 ? vocabulary : place_of_equal(math, base_, vocabulary, cut.limit, cut.equal);
    return thin({base_, memory.weights, vocabulary}, place, limit, cut.limit);
  }
  if (dense()) {
    const int64_t kept = pack_above(memory.gathered, base_, limit, limit);
    for (int64_t i = 0; i < kept && weighed_; i++) memory.weights[i] = memory.weights[memory.ids[i]];
    listed(kept);
    if (cut.equal == 0) return;
  }
  int64_t kept = 0, equal = cut.equal == 0 ? n_ : cut.equal;
  for (int64_t i = 0; i < n_; i++) {
    const float x = score(i);
    memory.weights[kept] = memory.weights[i];
    memory.ids[kept] = memory.ids[i];
    kept += x > cut.limit || (x == cut.limit && equal-- > 0);
  }
  listed(kept);
}

void Row::keep_weights_from(double least) {
  if (n_ > 0) keep_weights_above(below(at_least(std::min(least, double(largest_weight())))));
}

void Row::keep_weights_above(float limit) {
  if (limit < 0) return;
  if (state_ == State::kListed) {
    return listed(math.keep_above(memory.weights, memory.ids, memory.weights, memory.ids, 0, n_, limit));
  }
  const float top = top_ / divisor_, margin = 1e-3f * (1 + std::fabs(top));
  const float bound = (top + std::log(limit) - margin) * divisor_;  // no score below it has such a weight
  if (!dense() || many_above(bound)) return thin(by_weight(), vocabulary, limit, limit);
  listed(pack_above(memory.weights, memory.weights, limit, bound));
}

void Row::keep(const Cut& cut) {
  if (cut.equal == 0) return keep_weights_above(below(cut.limit));
  const int64_t place = place_of_equal(math, memory.weights, slots(), cut.limit, cut.equal), front = place + 1;
  if (state_ != State::kListed) return thin(by_weight(), place, below(cut.limit), cut.limit);
  const float* w = memory.weights;
  int64_t kept = math.keep_above(memory.weights, memory.ids, w, memory.ids, 0, front, below(cut.limit));
  kept += math.keep_above(memory.weights + kept, memory.ids + kept, w + front, memory.ids + front, 0, n_ - front, cut.limit);
  listed(kept);
}

void Row::keep_nearer(const float* scores, const Nearness& nearness, float limit) {
  if (state_ == State::kListed) return keep_if([&](int64_t i) { return nearness.of(scores[i]) > limit; });
  thin({scores, memory.weights, vocabulary, &nearness}, vocabulary, limit, limit);
  likeliest_gone(NAN);
}

void Row::remove_above(float limit, int64_t but) {
  if (state_ == State::kListed) return keep_if([&](int64_t i) { return i == but || !(memory.weights[i] > limit); });
  float* w = memory.weights;
  const float stays = w[but];
  for (int64_t i = 0; i < vocabulary; i += kSumBlock) {
    const int64_t end = std::min(vocabulary, i + kSumBlock);
    const int64_t gone = math.count_above(w + i, end - i, limit);
    n_ -= gone;
    for (int64_t j = i; j < end && gone > 0; j++) w[j] = w[j] > limit ? -0.0f : w[j];
  }
  w[but] = stays;
  n_++;
  state_ = State::kThinned;
  add_up();
  likeliest_gone(stays);
}

void Row::keep_only(int32_t id) {
  memory.ids[0] = id;
  memory.weights[0] = 1;
  largest_weight_ = 1;
  weighed_ = true;
  stale_ = false;
  listed(1);
}

}  // namespace switchyard::samplers
