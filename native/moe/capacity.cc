// moe_capacity: which of the experts that tokens wish for they get, where an expert has `capacity` places for each
// group of tokens.
//
//   drop       k rounds: the first choices of all tokens of the group, then the second ones, …
//              A choice whose expert is full is lost, at its place (GShard, arXiv 2006.16668, Algorithm 1).
//   next best  one round: a token takes the first k experts of its ranking that have room, each once.
//
// `order` says in which order the tokens of a group are served (V-MoE, arXiv 2106.05974, Algorithm 2: by priority;
// its Algorithm 1 is token order). Groups know nothing of each other, so each is a task.
#include <algorithm>

#include "runtime/kernel.h"

namespace switchyard {
namespace {

enum Overflow : int64_t { kDrop = 0, kNextBest = 1 };
// Fewer wishes than this take less time than waking the pool.
constexpr int64_t kSerialWishes = 4096;

struct Sizes {
  int64_t M, k, capacity, group, overflow, E;
};

Sizes sizes_of(const Instruction& in) {
  return {in.in[0]->shape[1], in.attrs[0].i, in.attrs[1].i, in.attrs[2].i, in.attrs[3].i, in.attrs[4].i};
}

void check_ranking(const Sizes& s, const int32_t* ranking, int64_t first_token) {
  for (int64_t i = 0; i < s.group * s.M; i++) {
    if (ranking[i] >= -1 && ranking[i] < s.E) continue;
    fail(ErrorCode::kOption, "[moe_capacity] got expert %d for token %lld, expected -1 or 0 to %lld", ranking[i],
         static_cast<long long>(first_token + i / s.M), static_cast<long long>(s.E - 1));
  }
}

// seen: scratch of `group` numbers.
void check_order(const Sizes& s, const int32_t* order, int64_t first_token, int32_t* seen) {
  std::fill_n(seen, s.group, 0);
  for (int64_t i = 0; i < s.group; i++) {
    if (order[i] < 0 || order[i] >= s.group || seen[order[i]]++ != 0) {
      fail(ErrorCode::kOption,
           "[moe_capacity] got %d at place %lld of the order, expected each of 0 to %lld once in a group", order[i],
           static_cast<long long>(first_token + i), static_cast<long long>(s.group - 1));
    }
  }
}

void drop(const Sizes& s, const int32_t* ranking, const int32_t* order, int32_t* taken, int32_t* ids) {
  for (int64_t choice = 0; choice < s.k; choice++) {
    for (int64_t i = 0; i < s.group; i++) {
      const int64_t token = order != nullptr ? order[i] : i;
      const int32_t e = ranking[token * s.M + choice];
      const bool fits = e >= 0 && taken[e] < s.capacity;
      if (fits) taken[e]++;
      ids[token * s.k + choice] = fits ? e : -1;
    }
  }
}

void next_best(const Sizes& s, const int32_t* ranking, const int32_t* order, int32_t* taken, int32_t* ids) {
  for (int64_t i = 0; i < s.group; i++) {
    const int64_t token = order != nullptr ? order[i] : i;
    int32_t* own = ids + token * s.k;
    int64_t held = 0;
    for (int64_t m = 0; m < s.M && held < s.k; m++) {
      const int32_t e = ranking[token * s.M + m];
      if (e < 0 || taken[e] >= s.capacity || std::find(own, own + held, e) != own + held) continue;
      taken[e]++;
      own[held++] = e;
    }
    std::fill(own + held, own + s.k, -1);
  }
}

void prepare(Instruction& in) {
  require_counts(in, 2, 2, 1, 1);
  require_tensor(in, in.in[0], "ranking", DType::kI32, 2);
  const int64_t N = in.in[0]->shape[0];
  if (in.in[1] != nullptr) {
    require_tensor(in, in.in[1], "order", DType::kI32, 1);
    require_dim(in, "length of order", in.in[1]->shape[0], N);
  }
  const Sizes s = sizes_of(in);
  require_that(in, s.E >= 1 && s.E <= 65536, "got experts outside 1 to 65536");
  require_that(in, s.capacity >= 0, "got a capacity below 0");
  require_that(in, s.overflow == kDrop || s.overflow == kNextBest, "got an unknown overflow, expected 0 or 1");
  require_that(in, s.k >= 1 && (s.overflow == kDrop ? s.k == s.M : s.k <= s.M),
               "got k other than the columns of the ranking (drop), or more than those (next best)");
  require_that(in, N == 0 || (s.group >= 1 && N % s.group == 0), "got tokens that are no multiple of the group");
  require_tensor(in, in.out[0], "expert ids", DType::kI32, 2);
  require_dim(in, "rows of expert ids", in.out[0]->shape[0], N);
  require_dim(in, "columns of expert ids", in.out[0]->shape[1], s.k);
  if (N > 0) {
    in.worker_scratch = checked_mul(checked_add(s.E, s.group, "moe_capacity"), sizeof(int32_t), "moe_capacity");
  }
}

void run(const Instruction& in, const Context& context) {
  const Sizes s = sizes_of(in);
  const int64_t N = in.in[0]->shape[0];
  if (N == 0) return;
  const int32_t* ranking = in.in[0]->as<int32_t>();                                  // [N, M]
  const int32_t* order = in.in[1] != nullptr ? in.in[1]->as<int32_t>() : nullptr;  // [N], of each group
  int32_t* ids = in.out[0]->as<int32_t>();                                           // [N, k]
  const auto serve = [&](int64_t group, int worker) {
    int32_t* taken = reinterpret_cast<int32_t*>(context.scratch_of(worker));
    const int64_t first = group * s.group;
    const int32_t* own_order = order != nullptr ? order + first : nullptr;
    check_ranking(s, ranking + first * s.M, first);
    if (own_order != nullptr) check_order(s, own_order, first, taken + s.E);
    std::fill_n(taken, s.E, 0);
    (s.overflow == kDrop ? drop : next_best)(s, ranking + first * s.M, own_order, taken, ids + first * s.k);
  };
  const int64_t groups = N / s.group;
  if (N * s.M < kSerialWishes) {
    for (int64_t group = 0; group < groups; group++) serve(group, 0);
  } else {
    context.parallel_for(groups, serve);
  }
}

}  // namespace

void register_moe_capacity(KernelRegistry& r) {
  r.add({"moe_capacity", "k:int,capacity:int,group:int,overflow:int,experts:int", prepare, run});
}

}  // namespace switchyard
