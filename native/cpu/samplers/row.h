// One row of logits on its way through a sampler chain.
//
// Scores are edited in place, by id (penalties, biases); a temperature is kept aside as a divisor, so that it costs no
// pass. Filters leave a list of candidates, ids rising, each with its weight exp(score / divisor - largest). Until the
// first filter all of the vocabulary are candidates and there is no list.
//
// Every sum is taken in blocks of kSumBlock values (math_table.h) whose f64 sums are added in order: the bits depend
// on the candidates only, not on threads or on what the row shares them with.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "cpu/isa/math_table.h"
#include "runtime/kernel.h"

namespace switchyard::samplers {

constexpr int64_t kSumBlock = 1024;
// One task of a row that threads share: about 2 us a pass.
constexpr int64_t kSegment = 8192;

// Scratch of one row of v scores.
struct RowMemory {
  float* scores;     // a copy, if the chain edits
  float* gathered;
  float* weights;
  int32_t* ids;
  int32_t* counts;   // order of the candidates, too
  uint64_t* words;
  float* maxima;     // of blocks of kMaximumBlock
  uint8_t* stale;    // blocks that were edited since
  double* sums;      // of blocks of kSumBlock
  int64_t* lengths;  // of segments
  static int64_t bytes(int64_t v);
  RowMemory(std::byte* at, int64_t v);
};

class Row {
 public:
  // `shared`: threads that may help with this row, or null. `edits`: the chain will change scores, or divide them twice.
  Row(const MathTable& math, const Context* shared, const RowMemory& memory, const float* logits, int64_t v, bool edits);

  const MathTable& math;
  const RowMemory memory;
  const int64_t vocabulary;
  std::span<const int32_t> history;  // tokens of the sequence so far
  uint32_t seed = 0, step = 0;

  std::span<const int32_t> history_from(size_t from) const { return history.subspan(std::min(from, history.size())); }

  // Whether the logits hold a finite largest value and neither NaN nor +inf.
  bool usable() const { return usable_; }
  // Of a token under the logits as they came.
  double raw_logprob(int32_t id) const { return double(logits_[id]) - double(raw_max_) - raw_log_total_; }

  // --- Editing. Call settle() first: after a temperature, edits are of divided scores.
  void settle();
  bool has(int32_t id) const { return id >= 0 && id < vocabulary; }
  // The score of a token, to be changed.
  float* edit(int32_t id) {
    memory.stale[id / kMaximumBlock] = 1;
    stale_ = true;
    return scores_ + id;
  }

  // --- Candidates.
  int64_t size() const { return n_; }
  bool dense() const { return !ids_; }  // no filter so far
  int32_t id(int64_t i) const { return ids_ ? ids_[i] : int32_t(i); }
  float score(int64_t i) const { return base_[id(i)]; }  // before the division
  float divisor() const { return divisor_; }
  void divide(float divisor);
  // Largest score before the division; -inf where nothing is left.
  float largest();

  bool weighed() {
    refresh();
    return weighed_;
  }
  // Computes weights and their sum; the largest weight is 1. No-op where they are known.
  void weigh();
  // The same, but where that saves a pass only candidates of more than `least` weight are listed; total() counts all.
  void weigh_above(float least);
  const float* weights() const { return memory.weights; }
  float* weights() { return memory.weights; }
  double total() const { return total_; }
  // Sum of weight·log(weight): with it entropy is log(total) - moment / total.
  double moment();
  // Scores of the candidates side by side.
  const float* gather();

  // Whether so many scores may be above `limit` that weighing all costs less than listing them first.
  bool many_above(float limit);

  // --- Filters; candidates stay in order.
  // Of the scores before the division, those above `limit`.
  void keep_scores_above(float limit);
  // Of the weights, those above `limit`; needs weigh() or weigh_above().
  void keep_weights_above(float limit);
  // Candidates 0…place of more than `first`, those behind of more than `rest`.
  void keep_weights_above(int64_t place, float first, float rest);
  // keep(i) for each candidate in order. `reweigh`: the largest may have gone.
  template <class Keep>
  void keep_if(const Keep& keep, bool reweigh) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n_; i++) {
      if (!keep(i)) continue;
      memory.ids[kept] = id(i);
      memory.weights[kept++] = memory.weights[i];
    }
    listed(kept);
    if (reweigh) weighed_ = false;
  }
  void keep_only(int32_t id);
  // memory.ids[0…n), which the caller has filled, rising.
  void list(int64_t n) {
    weighed_ = false;
    listed(n);
  }

  // The candidate in whose stretch u·total falls, candidates laid end to end; they must be weighed.
  int64_t pick(double u);

 private:
  template <class F>
  void segments(int64_t n, const F& fn);
  void refresh();
  void listed(int64_t n);
  double sum_of_blocks(int64_t n) const;

  const Context* shared_;
  const float* logits_;
  float* scores_ = nullptr;  // the copy that edits go to
  const float* base_;        // scores of all ids: logits_ or scores_
  const int32_t* ids_ = nullptr;
  int64_t n_;
  float divisor_ = 1;
  bool usable_ = true;
  bool stale_ = false;    // maxima and weights are of scores before an edit
  bool weighed_ = false;
  float raw_max_ = 0;
  double raw_log_total_ = 0;
  double total_ = 0;
};

}  // namespace switchyard::samplers
