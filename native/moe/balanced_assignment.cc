// balanced_assignment: one expert for each token, at most `capacity` tokens for each expert, the largest sum of scores.
// The linear assignment problem of BASE layers (Lewis et al. 2021, arXiv 2103.16716, equations 3 and 4), solved
// exactly by shortest augmenting paths instead of their auction.
//
// Tokens come one after another, and the assignment of those that came is always the best one. A new token goes to an
// expert; where that is full, one of its tokens moves on to another expert, and so on to one with room. Seen from the
// experts, the path has edges a → b that gain the largest s[u][b] - s[u][a] of the tokens u now at a: E nodes only,
// however many tokens there are. Each expert has a price, 0 while it has room; price[b] - price[a] - gain[a][b] is
// never negative, so that Dijkstra's search (Edmonds and Karp 1972; Jonker and Volgenant 1987) finds the best path and
// ends at the first expert with room.
//
// Ties: a search prefers the lower expert and the shorter path; among equal tokens of an expert the later one moves.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "cpu/route_tile.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

// The gains of full experts are a matrix.
constexpr int64_t kMostExperts = 4096;
constexpr double kNever = std::numeric_limits<double>::infinity();

int64_t padded(int64_t n) { return (n + 7) / 8 * 8; }  // to the lanes of the search

struct Sizes {
  int64_t N, E, capacity, full;  // full: experts that can be full at the end
};

Sizes sizes_of(const Instruction& in) {
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1], capacity = in.attrs[0].i;
  return {N, E, capacity, std::min(E, N / capacity)};
}

class Assignment {
 public:
  static int64_t scratch_bytes(const Sizes& z) {
    const int64_t doubles = (z.full + 5) * padded(z.E) + z.full, ints = 2 * z.E + 2 * z.full + z.full * z.capacity;
    return doubles * static_cast<int64_t>(sizeof(double)) + ints * static_cast<int64_t>(sizeof(int32_t));
  }

  Assignment(const Sizes& z, const RouteKernels& kernels, const float* scores, int32_t* expert, std::byte* scratch)
      : z_(z), E8_(padded(z.E)), kernels_(kernels), s_(scores), expert_(expert) {
    double* d = reinterpret_cast<double*>(scratch);
    const auto doubles = [&](int64_t n) { return std::exchange(d, d + n); };
    price_ = doubles(E8_), open_price_ = doubles(E8_), distance_ = doubles(E8_), origin_ = doubles(E8_);
    row_ = doubles(E8_), gain_ = doubles(z.full * E8_), visited_at_ = doubles(z.full);
    int32_t* i = reinterpret_cast<int32_t*>(d);
    const auto ints = [&](int64_t n) { return std::exchange(i, i + n); };
    count_ = ints(z.E), full_row_ = ints(z.E), visited_ = ints(z.full), moved_ = ints(z.full);
    members_ = ints(z.full * z.capacity);
    std::fill_n(price_, E8_, 0.0);
    std::fill_n(row_, E8_, 0.0);
    std::fill_n(gain_, z.full * E8_, 0.0);
    // Lanes past the last expert are never reached.
    std::fill(std::fill_n(open_price_, z.E, 0.0), open_price_ + E8_, kNever);
    std::fill_n(count_, z.E, 0);
  }

  void insert(int32_t token) { augment(token, search(token)); }

 private:
  double score(int64_t token, int64_t e) const { return s_[token * z_.E + e]; }
  bool full(int64_t e) const { return count_[e] == z_.capacity; }
  double* gains(int64_t e) const { return gain_ + full_row_[e] * E8_; }
  int32_t* members(int64_t e) const { return members_ + full_row_[e] * z_.capacity; }

  // The expert with room at the end of the best path; origin_ leads back to the token (-1). Prices follow.
  int64_t search(int32_t token) {
    for (int64_t e = 0; e < z_.E; e++) row_[e] = score(token, e);
    std::fill_n(distance_, E8_, kNever);
    int64_t visited = 0;
    int64_t e = kernels_.relax(0, -1, open_price_, row_, E8_, distance_, origin_);
    while (full(e)) {
      const double at = distance_[e];
      visited_[visited] = static_cast<int32_t>(e), visited_at_[visited++] = at;
      open_price_[e] = distance_[e] = kNever;
      e = kernels_.relax(at - price_[e], static_cast<double>(e), open_price_, gains(e), E8_, distance_, origin_);
    }
    for (int64_t i = 0; i < visited; i++) {
      double& price = price_[visited_[i]];
      price += distance_[e] - visited_at_[i];
      open_price_[visited_[i]] = price;
    }
    return e;
  }

  // Each token of the path moves one expert on. Who moves is settled before any does.
  void augment(int32_t token, int64_t end) {
    int64_t moves = 0;
    for (int64_t to = end, from; (from = static_cast<int64_t>(origin_[to])) >= 0; to = from) {
      moved_[moves++] = mover(from, to);
    }
    int64_t to = end;
    for (int64_t i = 0; i <= moves; i++) {
      const int32_t coming = i < moves ? moved_[i] : token;
      expert_[coming] = static_cast<int32_t>(to);
      if (i > 0) replace(to, moved_[i - 1], coming);
      to = static_cast<int64_t>(origin_[to]);
    }
    if (++count_[end] == z_.capacity) close(end, token);
  }

  int32_t mover(int64_t from, int64_t to) const {
    const int32_t* own = members(from);
    const double gain = gains(from)[to];
    int32_t last = -1;
    for (int64_t i = 0; i < z_.capacity; i++) {
      if (own[i] > last && score(own[i], to) - score(own[i], from) == gain) last = own[i];
    }
    return last;
  }

  double gain_of(int64_t from, int64_t to) const {
    const int32_t* own = members(from);
    double best = -kNever;
    for (int64_t i = 0; i < z_.capacity; i++) best = std::max(best, score(own[i], to) - score(own[i], from));
    return best;
  }

  // Expert e, full before and after, has `in` instead of `out`. Only gains that `out` had given are searched anew.
  void replace(int64_t e, int32_t out, int32_t in) {
    int32_t* own = members(e);
    *std::find(own, own + z_.capacity, out) = in;
    double* gain = gains(e);
    const double out_here = score(out, e), in_here = score(in, e);
    for (int64_t to = 0; to < z_.E; to++) {
      const double gone = score(out, to) - out_here, come = score(in, to) - in_here;
      if (come >= gain[to]) {
        gain[to] = come;
      } else if (gone == gain[to]) {
        gain[to] = gain_of(e, to);
      }
    }
  }

  // Expert e has no room left: from now on paths lead through it.
  void close(int64_t e, int32_t last_token) {
    full_row_[e] = closed_++;
    int32_t* own = members(e);
    for (int32_t token = 0; token <= last_token; token++) {
      if (expert_[token] == e) *own++ = token;
    }
    for (int64_t to = 0; to < z_.E; to++) gains(e)[to] = gain_of(e, to);
  }

  const Sizes z_;
  const int64_t E8_;
  const RouteKernels& kernels_;
  const float* s_;   // [N, E]
  int32_t* expert_;  // [N], set for the tokens that came
  int32_t closed_ = 0;
  double *price_, *open_price_;  // [E8]; open: infinite where the search was
  double *distance_, *origin_;   // [E8]: of the best path found, and the expert before, in lanes of one width
  double* row_;                  // [E8]: the scores of the new token
  double* gain_;                 // [full, E8]
  double* visited_at_;           // [full]: distances of visited_
  int32_t *count_, *full_row_;   // [E]; full_row of a full expert: its row in gain and members
  int32_t *visited_, *moved_;    // [full]
  int32_t* members_;             // [full, capacity]
};

void prepare(Instruction& in) {
  require_counts(in, 1, 1, 1, 1);
  require_tensor(in, in.in[0], "scores", DType::kF32, 2);
  require_tensor(in, in.out[0], "expert ids", DType::kI32, 1);
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1], capacity = in.attrs[0].i;
  require_dim(in, "length of expert ids", in.out[0]->shape[0], N);
  require_that(in, E >= 1 && E <= kMostExperts, "got experts outside 1 to 4096");
  require_that(in, N <= INT32_MAX, "got more than 2^31 - 1 tokens");
  require_that(in, capacity >= 1 && capacity <= INT32_MAX, "got a capacity outside 1 to 2^31 - 1");
  require_that(in, N <= E * capacity, "got more tokens than experts times capacity");
  in.shared_scratch = Assignment::scratch_bytes(sizes_of(in));
}

void run(const Instruction& in, const Context& context) {
  const Sizes z = sizes_of(in);
  const float* scores = in.in[0]->as<float>();
  for (int64_t i = 0; i < z.N * z.E; i++) {
    if (std::isfinite(scores[i])) continue;
    fail(ErrorCode::kOption, "[balanced_assignment] got score %g for token %lld and expert %lld, expected a finite number",
         static_cast<double>(scores[i]), static_cast<long long>(i / z.E), static_cast<long long>(i % z.E));
  }
  Assignment assignment(z, route_kernels(context.tier), scores, in.out[0]->as<int32_t>(), context.shared_scratch);
  for (int64_t token = 0; token < z.N; token++) assignment.insert(static_cast<int32_t>(token));
}

}  // namespace

void register_balanced_assignment(KernelRegistry& r) {
  r.add({"balanced_assignment", "capacity:int", prepare, run});
}

}  // namespace switchyard
