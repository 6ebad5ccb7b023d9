// Attention over ragged sequences, keys and values contiguous or in a paged cache.
//
// 1. A task is (sequence, block of query positions, KV head), and takes all query heads of that KV head, so that a
//    decode step reads each key once. Its rows are ordered by position, then head.
// 2. The task walks the keys in blocks of 64 at absolute positions; a block that no row sees is passed over.
// 3. Every 256 keys (kChunk) the state of the rows is closed and merged into the total. Chunks exist so that few
//    rows can be spread over threads: then a task is one chunk, and a second region merges in order of chunks.
// Neither the size of a task nor the choice between 2 and 3 changes a bit of the result.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "cpu/attention_tile.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

constexpr int64_t kChunk = 256;
static_assert(kChunk % kKeyBlock == 0);
// Rows of a task: enough to pay for transposing a block of keys (measured: 2 % at 128), few enough for L2.
constexpr int64_t kMaxRows = 128, kMinRows = 16;
constexpr int64_t kTasksPerThread = 4;
// Temporary memory that spreading over chunks may take.
constexpr int64_t kMaxSplitBytes = 16 << 20;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Problem {
  int64_t N, S, H, G, C, Cv, max_chunks;
  float scale;
  bool causal, half;
  int64_t window;
  const float* q;  // [N, H, C]
  float* y;        // [N, H, Cv]
  const int32_t* query_offsets;
  const int32_t* prefix;  // [S] or nullptr

  int64_t group() const { return H / G; }
  int64_t rows_limit() const { return std::max(kMaxRows, group()); }
};

// Floats of one row's state.
int64_t state_floats(int64_t Cv) { return kLanes + kLanes + padded(Cv); }

AttentionState state_at(float* p, int64_t rows) {
  return {p, p + padded(rows), p + padded(rows) + rows * kLanes};
}

// A worker's scratch, carved in this order.
struct Workspace {
  AttentionState part, total;
  float *keys, *values, *zeros;
  float** y;           // [rows]
  const float** q;     // [rows]
  uint64_t* visible;   // [rows]

  static int64_t bytes(const Problem& p) {
    const int64_t rows = p.rows_limit();
    const int64_t floats = 2 * (padded(rows) + rows * (kLanes + padded(p.Cv))) + (p.C + padded(p.Cv)) * kKeyBlock +
                           padded(std::max(p.C, p.Cv));
    return floats * static_cast<int64_t>(sizeof(float)) + padded(rows) * 3 * static_cast<int64_t>(sizeof(uint64_t));
  }
  Workspace(const Problem& p, std::byte* memory) {
    const int64_t rows = p.rows_limit(), state = padded(rows) + rows * (kLanes + padded(p.Cv));
    float* at = reinterpret_cast<float*>(memory);
    part = state_at(at, rows);
    total = state_at(at += state, rows);
    keys = at += state;
    values = at += p.C * kKeyBlock;
    zeros = at += kKeyBlock * padded(p.Cv);
    at += padded(std::max(p.C, p.Cv));
    y = reinterpret_cast<float**>(at);
    q = const_cast<const float**>(y + padded(rows));
    visible = reinterpret_cast<uint64_t*>(y + 2 * padded(rows));
    std::fill_n(zeros, padded(std::max(p.C, p.Cv)), 0.0f);
  }
};

// Bits [from, to) of the block of keys that starts at `base`.
uint64_t bits_of(int64_t from, int64_t to, int64_t base) {
  from = std::clamp<int64_t>(from - base, 0, kKeyBlock);
  to = std::clamp<int64_t>(to - base, 0, kKeyBlock);
  if (from >= to) return 0;
  return (~uint64_t{0} << from) & (~uint64_t{0} >> (kKeyBlock - to));
}

// Where the keys of a contiguous batch live.
struct Contiguous {
  const float *k, *v;  // [M, G, C], [M, G, Cv]
  const int32_t* key_offsets;
  int64_t G, C, Cv;

  int64_t length(int64_t s) const { return key_offsets[s + 1] - key_offsets[s]; }
  // Pointers to the keys from + j, for every bit j of `wanted`.
  void find(int64_t s, int64_t g, int64_t from, uint64_t wanted, const void** key, const void** value) const {
    for (uint64_t rest = wanted; rest != 0; rest &= rest - 1) {
      const int j = std::countr_zero(rest);
      const int64_t at = (key_offsets[s] + from + j) * G + g;
      key[j] = k + at * C;
      value[j] = v + at * Cv;
    }
  }
};

// Where they live in a paged cache: position p of a sequence is place p % size of block table[p / size].
struct Paged {
  const std::byte *k, *v;  // [blocks, G, size, C], [blocks, G, size, Cv]
  const int32_t *lengths, *table;
  int64_t G, C, Cv, blocks, size, table_width, element;

  int64_t length(int64_t s) const { return lengths[s]; }
  void find(int64_t s, int64_t g, int64_t from, uint64_t wanted, const void** key, const void** value) const {
    for (int64_t j = 0; j < kKeyBlock;) {
      const int64_t entry = (from + j) / size, place = (from + j) % size;
      const int64_t end = std::min<int64_t>(kKeyBlock, j + size - place);
      uint64_t rest = wanted & bits_of(j, end, 0);
      if (rest != 0) {
        const int32_t block = table[s * table_width + entry];
        if (block < 0 || block >= blocks) {
          fail(ErrorCode::kOption, "[paged_attention] got block %d in place %lld of sequence %lld, expected 0 to %lld",
               block, static_cast<long long>(entry), static_cast<long long>(s), static_cast<long long>(blocks - 1));
        }
        const int64_t base = (block * G + g) * size + place - j;
        for (; rest != 0; rest &= rest - 1) {
          const int64_t at = base + std::countr_zero(rest);
          key[std::countr_zero(rest)] = k + at * C * element;
          value[std::countr_zero(rest)] = v + at * Cv * element;
        }
      }
      j = end;
    }
  }
};

// Some rows of one sequence and KV head, over the keys [key_begin, key_end).
struct Task {
  int64_t s, g, first, count;  // query positions within the sequence: first … first + count - 1
  int64_t key_begin, key_end;
};

// What the query at absolute position `at` sees: [0, prefix) and [low, high).
struct Range {
  int64_t low, high, prefix;
  Range(const Problem& p, int64_t s, int64_t length, int64_t at)
      : low(p.window > 0 ? std::max<int64_t>(0, at - p.window + 1) : 0),
        high(p.causal ? std::clamp<int64_t>(at + 1, 0, length) : length),
        prefix(p.prefix != nullptr ? std::min<int64_t>(p.prefix[s], length) : 0) {}
  uint64_t bits(int64_t base) const { return bits_of(low, high, base) | bits_of(0, prefix, base); }
};

// Adds the keys of one chunk to `state`, whose rows are those of the task.
template <class Where>
void walk(const Problem& p, const Where& where, const AttentionKernels& kernels, const Task& task, Workspace& w,
          const AttentionState& state, int64_t begin, int64_t end) {
  const int64_t length = where.length(task.s);
  const int64_t queries = p.query_offsets[task.s + 1] - p.query_offsets[task.s];
  const int64_t at = length - queries + task.first;  // position of the first row
  const int64_t group = p.group();
  const void *key[kKeyBlock], *value[kKeyBlock];
  for (int64_t base = begin; base < end; base += kKeyBlock) {
    uint64_t any = 0;
    for (int64_t i = 0; i < task.count; i++) {
      const uint64_t bits = Range(p, task.s, length, at + i).bits(base);
      std::fill_n(w.visible + i * group, group, bits);
      any |= bits;
    }
    if (any == 0) continue;
    std::fill_n(key, kKeyBlock, w.zeros);
    std::fill_n(value, kKeyBlock, w.zeros);
    where.find(task.s, task.g, base, any, key, value);
    kernels.block({task.count * group, p.C, p.Cv, p.scale, p.half, w.q, w.visible, key, value, w.keys, w.values, state});
  }
}

template <class Where>
void attend(const Problem& p, const Where& where, const Instruction& in, const Context& context) {
  const AttentionKernels& kernels = attention_kernels(context.tier);
  const int64_t group = p.group();
  // Rows past the last sequence.
  const int64_t used = p.query_offsets[p.S];
  std::fill(p.y + used * p.H * p.Cv, p.y + p.N * p.H * p.Cv, 0.0f);

  // Positions of a task: fewer where tasks are few, and all the same work is done.
  int64_t positions = std::max<int64_t>(1, kMaxRows / group);
  const int64_t wish = ceil_div(used * p.G, kTasksPerThread * context.threads);
  if (context.threads > 1) positions = std::clamp(wish, std::min(positions, ceil_div(kMinRows, group)), positions);

  int64_t longest = 0;
  int64_t* first_task = reinterpret_cast<int64_t*>(context.shared_scratch);  // [S+1], per KV head
  for (int64_t s = 0; s < p.S; s++) {
    longest = std::max(longest, where.length(s));
    first_task[s + 1] = ceil_div(p.query_offsets[s + 1] - p.query_offsets[s], positions) + (s > 0 ? first_task[s] : 0);
  }
  first_task[0] = 0;
  const int64_t blocks = first_task[p.S], chunks = ceil_div(longest, kChunk);
  const bool split = p.max_chunks > 1 && chunks > 1 && context.threads > 1 &&
                     blocks * p.G < kTasksPerThread * context.threads;
  // States of a split run: [N, H, max_chunks] rows.
  float* split_states = reinterpret_cast<float*>(context.shared_scratch + padded(p.S + 1) * sizeof(int64_t));
  const auto split_state = [&](int64_t row, int64_t chunk) {
    float* at = split_states + (row * p.max_chunks + chunk) * state_floats(p.Cv);
    return AttentionState{at, at + kLanes, at + 2 * kLanes};
  };

  const auto run_task = [&](int64_t block, int64_t g, int64_t only_chunk, int worker) {
    Workspace w(p, context.scratch_of(worker));
    const int64_t s = std::upper_bound(first_task, first_task + p.S + 1, block) - first_task - 1;
    const int64_t queries = p.query_offsets[s + 1] - p.query_offsets[s], length = where.length(s);
    Task task{s, g, (block - first_task[s]) * positions, 0, 0, 0};
    task.count = std::min(positions, queries - task.first);
    const int64_t rows = task.count * group;
    for (int64_t i = 0; i < rows; i++) {
      const int64_t row = (p.query_offsets[s] + task.first + i / group) * p.H + g * group + i % group;
      w.q[i] = p.q + row * p.C;
      w.y[i] = p.y + row * p.Cv;
    }
    // Every key that a row of the task may see; the walk itself passes over those before the window.
    const Range first(p, s, length, length - queries + task.first);
    const Range last(p, s, length, length - queries + task.first + task.count - 1);
    const int64_t end = std::max(last.high, last.prefix);
    if (split) {
      const int64_t begin = only_chunk * kChunk;
      kernels.clear(w.part, rows, p.Cv);
      walk(p, where, kernels, task, w, w.part, begin, std::min(end, begin + kChunk));
      for (int64_t i = 0; i < rows; i++) {
        const AttentionState to = split_state((w.q[i] - p.q) / std::max<int64_t>(p.C, 1), only_chunk);
        *to.max = w.part.max[i];
        std::copy_n(w.part.sum + i * kLanes, kLanes, to.sum);
        std::copy_n(w.part.out + i * padded(p.Cv), padded(p.Cv), to.out);
      }
      return;
    }
    kernels.clear(w.total, rows, p.Cv);
    for (int64_t begin = 0; begin < end; begin += kChunk) {
      if (begin >= last.prefix && begin + kChunk <= first.low) continue;
      kernels.clear(w.part, rows, p.Cv);
      walk(p, where, kernels, task, w, w.part, begin, std::min(end, begin + kChunk));
      kernels.merge(w.total, w.part, rows, p.Cv);
    }
    kernels.finish(w.total, rows, p.Cv, w.y);
  };
  (void)in;

  if (!split) {
    // Under a causal mask the last block of positions costs most: it goes first.
    context.parallel_for(blocks * p.G, [&](int64_t i, int worker) {
      const int64_t task = blocks * p.G - 1 - i;
      run_task(task / p.G, task % p.G, 0, worker);
    });
    return;
  }
  context.parallel_for(chunks * blocks * p.G, [&](int64_t i, int worker) {
    const int64_t chunk = i / (blocks * p.G), task = i % (blocks * p.G);
    run_task(task / p.G, task % p.G, chunk, worker);
  });
  const auto merge_token = [&](int64_t n, int worker) {
    Workspace w(p, context.scratch_of(worker));
    for (int64_t h = 0; h < p.H; h++) {
      float* y = p.y + (n * p.H + h) * p.Cv;
      kernels.clear(w.total, 1, p.Cv);
      for (int64_t chunk = 0; chunk < chunks; chunk++) {
        kernels.merge(w.total, split_state(n * p.H + h, chunk), 1, p.Cv);
      }
      kernels.finish(w.total, 1, p.Cv, &y);
    }
  };
  for (int64_t n = 0; n < used; n++) merge_token(n, 0);
}

// offsets[0] = 0 ≤ offsets[1] ≤ … ≤ offsets[S] ≤ limit.
void check_offsets(const char* kernel, const char* what, const int32_t* offsets, int64_t S, int64_t limit) {
  for (int64_t s = 0; s <= S; s++) {
    const int64_t low = s > 0 ? offsets[s - 1] : 0, high = s > 0 ? limit : 0;
    if (offsets[s] >= low && offsets[s] <= high) continue;
    fail(ErrorCode::kShape, "[%s] got %d as %s offset %lld, expected %lld to %lld", kernel, offsets[s], what,
         static_cast<long long>(s), static_cast<long long>(low), static_cast<long long>(high));
  }
}

void check_prefix(const char* kernel, const int32_t* prefix, int64_t S) {
  for (int64_t s = 0; prefix != nullptr && s < S; s++) {
    if (prefix[s] >= 0) continue;
    fail(ErrorCode::kOption, "[%s] got prefix %d for sequence %lld, expected 0 or more", kernel, prefix[s],
         static_cast<long long>(s));
  }
}

// What both kernels share: q, y, attributes and scratch. `prefix_at`: the place of the optional prefix.
Problem common(const Instruction& in, int64_t G, int64_t Cv, int64_t S, size_t prefix_at, int64_t max_keys) {
  const Operand& q = *in.in[0];
  Problem p{};
  p.N = q.shape[0], p.S = S, p.H = q.shape[1], p.G = G, p.C = q.shape[2], p.Cv = Cv;
  p.scale = static_cast<float>(in.attrs[0].f);
  p.causal = in.attrs[1].i != 0;
  p.window = in.attrs[2].i;
  p.q = q.as<float>();
  p.y = in.out[0]->as<float>();
  if (in.in.size() > prefix_at && in.in[prefix_at] != nullptr) p.prefix = in.in[prefix_at]->as<int32_t>();
  const int64_t chunks = ceil_div(max_keys, kChunk);
  const bool fits = p.N * p.H <= kMaxSplitBytes / 4 && chunks <= kMaxSplitBytes / 4 &&
                    p.N * p.H * chunks <= kMaxSplitBytes / 4 / state_floats(Cv);
  p.max_chunks = fits ? chunks : 1;
  return p;
}

void prepare_common(Instruction& in, int64_t G, int64_t C, int64_t Cv, int64_t S, size_t prefix_at, int64_t max_keys) {
  require_tensor(in, in.in[0], "q", DType::kF32, 3);
  require_tensor(in, in.out[0], "y", DType::kF32, 3);
  const Shape &q = in.in[0]->shape, &y = in.out[0]->shape;
  require_that(in, S >= 0, "got offsets of length 0, expected one more than there are sequences");
  require_that(in, G >= 1 && q[1] % G == 0, "got a number of heads that the number of KV heads does not divide");
  require_dim(in, "head dim of k", C, q[2]);
  require_dim(in, "tokens of y", y[0], q[0]);
  require_dim(in, "heads of y", y[1], q[1]);
  require_dim(in, "head dim of y", y[2], Cv);
  require_that(in, in.attrs[2].i >= 0, "got a negative window, expected 0 (none) or more");
  if (in.in.size() > prefix_at && in.in[prefix_at] != nullptr) {
    require_tensor(in, in.in[prefix_at], "prefix", DType::kI32, 1);
    require_dim(in, "length of prefix", in.in[prefix_at]->shape[0], S);
  }
  const Problem p = common(in, G, Cv, S, prefix_at, max_keys);
  in.worker_scratch = Workspace::bytes(p);
  in.shared_scratch = padded(S + 1) * static_cast<int64_t>(sizeof(int64_t));
  if (p.max_chunks > 1) {
    in.shared_scratch += p.N * p.H * p.max_chunks * state_floats(Cv) * static_cast<int64_t>(sizeof(float));
  }
}

void prepare_attention(Instruction& in) {
  require_counts(in, 5, 6, 1, 1);
  require_tensor(in, in.in[1], "k", DType::kF32, 3);
  require_tensor(in, in.in[2], "v", DType::kF32, 3);
  require_tensor(in, in.in[3], "query offsets", DType::kI32, 1);
  require_tensor(in, in.in[4], "key offsets", DType::kI32, 1);
  const Shape &k = in.in[1]->shape, &v = in.in[2]->shape;
  require_dim(in, "tokens of v", v[0], k[0]);
  require_dim(in, "heads of v", v[1], k[1]);
  require_dim(in, "length of key offsets", in.in[4]->shape[0], in.in[3]->shape[0]);
  prepare_common(in, k[1], k[2], v[2], in.in[3]->shape[0] - 1, 5, k[0]);
}

void run_attention(const Instruction& in, const Context& context) {
  const Shape &k = in.in[1]->shape, &v = in.in[2]->shape;
  const int64_t S = in.in[3]->shape[0] - 1;
  Problem p = common(in, k[1], v[2], S, 5, k[0]);
  p.query_offsets = in.in[3]->as<int32_t>();
  const Contiguous where{in.in[1]->as<float>(), in.in[2]->as<float>(), in.in[4]->as<int32_t>(), k[1], k[2], v[2]};
  check_offsets("attention", "query", p.query_offsets, S, p.N);
  check_offsets("attention", "key", where.key_offsets, S, k[0]);
  check_prefix("attention", p.prefix, S);
  attend(p, where, in, context);
}

void prepare_paged(Instruction& in) {
  require_counts(in, 6, 7, 1, 1);
  for (int i : {1, 2}) {
    const char* what = i == 1 ? "k cache" : "v cache";
    const bool half = in.in[i] != nullptr && in.in[i]->dtype == DType::kF16;
    require_tensor(in, in.in[i], what, half ? DType::kF16 : DType::kF32, 4);
  }
  require_tensor(in, in.in[3], "query offsets", DType::kI32, 1);
  require_tensor(in, in.in[4], "kv lengths", DType::kI32, 1);
  require_tensor(in, in.in[5], "block table", DType::kI32, 2);
  const Shape &k = in.in[1]->shape, &v = in.in[2]->shape, &table = in.in[5]->shape;
  const int64_t S = in.in[3]->shape[0] - 1;
  require_that(in, in.in[1]->dtype == in.in[2]->dtype, "got caches of two dtypes, expected one");
  require_dim(in, "blocks of v cache", v[0], k[0]);
  require_dim(in, "heads of v cache", v[1], k[1]);
  require_dim(in, "block size of v cache", v[2], k[2]);
  require_that(in, k[2] >= 1, "got blocks of no key, expected 1 or more");
  require_dim(in, "length of kv lengths", in.in[4]->shape[0], S);
  require_dim(in, "rows of block table", table[0], S);
  prepare_common(in, k[1], k[3], v[3], S, 6, checked_mul(table[1], k[2], "paged_attention"));
}

void run_paged(const Instruction& in, const Context& context) {
  const Shape &k = in.in[1]->shape, &v = in.in[2]->shape;
  const int64_t S = in.in[3]->shape[0] - 1, width = in.in[5]->shape[1], room = width * k[2];
  Problem p = common(in, k[1], v[3], S, 6, room);
  p.half = in.in[1]->dtype == DType::kF16;
  p.query_offsets = in.in[3]->as<int32_t>();
  const Paged where{in.in[1]->data, in.in[2]->data, in.in[4]->as<int32_t>(), in.in[5]->as<int32_t>(), k[1], k[3], v[3],
                    k[0],           k[2],           width,                   dtype_size(in.in[1]->dtype)};
  check_offsets("paged_attention", "query", p.query_offsets, S, p.N);
  check_prefix("paged_attention", p.prefix, S);
  for (int64_t s = 0; s < S; s++) {
    const int64_t queries = p.query_offsets[s + 1] - p.query_offsets[s];
    if (where.lengths[s] >= queries && where.lengths[s] <= room) continue;
    fail(ErrorCode::kShape, "[paged_attention] got KV length %d for sequence %lld, expected %lld to %lld",
         where.lengths[s], static_cast<long long>(s), static_cast<long long>(queries), static_cast<long long>(room));
  }
  attend(p, where, in, context);
}

}  // namespace

void register_attention(KernelRegistry& r) {
  r.add({"attention", "scale:float,causal:int,window:int", prepare_attention, run_attention});
  r.add({"paged_attention", "scale:float,causal:int,window:int", prepare_paged, run_paged});
}

}  // namespace switchyard
