// Attention over ragged sequences, keys and values contiguous or in a paged cache.
//
// 1. A task is (sequence, block of query positions, KV head), and takes all query heads of that KV head, so that a
//    decode step reads each key once. Its rows are ordered by position, then head.
// 2. The task walks the keys in blocks of 64 at absolute positions; a block that no row sees is passed over.
// 3. Every 512 keys (kChunk) the state of the rows is closed and merged into the total. Chunks exist so that few
//    rows can be spread over threads: then a task is a span of chunks, and a second region merges in order of chunks.
// Neither the size of a task or span nor the choice between 2 and 3 changes a bit of the result.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/attention_keys.h"
#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kChunk = 512;
static_assert(kChunk % kKeyBlock == 0);
// Rows of a task: enough to pay for transposing a block of keys (measured: 2 % at 128), few enough for L2.
constexpr int64_t kMaxRows = 128, kMinRows = 16;
constexpr int64_t kTasksPerThread = 4;
// Multiply-adds below which the caller works alone: about as long as it takes to wake another thread.
constexpr int64_t kAlone = 400'000;
// Temporary memory that spreading over chunks may take.
constexpr int64_t kMaxSplitBytes = 16 << 20;
constexpr int64_t kMostLeft = 1 << 30;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Problem {
  int64_t N, S, H, G, C, Cv, max_chunks;
  float scale;
  bool causal;
  KvType type;
  bool values_in_keys;
  int64_t window;
  const float* q;  // [N, H, C]
  float* y;        // [N, H, Cv]
  const int32_t* query_offsets;
  const int32_t* prefix;  // [S] or nullptr
  const float* sinks;     // [H] or nullptr
  ScoreTerms terms;       // of all heads

  int64_t group() const { return H / G; }
  const float* sinks_from(int64_t head) const { return sinks != nullptr ? sinks + head : nullptr; }
  // Of the heads of one KV head; row 0 stands at position `first`.
  ScoreTerms terms_of(int64_t g, int64_t first) const {
    ScoreTerms t = terms;
    t.heads = group(), t.first = first;
    if (t.slopes != nullptr) t.slopes += g * t.heads;
    if (t.bias != nullptr) t.bias += g * t.heads * t.bias_size;
    return t;
  }
  int64_t rows_limit() const { return std::max(kMaxRows, group()); }
  int64_t queries(int64_t s) const { return query_offsets[s + 1] - query_offsets[s]; }
  // What the query at place i of sequence s sees among `length` keys.
  KeyRange range(int64_t s, int64_t length, int64_t i) const {
    return {causal, window, prefix != nullptr ? prefix[s] : 0, length, length - queries(s) + i};
  }
};

// Floats of one row's state.
int64_t state_floats(int64_t Cv) { return kLanes + kLanes + padded(Cv); }

AttentionState state_at(float* p, int64_t rows) {
  return {p, p + padded(rows), p + padded(rows) + rows * kLanes};
}

// A worker's scratch, carved in this order.
struct Workspace {
  AttentionState part, total;
  float *keys, *values;
  float** y;          // [rows]
  const float** q;    // [rows]
  uint64_t* visible;  // [rows]

  static int64_t bytes(const Problem& p) {
    const int64_t rows = p.rows_limit();
    const int64_t floats =
        2 * (padded(rows) + rows * (kLanes + padded(p.Cv))) + (p.C + padded(p.Cv)) * kKeyBlock;
    return floats * static_cast<int64_t>(sizeof(float)) + padded(rows) * 3 * static_cast<int64_t>(sizeof(uint64_t));
  }
  Workspace(const Problem& p, std::byte* memory) {
    const int64_t rows = p.rows_limit(), state = padded(rows) + rows * (kLanes + padded(p.Cv));
    float* at = reinterpret_cast<float*>(memory);
    part = state_at(at, rows);
    total = state_at(at += state, rows);
    keys = at += state;
    values = at += p.C * kKeyBlock;
    y = reinterpret_cast<float**>(at + kKeyBlock * padded(p.Cv));
    q = const_cast<const float**>(y + padded(rows));
    visible = reinterpret_cast<uint64_t*>(y + 2 * padded(rows));
  }
};

// Some rows of one sequence and KV head: query positions first … first + count - 1 of the sequence.
struct Task {
  int64_t s, g, first, count;
};

// Walks the keys [begin, end) of a task, `begin` at the start of a chunk. After each chunk with a key that a row sees,
// close(chunk) finds the rows' state of it in w.part.
template <class Where, class Close>
void walk(const Problem& p, const Where& where, const AttentionKernels& kernels, const Task& task, Workspace& w,
          int64_t begin, int64_t end, const Close& close) {
  const int64_t length = where.length(task.s), group = p.group(), rows = task.count * group;
  // Together the rows see what the first one sees from below, and the last one from above.
  KeyRange all = p.range(task.s, length, task.first);
  const KeyRange last = p.range(task.s, length, task.first + task.count - 1);
  all.high = last.high;
  end = std::min(end, all.end());
  const auto seen_from = [&](int64_t base) {
    while (base < end && all.bits(base) == 0) base += kKeyBlock;
    return base;
  };
  ScoreTerms terms = p.terms_of(task.g, length - p.queries(task.s) + task.first);
  FoundBlock found[2];
  int now = 0;
  int64_t base = seen_from(begin), chunk = -1;
  if (base < end) where.find(task.s, task.g, base, all.bits(base), &found[now]);
  while (base < end) {
    const int64_t after = seen_from(base + kKeyBlock);
    if (after < end) where.find(task.s, task.g, after, all.bits(after), &found[1 - now]);
    if (base / kChunk != chunk) kernels.clear(w.part, rows, p.Cv), chunk = base / kChunk;
    for (int64_t i = 0; i < task.count; i++) {
      std::fill_n(w.visible + i * group, group, p.range(task.s, length, task.first + i).bits(base));
    }
    const FoundBlock& block = found[now];
    const KeyBlock* next = after < end ? &found[1 - now].at : nullptr;
    const float* const* key_rows = Where::kRows ? block.key_rows : nullptr;
    terms.base = base;
    kernels.block({rows, p.C, p.Cv, p.scale, p.type, w.q, w.visible, terms.any() ? &terms : nullptr, &block.at,
                   where.k_distance(), where.v_distance(), next, p.values_in_keys, key_rows, w.keys, w.values, w.part});
    if (after >= end || after / kChunk != chunk) close(chunk);
    base = after;
    now = 1 - now;
  }
}

// How a problem is cut.
struct Cut {
  int64_t positions;      // of a task
  int64_t blocks;         // of positions, over all sequences
  int64_t spans;          // of chunks a task is split into; 0: not split
  int64_t span_chunks;    // chunks of a span
  int threads;
  int64_t* first_block;   // [S + 1]: of each sequence
};

template <class Where>
Cut cut(const Problem& p, const Where& where, const Context& context) {
  Cut c{};
  c.first_block = reinterpret_cast<int64_t*>(context.shared_scratch);
  int64_t longest = 0, work = 0;
  for (int64_t s = 0; s < p.S; s++) {
    longest = std::max(longest, where.length(s));
    work += p.queries(s) * where.length(s) * p.H * (p.C + p.Cv);
  }
  c.threads = work < kAlone ? 1 : context.threads;
  // Fewer positions where tasks are few, and all the same work is done.
  c.positions = std::max<int64_t>(1, kMaxRows / p.group());
  const int64_t wish = ceil_div(p.query_offsets[p.S] * p.G, kTasksPerThread * c.threads);
  if (c.threads > 1) c.positions = std::clamp(wish, std::min(c.positions, ceil_div(kMinRows, p.group())), c.positions);
  c.first_block[0] = 0;
  for (int64_t s = 0; s < p.S; s++) c.first_block[s + 1] = c.first_block[s] + ceil_div(p.queries(s), c.positions);
  c.blocks = c.first_block[p.S];
  const int64_t chunks = ceil_div(longest, kChunk), tasks = c.blocks * p.G, wanted = kTasksPerThread * c.threads;
  if (p.max_chunks > 1 && chunks > 1 && c.threads > 1 && tasks > 0 && tasks < wanted) {
    c.span_chunks = ceil_div(chunks, std::min(chunks, ceil_div(2 * wanted, tasks)));
    c.spans = ceil_div(chunks, c.span_chunks);
  }
  return c;
}

template <class Where>
void attend(const Problem& p, const Where& where, const Context& context) {
  const AttentionKernels& kernels = attention_kernels(context.tier);
  const int64_t group = p.group();
  // Rows past the last sequence.
  const int64_t used = p.query_offsets[p.S];
  std::fill(p.y + used * p.H * p.Cv, p.y + p.N * p.H * p.Cv, 0.0f);

  const Cut c = cut(p, where, context);
  const int64_t tasks = c.blocks * p.G;
  const auto task_of = [&](int64_t i, Workspace& w) {
    const int64_t block = i / p.G, g = i % p.G;
    const int64_t s = std::upper_bound(c.first_block, c.first_block + p.S + 1, block) - c.first_block - 1;
    Task task{s, g, (block - c.first_block[s]) * c.positions, 0};
    task.count = std::min(c.positions, p.queries(s) - task.first);
    for (int64_t r = 0; r < task.count * group; r++) {
      const int64_t row = (p.query_offsets[s] + task.first + r / group) * p.H + g * group + r % group;
      w.q[r] = p.q + row * p.C;
      w.y[r] = p.y + row * p.Cv;
    }
    return task;
  };

  if (c.spans == 0) {
    context.pool->parallel_for(tasks, c.threads, [&](int64_t i, int worker) {
      Workspace w(p, context.scratch_of(worker));
      // Under a causal mask the last block of positions costs most: it goes first.
      const Task task = task_of(tasks - 1 - i, w);
      const int64_t rows = task.count * group;
      kernels.clear(w.total, rows, p.Cv);
      walk(p, where, kernels, task, w, 0, where.length(task.s),
           [&](int64_t) { kernels.merge(w.total, w.part, rows, p.Cv); });
      kernels.finish(w.total, rows, p.Cv, p.sinks_from(task.g * group), group, w.y);
    });
    return;
  }

  // States of a split run: [N, H, max_chunks] rows.
  float* states = reinterpret_cast<float*>(context.shared_scratch + padded(p.S + 1) * sizeof(int64_t));
  const auto state_of = [&](int64_t row, int64_t chunk) {
    float* at = states + (row * p.max_chunks + chunk) * state_floats(p.Cv);
    return AttentionState{at, at + kLanes, at + 2 * kLanes};
  };
  context.pool->parallel_for(c.spans * tasks, c.threads, [&](int64_t i, int worker) {
    Workspace w(p, context.scratch_of(worker));
    const Task task = task_of(i % tasks, w);
    const int64_t rows = task.count * group, first = i / tasks * c.span_chunks;
    const int64_t end = std::min(first + c.span_chunks, ceil_div(where.length(task.s), kChunk));
    const auto row_of = [&](int64_t r) { return (w.y[r] - p.y) / std::max<int64_t>(p.Cv, 1); };
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t chunk = first; chunk < end; chunk++) kernels.clear(state_of(row_of(r), chunk), 1, 0);
    }
    walk(p, where, kernels, task, w, first * kChunk, end * kChunk, [&](int64_t chunk) {
      for (int64_t r = 0; r < rows; r++) {
        const AttentionState to = state_of(row_of(r), chunk);
        *to.max = w.part.max[r];
        std::copy_n(w.part.sum + r * kLanes, kLanes, to.sum);
        std::copy_n(w.part.out + r * padded(p.Cv), padded(p.Cv), to.out);
      }
    });
  });
  const auto merge = [&](int64_t begin, int64_t end, int worker) {
    Workspace w(p, context.scratch_of(worker));
    for (int64_t row = begin; row < end; row++) {
      const int64_t s = std::upper_bound(p.query_offsets, p.query_offsets + p.S + 1, row / p.H) - p.query_offsets - 1;
      float* y = p.y + row * p.Cv;
      kernels.clear(w.total, 1, p.Cv);
      for (int64_t chunk = 0; chunk < ceil_div(where.length(s), kChunk); chunk++) {
        kernels.merge(w.total, state_of(row, chunk), 1, p.Cv);
      }
      kernels.finish(w.total, 1, p.Cv, p.sinks_from(row % p.H), 1, &y);
    }
  };
  parallel_ranges(context, used * p.H, p.max_chunks * state_floats(p.Cv), merge);
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

const Operand* optional_in(const Instruction& in, size_t i) { return i < in.in.size() ? in.in[i] : nullptr; }

template <class T>
const T* optional_data(const Operand* operand) {
  return operand != nullptr ? operand->as<T>() : nullptr;
}

// What both kernels share: q, y, attributes and scratch. From place `more` on the optional operands: prefix, slopes,
// sinks, bias.
Problem common(const Instruction& in, int64_t G, int64_t Cv, int64_t S, size_t more, int64_t max_keys) {
  const Operand& q = *in.in[0];
  Problem p{};
  p.N = q.shape[0], p.S = S, p.H = q.shape[1], p.G = G, p.C = q.shape[2], p.Cv = Cv;
  p.scale = static_cast<float>(in.attrs[0].f);
  p.causal = in.attrs[1].i != 0;
  p.window = in.attrs[2].i;
  p.q = q.as<float>();
  p.y = in.out[0]->as<float>();
  p.prefix = optional_data<int32_t>(optional_in(in, more));
  p.sinks = optional_data<float>(optional_in(in, more + 2));
  p.terms.cap = static_cast<float>(in.attrs[3].f);
  p.terms.slopes = optional_data<float>(optional_in(in, more + 1));
  if (const Operand* bias = optional_in(in, more + 3)) {
    p.terms.bias = bias->as<float>(), p.terms.bias_size = bias->shape[1], p.terms.left = in.attrs[4].i;
  }
  const int64_t chunks = ceil_div(max_keys, kChunk);
  const bool fits = p.N * p.H <= kMaxSplitBytes / 4 && chunks <= kMaxSplitBytes / 4 &&
                    p.N * p.H * chunks <= kMaxSplitBytes / 4 / state_floats(Cv);
  p.max_chunks = fits ? chunks : 1;
  return p;
}

// The shared scratch: first blocks [S + 1], states of a split run, zeros [C].
int64_t zeros_at(const Problem& p) {
  const int64_t blocks = padded(p.S + 1) * static_cast<int64_t>(sizeof(int64_t));
  if (p.max_chunks <= 1) return blocks;
  return blocks + p.N * p.H * p.max_chunks * state_floats(p.Cv) * static_cast<int64_t>(sizeof(float));
}

void prepare_common(Instruction& in, int64_t G, int64_t C, int64_t Cv, int64_t S, size_t more, int64_t max_keys) {
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
  require_that(in, in.attrs[3].f >= 0 && std::isfinite(in.attrs[3].f), "got a softcap below 0 or not finite");
  require_that(in, in.attrs[4].i >= 0 && in.attrs[4].i <= kMostLeft, "got a place of distance 0 in the bias outside 0 to 2^30");
  if (const Operand* prefix = optional_in(in, more)) {
    require_tensor(in, prefix, "prefix", DType::kI32, 1);
    require_dim(in, "length of prefix", prefix->shape[0], S);
  }
  const std::pair<const char*, int> tables[] = {{"slopes", 1}, {"sinks", 1}, {"position bias", 2}};
  for (size_t i = 0; i < std::size(tables); i++) {
    const Operand* table = optional_in(in, more + 1 + i);
    if (table == nullptr) continue;
    require_tensor(in, table, tables[i].first, DType::kF32, tables[i].second);
    require_dim(in, tables[i].first, table->shape[0], q[1]);
    require_that(in, table->shape.rank == 1 || table->shape[1] >= 1, "got a position bias without entries");
  }
  const Problem p = common(in, G, Cv, S, more, max_keys);
  in.worker_scratch = Workspace::bytes(p);
  in.shared_scratch = zeros_at(p) + padded(C) * static_cast<int64_t>(sizeof(float));
}

void prepare_attention(Instruction& in) {
  require_counts(in, 5, 9, 1, 1);
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
  // One row of zeros for all: written here, before any task reads it.
  float* zeros = reinterpret_cast<float*>(context.shared_scratch + zeros_at(p));
  std::fill_n(zeros, padded(p.C), 0.0f);
  const ContiguousKeys where{in.in[1]->as<float>(), in.in[2]->as<float>(), in.in[4]->as<int32_t>(), zeros, k[1], k[2], v[2]};
  check_offsets("attention", "query", p.query_offsets, S, p.N);
  check_offsets("attention", "key", where.key_offsets, S, k[0]);
  check_prefix("attention", p.prefix, S);
  attend(p, where, context);
}

KvType kv_type(DType dtype) {
  switch (dtype) {
    case DType::kF16: return KvType::kF16;
    case DType::kBF16: return KvType::kBf16;
    case DType::kU8: return KvType::kInt8;
    default: return KvType::kF32;
  }
}

// Channels of a cache that stores `stored` elements a token: int8 keeps 4 bytes of scale beside the codes.
int64_t channels(DType dtype, int64_t stored) {
  return dtype == DType::kU8 ? stored - static_cast<int64_t>(sizeof(float)) : stored;
}

// Of the v cache, or of the keys that hold the values.
int64_t value_channels(const Instruction& in) {
  return in.in[2] == nullptr ? in.attrs[5].i : channels(in.in[2]->dtype, in.in[2]->shape[3]);
}

void prepare_paged(Instruction& in) {
  require_counts(in, 6, 10, 1, 1);
  const bool in_keys = in.in[2] == nullptr;
  for (int i : {1, 2}) {
    if (i == 2 && in_keys) break;
    const char* what = i == 1 ? "k cache" : "v cache";
    require_dense(in, in.in[i], "a cache is missing or a weight, expected a tensor");
    const DType dtype = in.in[i]->dtype;
    const bool known = dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kU8;
    require_tensor(in, in.in[i], what, known ? dtype : DType::kF32, 4);
  }
  require_tensor(in, in.in[3], "query offsets", DType::kI32, 1);
  require_tensor(in, in.in[4], "kv lengths", DType::kI32, 1);
  require_tensor(in, in.in[5], "block table", DType::kI32, 2);
  const Shape &k = in.in[1]->shape, &table = in.in[5]->shape;
  const int64_t S = in.in[3]->shape[0] - 1;
  const DType dtype = in.in[1]->dtype;
  if (!in_keys) {
    const Shape& v = in.in[2]->shape;
    require_that(in, dtype == in.in[2]->dtype, "got caches of two dtypes, expected one");
    require_dim(in, "blocks of v cache", v[0], k[0]);
    require_dim(in, "heads of v cache", v[1], k[1]);
    require_dim(in, "block size of v cache", v[2], k[3]);
  }
  require_that(in, k[3] >= kLanes && k[3] % kLanes == 0, "got a block size that is no multiple of 16 keys");
  const int64_t C = channels(dtype, k[2]), Cv = value_channels(in);
  require_that(in, C >= 0 && Cv >= 0, "got a cache of codes without room for scales");
  require_that(in, in_keys ? Cv >= 1 && Cv <= C : in.attrs[5].i == 0,
               "got a number of value channels beside a v cache, or beyond those of the keys without one");
  require_dim(in, "length of kv lengths", in.in[4]->shape[0], S);
  require_dim(in, "rows of block table", table[0], S);
  prepare_common(in, k[1], C, Cv, S, 6,
                 checked_mul(table[1], k[3], "paged_attention"));
}

void run_paged(const Instruction& in, const Context& context) {
  const Shape& k = in.in[1]->shape;
  const DType dtype = in.in[1]->dtype;
  const int64_t S = in.in[3]->shape[0] - 1, width = in.in[5]->shape[1], size = k[3], room = width * size;
  const int64_t C = channels(dtype, k[2]), Cv = value_channels(in);
  Problem p = common(in, k[1], Cv, S, 6, room);
  p.type = kv_type(dtype);
  p.values_in_keys = in.in[2] == nullptr;
  p.query_offsets = in.in[3]->as<int32_t>();
  const std::byte* values = p.values_in_keys ? nullptr : in.in[2]->data;
  const PagedKeys where{in.in[1]->data, values, p.type, in.in[4]->as<int32_t>(), in.in[5]->as<int32_t>(), k[1], C,
                        Cv,             k[0],           size,   width,                   dtype_size(dtype)};
  check_offsets("paged_attention", "query", p.query_offsets, S, p.N);
  check_prefix("paged_attention", p.prefix, S);
  for (int64_t s = 0; s < S; s++) {
    // queries that see all keys need not be among them: those of a decoder over an encoded text
    const int64_t least = p.causal ? p.queries(s) : 0;
    if (where.lengths[s] >= least && where.lengths[s] <= room) continue;
    fail(ErrorCode::kShape, "[paged_attention] got KV length %d for sequence %lld, expected %lld to %lld",
         where.lengths[s], static_cast<long long>(s), static_cast<long long>(least), static_cast<long long>(room));
  }
  attend(p, where, context);
}

}  // namespace

void register_attention(KernelRegistry& r) {
  r.add({"attention", "scale:float,causal:int,window:int,softcap:float,left:int", prepare_attention, run_attention});
  r.add({"paged_attention", "scale:float,causal:int,window:int,softcap:float,left:int,values:int", prepare_paged, run_paged});
}

}  // namespace switchyard
