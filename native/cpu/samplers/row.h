// One row of logits on its way through a sampler chain.
//
// Scores are edited in place, by id (penalties, biases); a temperature is kept aside as a divisor, so that it costs no pass.
// A weight is exp((score - largest) / divisor). Candidates are
// - all of the vocabulary, until the first filter;
// - thinned: a weight for each of the vocabulary, -0 where one was removed: no list is written where many stay;
// - listed: ids, rising, and weights side by side.
// A slot is a place among the weights: an id, or a place of the list.
//
// Every sum is taken in blocks (passes.h): the bits depend on the candidates only, not on threads or on what the row shares
// them with.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>

#include "cpu/isa/math_table.h"
#include "cpu/samplers/passes.h"
#include "cpu/samplers/row_memory.h"
#include "cpu/samplers/select.h"

namespace switchyard::samplers {

class Row {
 public:
  // `shared`: threads that may help with this row, or null. `edits`: the chain will change scores, or divide them twice.
  Row(const MathTable& math, const Context* shared, const RowMemory& memory, const float* logits, int64_t v, bool edits);

  const MathTable& math;
  const Passes passes;
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
  float score_of(int32_t id) const { return base_[id]; }  // before the division
  void set_score(int32_t id, float score) {
    float& maximum = memory.maxima[id / kMaximumBlock];
    if (score >= maximum) {
      maximum = score;
    } else if (scores_[id] == maximum) {
      memory.stale[id / kMaximumBlock] = 1;
    }
    stale_ = true;
    scores_[id] = score;
  }

  // --- Candidates.
  int64_t size() const { return n_; }
  bool dense() const { return state_ == State::kAll; }
  // Lists them where they were thinned: what walks over candidates calls it first.
  void list_thinned();
  int32_t id(int64_t slot) const { return state_ == State::kListed ? memory.ids[slot] : int32_t(slot); }
  float score(int64_t slot) const { return score_of(id(slot)); }
  float divisor() const { return divisor_; }
  void divide(float divisor);
  // Largest score before the division; -inf where nothing is left.
  float largest();
  // The lowest id of a score above `limit`; there is one.
  int32_t first_above(float limit);

  bool weighed() {
    refresh();
    return weighed_;
  }
  // Computes weights and their sum; the largest weight is 1. No-op where they are known.
  void weigh() { weigh(false); }
  int64_t slots() const { return state_ == State::kListed ? n_ : vocabulary; }
  const float* weights() const { return memory.weights; }
  Candidates by_weight() const { return {memory.weights, memory.weights, slots()}; }
  double total() const { return total_; }
  // The largest weight: 1, unless a filter has removed it since they were computed.
  float largest_weight();
  // The mean of log(weight) under the candidates' distribution; weighs them. NaN where none is left.
  double mean_log_weight();
  // How near the log of a slot's weight is to `centre`, by its score.
  Nearness nearness_to(double centre) const { return {top_, rate_, float(centre / std::numbers::ln2)}; }
  // Scores of the candidates side by side, -inf where one was removed.
  const float* gather();
  // A weight is 2^((score - largest)·rate).
  float rate() const { return std::numbers::log2e_v<float> / divisor_; }

  // Whether so many scores may be above `limit` that it costs less to weigh all than to list them first.
  bool many_above(float limit);

  // --- Filters; candidates stay in order.
  // What a cut by falling score before the division takes.
  void keep_scores(const Cut& cut);
  // Of the weights, those of at least `least`, and the largest.
  void keep_weights_from(double least);
  // What a cut by falling weight takes.
  void keep(const Cut& cut);
  // Slots whose score, as gather() gives it, is nearer than `limit`; the likeliest may go.
  void keep_nearer(const float* scores, const Nearness& nearness, float limit);
  // Weights above `limit` go, but one slot's, which is of them.
  void remove_above(float limit, int64_t but);
  // keep(slot) for each candidate in order; the likeliest may go.
  template <class Keep>
  void keep_if(const Keep& keep) {
    list_thinned();
    int64_t kept = 0;
    for (int64_t i = 0; i < n_; i++) {
      if (keep(i)) memory.ids[kept++] = id(i);
    }
    list(kept);
  }
  void keep_only(int32_t id);
  // memory.ids[0…n), which the caller has filled, rising.
  void list(int64_t n) {
    weighed_ = false;
    listed(n);
  }

  // The slot in whose stretch u·total falls, candidates laid end to end; they must be weighed.
  int64_t pick(double u);

 private:
  enum class State { kAll, kThinned, kListed };

  void refresh();
  void weigh(bool moments);
  void listed(int64_t n);
  void keep_weights_above(float limit);
  int64_t pack_above(float* values, const float* x, float limit, float bound);
  void add_up();
  void thin(const Candidates& by, int64_t place, float first, float rest);
  void likeliest_gone(float now);

  const float* logits_;
  float* scores_ = nullptr;  // the copy that edits go to
  const float* base_;        // scores of all ids: logits_ or scores_
  State state_ = State::kAll;
  int64_t n_;
  float divisor_ = 1;
  bool usable_ = true;
  bool stale_ = false;  // maxima and weights are of scores before an edit
  bool weighed_ = false;
  float raw_max_ = 0;
  double raw_log_total_ = 0;
  float top_ = 0, rate_ = 0;  // a weight is 2^((score - top)·rate)
  float largest_weight_ = 1;  // NaN: not known
  double total_ = 0;
};

}  // namespace switchyard::samplers
