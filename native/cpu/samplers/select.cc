// 1. A sample tells between which two orders the cut lies, give or take what a sample of that size strays. 2. One pass adds up
// what lies above and packs what lies between; it also proves the guess or tells the side. 3. So on among those: where the
// sample is all of them, the guess is a bucket. 4. Until one order is left, or so few candidates that they are sorted.
#include "cpu/samplers/select.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "cpu/order.h"

namespace switchyard::samplers {

namespace {

// Up to this many candidates are sorted as they are.
constexpr int64_t kFew = 64;
// A round leaves a tenth or two of a vocabulary, or one bucket. Rounds end before where a guess fails again and again.
constexpr int kRounds = 8;

// (low, high]
struct Bracket {
  float low = -INFINITY, high = INFINITY;
  bool one_value() const { return std::nextafter(low, INFINITY) == high; }
};

// Buckets of keys from `base` on, 2^shift each.
struct Scale {
  uint32_t base;
  int shift;
  uint32_t bucket(uint32_t key) const { return (key - base) >> shift; }
  // The largest value below a bucket.
  float edge(uint32_t bucket) const {
    const uint32_t key = base + (bucket << shift);
    if (key <= rising_key(-INFINITY)) return -INFINITY;
    return value_of(key == rising_key(0) ? key - 2 : key - 1);  // one key, of -0, is no value's
  }
};

// The weights of a sample by the buckets of its orders.
class Sample {
 public:
  explicit Sample(const Candidates& c) {
    const int64_t stride = std::max<int64_t>(c.n / kSize, 1) | 1;  // odd: rows of an even length are no trap
    uint32_t keys[2 * kSize], lowest = UINT32_MAX;
    int64_t count = 0;
    for (int64_t i = stride / 2; i < c.n; i += stride) {
      const uint32_t key = rising_key(c.order_of(i));
      lowest = std::min(lowest, key);
      highest_ = std::max(highest_, key);
      keys[count++] = key;
    }
    all_ = stride == 1;
    part_ = double(c.n) / double(count);
    const int bits = std::bit_width(uint64_t(std::min(kBuckets, 4 * count)) - 1);
    scale_ = {lowest, std::max(0, int(std::bit_width(highest_ - lowest)) - bits)};
    last_ = scale_.bucket(highest_);
    std::fill_n(buckets_, last_ + 1, Bucket{});
    for (int64_t s = 0; s < count; s++) {
      const float w = c.weights ? c.weights[stride / 2 + s * stride] : 1;
      Bucket& b = buckets_[scale_.bucket(keys[s])];
      b.sum += w;
      b.squares += w * w;
    }
  }

  // Where those below the cut weigh `rest`. From below: there a sample is good even where few candidates hold most of the
  // mass. `sharp`: just the bucket, which may be wrong.
  Bracket guess(double rest, bool sharp) const {
    constexpr double kSigmas = 3;
    const double want = rest / part_, margin = sharp || all_ ? 0 : kSigmas * kSigmas;
    Bracket bracket;
    double sum = 0, squares = 0;
    for (uint32_t b = 0; b <= last_; b++) {
      if (buckets_[b].squares == 0 && buckets_[b].sum == 0) continue;
      squares += double(buckets_[b].squares);
      const double off = want - sum;
      if (off >= 0 && off * off >= margin * squares) bracket.low = scale_.edge(b);
      sum += double(buckets_[b].sum);
      if (sum <= want || (sum - want) * (sum - want) < margin * squares) continue;
      bracket.high = b == last_ ? value_of(highest_) : scale_.edge(b + 1);
      break;
    }
    return bracket;
  }

 private:
  static constexpr int64_t kSize = 1024, kBuckets = 4096;
  struct Bucket {
    float sum, squares;
  };
  Bucket buckets_[kBuckets];
  Scale scale_;
  uint32_t highest_ = 0, last_;
  bool all_;
  double part_;  // how many candidates one of the sample stands for
};

// Moves the runs that segments have packed, each at its segment's begin, side by side.
int64_t close_up(float* x, const int64_t* lengths, int64_t segments) {
  int64_t kept = 0;
  for (int64_t s = 0; s < segments; s++) {
    if (kept < s * kSegment) std::memmove(x + kept, x + s * kSegment, size_t(lengths[s]) * sizeof(float));
    kept += lengths[s];
  }
  return kept;
}

// Where what lies near a cut is packed.
struct Buffer {
  float *order, *weights;
};

struct Survey {
  Candidates near;      // in the bracket
  double mass, above;   // of their weights, and of those above the bracket
};

Survey survey(const MathTable& math, const Passes& passes, const RowMemory& memory, const Candidates& c, Bracket bracket,
              const Buffer& to) {
  passes.segments(c.n, [&](int64_t s, int64_t begin, int64_t end) {
    memory.lengths[s] = math.survey(to.order + begin, to.weights + begin, c.order + begin, c.nearness,
                                    c.weights ? c.weights + begin : nullptr, end - begin, bracket.low, bracket.high,
                                    memory.above + s);
  });
  const int64_t segments = parts(c.n, kSegment);
  Survey found{{to.order, nullptr, 0}, 0, 0};
  for (int64_t s = 0; s < segments; s++) found.above += memory.above[s];
  found.near.n = close_up(to.order, memory.lengths, segments);
  found.mass = double(found.near.n);
  if (!c.weights) return found;
  if (c.weights != c.order) close_up(to.weights, memory.lengths, segments);
  found.near.weights = c.weights == c.order ? to.order : to.weights;
  found.mass = math.row_sum(found.near.weights, found.near.n);
  return found;
}

Cut sort_few(const Candidates& c, double target) {
  std::vector<uint64_t> words(static_cast<size_t>(c.n));
  for (int64_t i = 0; i < c.n; i++) words[size_t(i)] = falling_word(c.order_of(i), i);
  std::sort(words.begin(), words.end());
  double sum = 0;
  size_t last = 0;
  for (; last + 1 < words.size(); last++) {
    sum += c.weights ? double(c.weights[place_of(words[last])]) : 1.0;
    if (sum >= target) break;
  }
  const auto same = [&](size_t i) { return words[i] >> 32 == words[last] >> 32; };
  Cut cut{c.order_of(place_of(words[last])), 0};
  if (last + 1 == words.size() || !same(last + 1)) return cut;
  while (size_t(cut.equal) <= last && same(last - size_t(cut.equal))) cut.equal++;
  return cut;
}

// All of one order, which reach the target.
Cut among_equal(const Candidates& c, double target) {
  const float value = c.order[0];
  if (c.weights && c.weights != c.order) return {value, 0};
  const auto equal = std::max<int64_t>(1, int64_t(std::ceil(target / (c.weights ? double(value) : 1.0))));
  return {value, equal < c.n ? equal : 0};
}

}  // namespace

Cut find_cut(const MathTable& math, const Passes& passes, const RowMemory& memory, const Candidates& all, double total,
             double target) {
  if (all.n == 0) return {};
  if (target <= 0) return {math.row_max(all.order, all.n), 1};
  Buffer to{memory.order, memory.near_weights}, next{memory.spare, memory.spare + all.n + kPackingRoom};
  Candidates c = all;  // those of the bracket
  Bracket bracket;
  if (all.weights == all.order && target < total) bracket.low = 0;  // the cut is none of those that weigh nothing
  double over = 0, mass = total;  // the weights above the bracket, and those in it
  bool sharp = false;
  for (int round = 0; round < kRounds && c.n > kFew; round++) {
    const Bracket guessed = Sample(c).guess(over + mass - target, sharp);
    const Bracket part{std::max(guessed.low, bracket.low), std::min(guessed.high, bracket.high)};
    Survey found = survey(math, passes, memory, c, part, to);
    // A wrong guess shows the side, no more.
    const bool higher = over + found.above >= target, lower = !higher && over + found.above + found.mass < target;
    if (lower && part.low == -INFINITY) return {};  // what is left weighs nothing
    if (higher) {
      bracket.low = part.high;
    } else if (lower) {
      bracket.high = part.low;
    } else {
      bracket = part;
    }
    if (higher || lower) found = survey(math, passes, memory, c, bracket, to);
    sharp = found.near.n > c.n / 2;  // one order has much
    over += found.above;
    c = found.near;
    mass = found.mass;
    if (bracket.one_value()) return among_equal(c, target - over);
    std::swap(to, next);
  }
  return c.n == 0 ? Cut{} : sort_few(c, target - over);
}

int64_t place_of_equal(const MathTable& math, const float* x, int64_t n, float value, int64_t nth) {
  for (int64_t i = 0; i < n; i += kSumBlock) {
    const int64_t length = std::min(kSumBlock, n - i);
    const int64_t equal = math.count_above(x + i, length, below(value)) - math.count_above(x + i, length, value);
    if (nth > equal) {
      nth -= equal;
      continue;
    }
    for (int64_t j = i;; j++) {
      if (x[j] == value && --nth == 0) return j;
    }
  }
  return n - 1;
}

}  // namespace switchyard::samplers
