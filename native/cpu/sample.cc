// `sample`: one token a row.
//
// 1. Scores are the logits, those of tokens in the history weakened by the repetition penalty (Keskar et al.
// 2019).
// 2. Temperature 0 takes the largest score, ties to the lower id.
// 3. Else scores / temperature, the k largest (and what equals the k-th), softmax, then the smallest set of
// the largest
//    probabilities that reaches top p (Holtzman et al. 2020; at least one token), then a draw by Philox(seed,
//    step).
// 4. The log-probability is that of the chosen token under the softmax of the raw logits.
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "cpu/order.h"
#include "cpu/parallel.h"
#include "cpu/philox.h"

namespace switchyard {
namespace {

struct Options {
  float temperature;
  int64_t top_k;  // 0: all
  float top_p;    // 1: all
  float penalty;
};

// Scratch of one worker, V entries each.
struct Scratch {
  float* scores;
  float* weights;   // exp((score - largest) / temperature) of the candidates
  int32_t* ids;     // of the candidates, rising
  uint64_t* words;
  static int64_t bytes(int64_t v) { return checked_mul(v + 16, 20, "sample"); }
  Scratch(std::byte* p, int64_t v) {
    const int64_t room = (v + 15) / 16 * 16;
    words = reinterpret_cast<uint64_t*>(p);
    scores = reinterpret_cast<float*>(words + room);
    weights = scores + room;
    ids = reinterpret_cast<int32_t*>(weights + room);
  }
};

void prepare(Instruction& instruction) {
  require_counts(instruction, 4, 4, 2, 2);
  const Operand* logits = instruction.in[0];
  require_tensor(instruction, logits, "logits", DType::kF32, 2);
  require_tensor(instruction, instruction.in[1], "history", DType::kI32, 2);
  require_tensor(instruction, instruction.in[2], "params", DType::kF32, 2);
  require_tensor(instruction, instruction.in[3], "seeds", DType::kU32, 2);
  require_tensor(instruction, instruction.out[0], "tokens", DType::kI32, 1);
  require_tensor(instruction, instruction.out[1], "log-probabilities", DType::kF32, 1);
  for (int i = 1; i < 4; i++)
    require_dim(instruction, "rows of an input", instruction.in[i]->shape[0], logits->shape[0]);
  for (const Operand* y : instruction.out)
    require_dim(instruction, "rows of an output", y->shape[0], logits->shape[0]);
  require_dim(instruction, "columns of params", instruction.in[2]->shape[1], 4);
  require_dim(instruction, "columns of seeds", instruction.in[3]->shape[1], 2);
  require_that(instruction, logits->shape[1] > 0 && logits->shape[1] <= INT32_MAX,
               "vocabulary is empty or beyond i32");
  instruction.worker_scratch = Scratch::bytes(logits->shape[1]);
}

Options options_of(const Instruction& instruction, int64_t row) {
  const float* p = instruction.in[2]->as<float>() + row * 4;
  const auto refuse = [&](const char* what, float got, const char* expected) {
    fail(ErrorCode::kOption, "[sample] got %s %g in row %lld, expected %s", what, double(got), (long long)row,
         expected);
  };
  if (!(p[0] >= 0) || std::isinf(p[0])) refuse("temperature", p[0], "0 or more");
  if (!(p[1] >= 0)) refuse("top k", p[1], "0 (all) or more");
  if (!(p[2] >= 0)) refuse("top p", p[2], "0…1");
  if (!(p[3] > 0) || std::isinf(p[3])) refuse("repetition penalty", p[3], "more than 0");
  const int64_t v = instruction.in[0]->shape[1];
  return {p[0], p[1] >= float(v) ? 0 : int64_t(p[1]), p[2], p[3]};
}

// The row itself, or a copy with the history weakened.
const float* penalised(const Instruction& instruction, const Options& o, int64_t row, const float* logits,
                       float* copy) {
  const Operand* history = instruction.in[1];
  const int64_t v = instruction.in[0]->shape[1], length = history->shape[1];
  const int32_t* ids = history->as<int32_t>() + row * length;
  bool copied = false;
  for (int64_t i = 0; i < length; i++) {
    const int32_t id = ids[i];
    if (id < -1 || id >= v) {
      fail(ErrorCode::kOption, "[sample] got id %d in the history of row %lld, expected -1…%lld", id,
           (long long)row, (long long)v - 1);
    }
    if (id < 0 || o.penalty == 1) continue;
    if (!copied) std::memcpy(copy, logits, size_t(v) * 4);
    copied = true;
    copy[id] =
        logits[id] < 0 ? logits[id] * o.penalty : logits[id] / o.penalty;  // from the raw one: once per id
  }
  return copied ? copy : logits;
}

float below(float x) { return std::nextafter(x, -INFINITY); }

// Where the sum of words[0…n), taken by falling weight after `sum`, reaches the target: the place of that
// word, with all before it larger. By halving, so that only what lies around the place is ordered.
int64_t reach(const float* weights, uint64_t* words, int64_t n, double sum, double target) {
  int64_t low = 0, high = n;
  while (high - low > 32) {
    const int64_t middle = low + (high - low) / 2;
    std::nth_element(words + low, words + middle, words + high);
    double part = 0;
    for (int64_t i = low; i < middle; i++) part += double(weights[place_of(words[i])]);
    if (sum + part >= target) {
      high = middle;
    } else {
      sum += part;
      low = middle;
    }
  }
  std::sort(words + low, words + high);
  for (; low + 1 < high; low++) {
    sum += double(weights[place_of(words[low])]);
    if (sum >= target) break;
  }
  return low;
}

// Cuts the candidates to the smallest set of the largest weights that reaches top_p of `total`; returns how
// many stay.
// 1. What lies under (1 - top_p) · total / n sums to less than 1 - top_p and cannot be needed.
// 2. Sums by bucket (exponent and 4 bits of mantissa: weights are 0…1) find the bucket of the cut.
// 3. Only that bucket is ordered.
int64_t cut_top_p(const MathTable& math, const Scratch& s, int64_t n, double total, float top_p) {
  const float needless = below(float((1 - double(top_p)) * total / double(n) * (1 - 1e-6)));
  int64_t m = 0;
  for (int64_t i = math.next_above(s.weights, 0, n, needless); i < n;
       i = math.next_above(s.weights, i, n, needless)) {
    for (const int64_t end = std::min(n, i + 64); i < end; i++) {
      const float weight = s.weights[i];
      s.weights[m] = weight;
      s.ids[m] = s.ids[i];
      m += weight > needless;
    }
  }
  constexpr int kBuckets = 2048, kShift = 19;
  const auto bucket_of = [&](int64_t i) { return int(std::bit_cast<uint32_t>(s.weights[i]) >> kShift); };
  double sums[kBuckets] = {};
  for (int64_t i = 0; i < m; i++) sums[bucket_of(i)] += double(s.weights[i]);
  const double target = double(top_p) * total;
  double above = 0;
  int cut = kBuckets - 1;
  while (cut > 0 && (sums[cut] == 0 || above + sums[cut] < target)) above += sums[cut--];
  int64_t inside = 0;
  for (int64_t i = 0; i < m; i++) {
    if (bucket_of(i) == cut) s.words[inside++] = falling_word(s.weights[i], i);
  }
  if (inside == 0) return m;  // rounding: everything is needed
  const uint64_t last = s.words[reach(s.weights, s.words, inside, above, target)];
  int64_t kept = 0;
  for (int64_t i = 0; i < m; i++) {
    if (falling_word(s.weights[i], i) > last) continue;
    s.weights[kept] = s.weights[i];
    s.ids[kept++] = s.ids[i];
  }
  return kept;
}

// The candidate in whose stretch u·sum falls, candidates laid end to end.
int64_t pick(const MathTable& math, const float* weights, int64_t n, double u) {
  constexpr int64_t kStep = 1024;
  double sum = 0;
  for (int64_t i = 0; i < n; i += kStep) sum += math.row_sum(weights + i, std::min(kStep, n - i));
  double reached = 0;
  int64_t last = 0;  // rounding may leave the end out of reach: then the last one that has a weight
  for (int64_t i = 0; i < n; i += kStep) {
    const int64_t end = std::min(n, i + kStep);
    const double step = math.row_sum(weights + i, end - i);
    if (end < n && reached + step <= u * sum) {
      reached += step;
      continue;
    }
    double within = reached;
    for (int64_t j = i; j < end; j++) {
      if (weights[j] == 0) continue;
      within += double(weights[j]);
      last = j;
      if (within > u * sum) return j;
    }
    reached += step;
  }
  return last;
}

int32_t draw(const MathTable& math, const Options& o, const float* scores, float largest, int64_t v,
             const Scratch& s, uint32_t seed, uint32_t step) {
  int64_t n = 0;
  if (o.top_k > 0) {
    top_words(math, scores, v, o.top_k, s.words);
    const float limit = below(scores[place_of(s.words[o.top_k - 1])]);
    for (int64_t i = math.next_above(scores, 0, v, limit); i < v;
         i = math.next_above(scores, i + 1, v, limit)) {
      s.ids[n] = int32_t(i);
      s.weights[n++] = scores[i];
    }
  } else {
    for (; n < v; n++) s.ids[n] = int32_t(n);
  }
  // The largest becomes 0 before the division, so that a tiny temperature cannot make inf - inf.
  math.row_add(s.weights, o.top_k > 0 ? s.weights : scores, n, -largest);
  math.row_scale(s.weights, s.weights, n, std::min(1 / o.temperature, FLT_MAX));
  const double total = math.exp_sum(s.weights, s.weights, n, 0);
  if (o.top_p < 1) n = cut_top_p(math, s, n, total, o.top_p);
  const auto words = philox(step, seed);
  const double u = double((uint64_t(words[0]) << 32 | words[1]) >> 11) * 0x1p-53;
  return s.ids[pick(math, s.weights, n, u)];
}

float checked_max(const MathTable& math, const float* x, int64_t v, int64_t row) {
  const float max = math.row_max(x, v);
  if (!std::isfinite(max)) {
    fail(ErrorCode::kOption, "[sample] got a largest logit of %g in row %lld, expected a finite number",
         double(max), (long long)row);
  }
  return max;
}

void run(const Instruction& instruction, const Context& context) {
  const Operand* logits = instruction.in[0];
  const int64_t rows = logits->shape[0], v = logits->shape[1];
  const MathTable& math = math_table(context.tier);
  const uint32_t* seeds = instruction.in[3]->as<uint32_t>();
  context.parallel_for(rows, [&](int64_t row, int worker) {
    const Scratch scratch(context.scratch_of(worker), v);
    const Options o = options_of(instruction, row);
    const float* x = logits->as<float>() + row * v;
    const float max = checked_max(math, x, v, row);
    const float* scores = penalised(instruction, o, row, x, scratch.scores);
    const float largest = scores == x ? max : checked_max(math, scores, v, row);
    int32_t token;
    if (o.temperature == 0) {
      token = int32_t(math.next_above(scores, 0, v, below(largest)));
    } else {
      token = draw(math, o, scores, largest, v, scratch, seeds[2 * row], seeds[2 * row + 1]);
    }
    instruction.out[0]->as<int32_t>()[row] = token;
    instruction.out[1]->as<float>()[row] =
        float(double(x[token]) - double(max) - std::log(math.exp_sum(nullptr, x, v, max)));
  });
}

}  // namespace

void register_sample(KernelRegistry& registry) { registry.add({"sample", "", prepare, run}); }

}  // namespace switchyard
