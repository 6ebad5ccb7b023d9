// balanced_assignment by the search of moe/balanced_assignment.cc, step for step: one token after another, all that is done for a
// token by one block. Sums of doubles and ties are the CPU's. Members of an expert lie in no order here; nothing asks for one.
#include "cuda/device/reduce.h"
#include "cuda/device/report.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kNever = INFINITY;

struct Sizes {
  int64_t N, capacity, full;  // full: experts that can be full at the end
  int E;
};

Sizes sizes_of(const Instruction& in) {
  const int64_t N = in.in[0]->shape[0], E = in.in[0]->shape[1], capacity = in.attrs[0].i;
  return {N, capacity, std::min(E, N / capacity), static_cast<int>(E)};
}

// In the order of doubles, and back.
__device__ inline int64_t ordered_bits(double x) {
  const int64_t b = __double_as_longlong(x);
  return b ^ ((b >> 63) & INT64_MAX);
}
__device__ inline double of_ordered_bits(int64_t b) { return __longlong_as_double(b ^ ((b >> 63) & INT64_MAX)); }

// All threads of the block call all members; what is written by one thread for others is followed by a barrier.
class Assignment {
 public:
  // Of each expert, in shared memory where that suffices.
  static int64_t expert_bytes(const Sizes& z) { return z.E * int64_t{4 * sizeof(double) + 3 * sizeof(int32_t)}; }
  static int64_t table_bytes(const Sizes& z) {
    return z.full * ((z.E + 1) * int64_t{sizeof(double)} + (2 + z.capacity) * int64_t{sizeof(int32_t)});
  }

  __device__ Assignment(const Sizes& z, const float* scores, int32_t* expert, std::byte* experts, std::byte* tables,
                        int32_t* common)
      : z_(z), s_(scores), expert_(expert), common_(common) {
    price_ = reinterpret_cast<double*>(experts), open_price_ = price_ + z.E, distance_ = open_price_ + z.E;
    row_ = distance_ + z.E;
    origin_ = reinterpret_cast<int32_t*>(row_ + z.E), count_ = origin_ + z.E, full_row_ = count_ + z.E;
    gain_ = reinterpret_cast<double*>(tables), visited_at_ = gain_ + z.full * z.E;
    visited_ = reinterpret_cast<int32_t*>(visited_at_ + z.full), moved_ = visited_ + z.full, members_ = moved_ + z.full;
    for (int e = threadIdx.x; e < z.E; e += kThreads) price_[e] = open_price_[e] = 0, count_[e] = 0;
    __syncthreads();
  }

  __device__ void insert(int32_t token) { augment(token, search(token)); }

 private:
  struct Found {
    int expert;
    double distance;
  };

  // What is not finite has been reported; the search must end all the same.
  __device__ double score(int64_t token, int64_t e) const {
    const float s = s_[token * z_.E + e];
    return fabsf(s) < INFINITY ? s : 0.0f;
  }
  __device__ bool full(int e) const { return count_[e] == z_.capacity; }
  __device__ double* gains(int e) const { return gain_ + int64_t{full_row_[e]} * z_.E; }
  __device__ int32_t* members(int e) const { return members_ + full_row_[e] * z_.capacity; }

  // A thread has every 256th expert. The first expert of the smallest distance is the next.
  __device__ Found relax(double base, int from, const double* gain) {
    int64_t low = INT64_MAX;
    int first = INT32_MAX;
    for (int e = threadIdx.x; e < z_.E; e += kThreads) {
      const double reach = base + (open_price_[e] - gain[e]);
      if (reach < distance_[e]) distance_[e] = reach, origin_[e] = from;
      const int64_t bits = ordered_bits(distance_[e]);
      if (bits < low) low = bits, first = e;
    }
    const int64_t least = block_reduce<kThreads>(low, Smallest());
    return {block_reduce<kThreads>(low == least ? first : INT32_MAX, Smallest()), of_ordered_bits(least)};
  }

  __device__ int search(int32_t token) {
    for (int e = threadIdx.x; e < z_.E; e += kThreads) row_[e] = score(token, e), distance_[e] = kNever;
    int visited = 0;
    Found next = relax(0, -1, row_);
    while (full(next.expert)) {
      if (threadIdx.x == 0) visited_[visited] = next.expert, visited_at_[visited] = next.distance;
      visited++;
      if (next.expert % kThreads == static_cast<int>(threadIdx.x)) {
        open_price_[next.expert] = distance_[next.expert] = kNever;
      }
      next = relax(next.distance - price_[next.expert], next.expert, gains(next.expert));
    }
    __syncthreads();
    for (int i = threadIdx.x; i < visited; i += kThreads) {
      const int e = visited_[i];
      price_[e] += next.distance - visited_at_[i];
      open_price_[e] = price_[e];
    }
    __syncthreads();
    return next.expert;
  }

  // Each token of the path moves one expert on. Who moves is settled before any does.
  __device__ void augment(int32_t token, int end) {
    int moves = 0;
    for (int to = end, from; (from = origin_[to]) >= 0; to = from) {
      const int32_t moving = mover(from, to);
      if (threadIdx.x == 0) moved_[moves] = moving;
      moves++;
    }
    __syncthreads();
    int to = end;
    for (int i = 0; i <= moves; i++) {
      const int32_t coming = i < moves ? moved_[i] : token;
      if (threadIdx.x == 0) expert_[coming] = to;
      if (i > 0) replace(to, moved_[i - 1], coming);
      to = origin_[to];
    }
    if (threadIdx.x == 0) count_[end]++;
    __syncthreads();
    if (full(end)) close(end, token);
  }

  // Among equal tokens the later one.
  __device__ int32_t mover(int from, int to) const {
    const int32_t* own = members(from);
    const double gain = gains(from)[to];
    int32_t last = -1;
    for (int64_t i = threadIdx.x; i < z_.capacity; i += kThreads) {
      if (own[i] > last && score(own[i], to) - score(own[i], from) == gain) last = own[i];
    }
    return block_reduce<kThreads>(last, Largest());
  }

  __device__ double gain_of(int from, int to) const {
    const int32_t* own = members(from);
    double best = -kNever;
    for (int64_t i = 0; i < z_.capacity; i++) best = fmax(best, score(own[i], to) - score(own[i], from));
    return best;
  }

  // Expert e, full before and after, has `in` instead of `out`.
  __device__ void replace(int e, int32_t out, int32_t in) {
    int32_t* own = members(e);
    for (int64_t i = threadIdx.x; i < z_.capacity; i += kThreads) {
      if (own[i] == out) own[i] = in;
    }
    __syncthreads();
    double* gain = gains(e);
    const double out_here = score(out, e), in_here = score(in, e);
    for (int to = threadIdx.x; to < z_.E; to += kThreads) {
      const double gone = score(out, to) - out_here, come = score(in, to) - in_here;
      if (come >= gain[to]) {
        gain[to] = come;
      } else if (gone == gain[to]) {
        gain[to] = gain_of(e, to);
      }
    }
    __syncthreads();
  }

  // Expert e has no room left: from now on paths lead through it.
  __device__ void close(int e, int32_t last_token) {
    if (threadIdx.x == 0) full_row_[e] = closed_, *common_ = 0;
    closed_++;
    __syncthreads();
    int32_t* own = members(e);
    for (int64_t token = threadIdx.x; token <= last_token; token += kThreads) {
      if (expert_[token] == e) own[atomicAdd(common_, 1)] = static_cast<int32_t>(token);
    }
    __syncthreads();
    for (int to = threadIdx.x; to < z_.E; to += kThreads) gains(e)[to] = gain_of(e, to);
    __syncthreads();
  }

  const Sizes z_;
  const float* s_;   // [N, E]
  int32_t* expert_;  // [N], set for the tokens that came
  int32_t* common_;  // a counter of all threads
  int32_t closed_ = 0;
  double *price_, *open_price_;  // [E]; open: infinite where the search was
  double* distance_;             // [E]: of the best path found
  double* row_;                  // [E]: the scores of the new token
  int32_t *origin_, *count_, *full_row_;  // [E]: the expert before; tokens; of a full one: its row in gain and members
  double *gain_, *visited_at_;   // [full, E], [full]
  int32_t *visited_, *moved_;    // [full]
  int32_t* members_;             // [full, capacity]
};

__global__ void __launch_bounds__(kThreads) assign_kernel(const Sizes z, const float* scores, int32_t* expert,
                                                          std::byte* experts, std::byte* tables) {
  SWITCHYARD_SHARED(bytes);
  __shared__ int32_t common;
  Assignment assignment(z, scores, expert, experts != nullptr ? experts : bytes, tables, &common);
  for (int64_t token = 0; token < z.N; token++) assignment.insert(static_cast<int32_t>(token));
}

__global__ void check_kernel(const float* scores, int64_t n, ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_GRID_STRIDE(i, n) {
    if (!(fabsf(scores[i]) < INFINITY)) report(error, instruction, ErrorKind::kNotFinite, i, 0, 0, 0);
  }
}

// Static shared memory is left room for.
bool in_shared(const Sizes& z, const DeviceLimits& device) {
  return Assignment::expert_bytes(z) <= device.shared_per_block - 4096;
}
int64_t expert_scratch(const Sizes& z, const DeviceLimits& device) {
  return in_shared(z, device) ? 0 : (Assignment::expert_bytes(z) + 15) / 16 * 16;
}

int64_t scratch(const Instruction& in, const DeviceLimits& device) {
  const Sizes z = sizes_of(in);
  return expert_scratch(z, device) + Assignment::table_bytes(z);
}

void run(const Instruction& in, const Launch& on) {
  const Sizes z = sizes_of(in);
  if (z.N == 0) return;
  const float* scores = in.in[0]->as<float>();
  launch(check_kernel, grid_for(z.N * z.E, 256, on), 256, 0, on, scores, z.N * z.E, on.error, in.number);
  const int64_t own = expert_scratch(z, *on.device);
  launch(assign_kernel, 1, kThreads, own > 0 ? 0 : Assignment::expert_bytes(z), on, z, scores, in.out[0]->as<int32_t>(),
         own > 0 ? on.scratch : nullptr, on.scratch + own);
}

}  // namespace

void register_balanced_assignment(KernelTable& t) { t.add({"balanced_assignment", run, scratch}); }

}  // namespace switchyard::cuda
