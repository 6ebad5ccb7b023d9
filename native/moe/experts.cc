// moe_experts: the experts of a sparse layer on packed weights, bit for bit the composition
//   take_rows → grouped_linear (gate, up) → act(gate)·up → grouped_linear (down) → moe_combine,
// with each expert's bias, where there is one, added to what grouped_linear gives.
//
// 1. Every row of the plan gets its token's activations in the form that the weights read. In int8 a token is
//    quantised once, as a block of one row, and the blocks of its experts are put together from those.
// 2. Tasks over (expert, run of panels, run of row blocks) make gate and up for the same outputs and h = act(gate)·up.
//    The task that ends a run of row blocks brings h into the form that down reads.
// 3. Tasks of down. 4. The weighted sum of each token's rows.
// With few rows, steps 1 and 4 run on the calling thread: a decode step wakes the pool twice.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>

#include "cpu/linear.h"
#include "cpu/linear_cut.h"
#include "cpu/tile.h"
#include "formats/half.h"
#include "moe/combine.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

// Floats of up's outputs that a task holds beside those of gate: half of a small L2.
constexpr int64_t kTileFloats = 32 << 10;
constexpr int64_t kMostBlockRows = 32;
constexpr int64_t kSerialGather = 32 << 10;  // values; fewer take less time than waking the pool
constexpr int64_t kTokensPerTask = 8;
constexpr double kExpertTasksPerThread = 16;

struct Layer {
  int64_t N, K, R, D, F, E, used = 0;
  const float* x;            // [N, D]
  const int32_t *offsets, *row_token, *slot_row;
  const float* weights;      // [N, K]
  const Weight *gate, *up, *down;  // gate may be nullptr
  const float *gate_bias, *up_bias, *down_bias;  // [E, F], [E, F], [E, D]; each may be nullptr
  HiddenRule hidden;
  int compute;
  float* y;                  // [N, D]

  Segment segment(int64_t e) const { return segment_of(offsets, R, e); }
};

// Biases: the operands from 8 on. An instruction without any may end before them.
constexpr size_t kBiases = 8;
const Operand* bias_of(const Instruction& in, size_t i) {
  return kBiases + i < in.in.size() ? in.in[kBiases + i] : nullptr;
}

Layer layer_of(const Instruction& in) {
  Layer l{};
  l.N = in.in[0]->shape[0], l.D = in.in[0]->shape[1], l.K = in.in[3]->shape[1], l.R = in.in[2]->shape[0];
  l.E = in.in[1]->shape[0] - 1;
  l.gate = in.in[5] != nullptr ? in.in[5]->weight : nullptr;
  l.up = in.in[6]->weight;
  l.down = in.in[7]->weight;
  l.F = l.up->rows();
  l.hidden = {static_cast<int>(in.attrs[0].i), static_cast<float>(in.attrs[2].f), static_cast<float>(in.attrs[3].f)};
  l.compute = static_cast<int>(in.attrs[1].i);
  l.x = in.in[0]->as<float>();
  l.offsets = in.in[1]->as<int32_t>();
  l.row_token = in.in[2]->as<int32_t>();
  l.slot_row = in.in[3]->as<int32_t>();
  l.weights = in.in[4]->as<float>();
  const float** biases[] = {&l.gate_bias, &l.up_bias, &l.down_bias};
  for (size_t i = 0; i < 3; i++) *biases[i] = bias_of(in, i) != nullptr ? bias_of(in, i)->as<float>() : nullptr;
  l.y = in.out[0]->as<float>();
  return l;
}

// Activations of all rows in one form. A segment of few rows stays as rows of f32 where the form is one of f32.
struct Rows {
  Form form = kFormF32;
  int64_t k = 0;
  std::byte* data = nullptr;

  bool direct(const LinearTable& t, int64_t rows) const {
    return (form == kFormF32 || form == kFormRounded) && rows <= t.direct_rows;
  }
  int64_t blocks(const LinearTable& t, int64_t rows) const {
    return direct(t, rows) ? 1 : blocks_of(rows, block_rows(t, form));
  }
  std::byte* at(int64_t row) const { return data + row * row_bytes(form, k); }
};

// The largest that Rows of a weight's activations can be on any tier.
int64_t rows_bound(const Weight& w, int compute, int64_t rows) {
  return aligned(checked_mul(rows, most_row_bytes(w.format(), compute, w.columns()), "moe_experts"));
}
// And the blocks of one row that the tokens of its gather are quantised to first.
int64_t tokens_bound(const Weight* w, int compute, int64_t tokens) {
  return w == nullptr || compute != 2 || !is_integer_format(w->format()) ? 0 : rows_bound(*w, compute, tokens);
}

bool two_inputs(const Layer& l) { return l.gate != nullptr && l.gate->format() != l.up->format(); }
int64_t tile_floats(const Layer& l) { return std::max(kTileFloats, two_inputs(l) ? l.R * kPanel : 0); }

int64_t linear_scratch(const Layer& l) {
  return aligned(std::max(linear_worker_scratch(l.D), linear_worker_scratch(l.F)));
}
int64_t tokens_bytes(const Layer& l) {
  return std::max(tokens_bound(l.gate, l.compute, l.N), tokens_bound(l.up, l.compute, l.N));
}
int64_t count_bound(const Layer& l) { return l.R / kSplitRows + l.E; }

void round_rows(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i++) x[i] = bf16_to_f32(f32_to_bf16(x[i]));
}

// A block of rows from blocks of one row each.
void join_int8(const Int8Layout& layout, const std::byte* const* rows, int64_t count, int64_t k, std::byte* out) {
  int64_t at = 0;
  for (int64_t first = 0; first < k; first += layout.group) {
    const int64_t codes = layout.codes(k - first), row = codes + 4 * layout.words;
    for (int64_t r = 0; r < count; r++) {
      const std::byte* from = rows[r] + at;
      std::memcpy(out + codes * r, from, static_cast<size_t>(codes));
      for (int64_t word = 0; word < layout.words; word++) {
        std::memcpy(out + codes * count + 4 * (word * count + r), from + codes + 4 * word, 4);
      }
    }
    at += row;
    out += row * count;
  }
}

// [rows, k] of f32 into the block of `to` that starts at `row`; rounds x in place where the form wants it.
void pack_block(const LinearTable& t, const Rows& to, bool direct, float* x, int64_t row, int64_t rows) {
  if (to.form == kFormRounded) round_rows(x, rows * to.k);
  std::byte* out = to.at(row);
  if (direct) {
    if (reinterpret_cast<float*>(out) != x) std::memcpy(out, x, static_cast<size_t>(rows * to.k) * sizeof(float));
    return;
  }
  pack_of(t, to.form)(x, to.k, rows, to.k, out);
}

// n values of an expert's bias, from `column` on, to each of `rows` rows.
void add_bias(const float* bias, int64_t width, int64_t e, int64_t column, int64_t n, float* rows, int64_t count,
              int64_t stride) {
  if (bias == nullptr) return;
  const float* from = bias + e * width + column;
  for (int64_t r = 0; r < count; r++)
    for (int64_t i = 0; i < n; i++) rows[r * stride + i] += from[i];
}

int64_t expert_of(const int64_t* first, int64_t E, int64_t task) {
  return std::upper_bound(first, first + E + 1, task) - first - 1;
}

// Step 1 for one form. first: scratch [E + 1]; tokens: scratch for one-row blocks, used in int8 only.
void gather(const Layer& l, const LinearTable& t, const Rows& to, int64_t* first, std::byte* tokens,
            const Context& context) {
  const int width = l.used * l.D < kSerialGather ? 1 : context.threads;
  const int64_t token_bytes = row_bytes(to.form, l.D);
  if (is_int8(to.form)) {
    context.pool->parallel_for((l.N + kTokensPerTask - 1) / kTokensPerTask, width, [&](int64_t task, int) {
      for (int64_t n = task * kTokensPerTask; n < std::min(l.N, (task + 1) * kTokensPerTask); n++) {
        pack_of(t, to.form)(l.x + n * l.D, l.D, 1, l.D, tokens + n * token_bytes);
      }
    });
  }
  first[0] = 0;
  for (int64_t e = 0; e < l.E; e++) first[e + 1] = first[e] + to.blocks(t, l.segment(e).rows);
  context.pool->parallel_for(first[l.E], width, [&](int64_t task, int worker) {
    const int64_t e = expert_of(first, l.E, task);
    const Segment s = l.segment(e);
    PanelJob cut;
    cut.rows = s.rows;
    cut.blocks = to.blocks(t, s.rows);
    const int64_t begin = s.first + cut.block_row(task - first[e]), end = s.first + cut.block_row(task - first[e] + 1);
    if (is_int8(to.form)) {
      const std::byte* rows[kMostBlockRows];
      for (int64_t r = begin; r < end; r++) rows[r - begin] = tokens + l.row_token[r] * token_bytes;
      join_int8(layout_of(to.form), rows, end - begin, l.D, to.at(begin));
      return;
    }
    float* copy = reinterpret_cast<float*>(context.scratch_of(worker));  // [block rows, D]
    for (int64_t r = begin; r < end; r++) std::copy_n(l.x + l.row_token[r] * l.D, l.D, copy + (r - begin) * l.D);
    pack_block(t, to, to.direct(t, s.rows), copy, begin, end - begin);
  });
}

PanelJob job_of(const LinearTable& t, const Weight& w, int64_t e, const Segment& s, const Rows& x, std::byte* scratch) {
  PanelJob job;
  job.layout = w.layout();
  job.panels = w.panel(e, 0);
  job.x = x.at(s.first);
  job.x_row_bytes = row_bytes(x.form, x.k);
  job.rows = s.rows;
  job.blocks = job.last_block = x.blocks(t, s.rows);
  job.scratch = scratch;
  return job;
}

// Panels [panel, panel + count) and row blocks [begin, end) of a job; y is the place of row 0 and output 16·panel.
void run_part(const LinearTable& t, const Weight& w, const Rows& x, PanelJob job, int64_t panel, int64_t count,
              int64_t begin, int64_t end, float* y, int64_t stride) {
  Cut how;
  how.form = x.form;
  how.direct = x.direct(t, job.rows);
  job.panels += panel * job.layout.bytes;
  job.panel_count = count;
  job.first_block = begin;
  job.last_block = end;
  job.y = y;
  job.y_stride = stride;
  job.outputs = w.rows() - panel * kPanel;
  run_job(t, how, w.format(), job);
}

// What step 2 knows of the whole layer.
struct Lift {
  const Layer& l;
  const LinearTable& table;
  const TileKernels& tiles;
  Rows gate_x, up_x;
  float* h;      // [R, F]
  Rows down_x;   // of h
  double target = 0;

  // Row blocks that start at the same rows: of gate and up, and of up and down.
  bool inputs_agree(int64_t rows) const { return gate_x.blocks(table, rows) == up_x.blocks(table, rows); }
  bool all_agree(int64_t rows) const {
    return inputs_agree(rows) && up_x.blocks(table, rows) == down_x.blocks(table, rows);
  }
  double cost(int64_t rows) const {
    const double up = panel_cost(up_x.form, l.up->layout(), rows);
    return l.gate == nullptr ? up : up + panel_cost(gate_x.form, l.gate->layout(), rows);
  }
  Cut cut(int64_t e) const {
    Cut c;
    const int64_t rows = l.segment(e).rows;
    if (rows == 0) return c;
    if (all_agree(rows)) c.blocks = up_x.blocks(table, rows);  // else one run of all rows
    cut_panels(&c, l.up->panels(), cost(rows), kSlabPanels, rows, target);
    return c;
  }

  void run(int64_t e, const Cut& c, int64_t group, int64_t split, std::byte* scratch) const {
    const Segment s = l.segment(e);
    const int64_t blocks = up_x.blocks(table, s.rows);
    const int64_t begin = split * blocks / c.splits, end = (split + 1) * blocks / c.splits;
    PanelJob up = job_of(table, *l.up, e, s, up_x, scratch), gate;
    if (l.gate != nullptr) gate = job_of(table, *l.gate, e, s, gate_x, scratch);
    float* tile = reinterpret_cast<float*>(scratch + linear_scratch(l));
    const int64_t first = group * c.panels_per_task, last = std::min(l.up->panels(), first + c.panels_per_task);

    // Parts of the task whose outputs of up fit the tile: runs of panels over all rows, or slabs of panels over runs
    // of row blocks.
    const int64_t rows = up.block_row(end) - up.block_row(begin), room = tile_floats(l) / kPanel;
    int64_t panels = last - first, step = end - begin;
    if (panels * rows > room) panels = std::max<int64_t>(1, room / rows);
    if (panels < last - first && panels >= kSlabPanels) panels -= panels % kSlabPanels;
    if (panels < std::min<int64_t>(kSlabPanels, last - first) && inputs_agree(s.rows)) {
      panels = std::min<int64_t>(kSlabPanels, last - first);
      step = std::max<int64_t>(1, step * room / (panels * rows) - 1);
    }
    for (int64_t panel = first; panel < last; panel += panels) {
      const int64_t count = std::min(panels, last - panel);
      const int64_t outputs = std::min(count * kPanel, l.F - panel * kPanel);
      for (int64_t b = begin; b < end; b += step) {
        const int64_t stop = std::min(end, b + step), row = up.block_row(b), row_end = up.block_row(stop);
        float* out = h + s.first * l.F + panel * kPanel;
        if (l.gate == nullptr) {
          run_part(table, *l.up, up_x, up, panel, count, b, stop, out, l.F);
          add_bias(l.up_bias, l.F, e, panel * kPanel, outputs, out + row * l.F, row_end - row, l.F);
        } else {
          // With blocks of two sizes the part is all rows, and gate's own count of blocks is meant.
          const bool whole = begin == 0 && b == begin && stop == blocks;
          run_part(table, *l.gate, gate_x, gate, panel, count, b, whole ? gate.blocks : stop, out, l.F);
          run_part(table, *l.up, up_x, up, panel, count, b, stop, tile - row * outputs, outputs);
          add_bias(l.gate_bias, l.F, e, panel * kPanel, outputs, out + row * l.F, row_end - row, l.F);
          add_bias(l.up_bias, l.F, e, panel * kPanel, outputs, tile, row_end - row, outputs);
        }
        for (int64_t r = row; r < row_end; r++) {
          tiles.activate(l.hidden, out + r * l.F, l.gate == nullptr ? nullptr : tile + (r - row) * outputs, outputs);
        }
      }
    }
  }

  // The rows of a run of row blocks are complete.
  void close(int64_t e, const Cut& c, int64_t split) const {
    const Segment s = l.segment(e);
    PanelJob cut;
    cut.rows = s.rows;
    cut.blocks = down_x.blocks(table, s.rows);
    for (int64_t b = split * cut.blocks / c.splits; b < (split + 1) * cut.blocks / c.splits; b++) {
      const int64_t row = s.first + cut.block_row(b), rows = cut.block_row(b + 1) - cut.block_row(b);
      pack_block(table, down_x, down_x.direct(table, s.rows), h + row * l.F, row, rows);
    }
  }
};

// Tasks of every expert in one list: fn(expert, cut, group, split, worker).
template <class CutOf, class F>
void run_tasks(const Layer& l, const Context& context, bool serial, int64_t* first, const CutOf& cut_of, const F& fn) {
  first[0] = 0;
  for (int64_t e = 0; e < l.E; e++) first[e + 1] = first[e] + cut_of(e).tasks();
  context.pool->parallel_for(first[l.E], serial ? 1 : context.threads, [&](int64_t task, int worker) {
    const int64_t e = expert_of(first, l.E, task);
    const Cut cut = cut_of(e);
    fn(e, cut, (task - first[e]) / cut.splits, (task - first[e]) % cut.splits, worker);
  });
}

template <class Cost>
double total_cost(const Layer& l, const Weight& w, const Cost& cost) {
  double total = 0;
  for (int64_t e = 0; e < l.E; e++) {
    const int64_t rows = l.segment(e).rows;
    if (rows > 0) total += cost(rows) * static_cast<double>(w.panels());
  }
  return total;
}
double target_of(double total, const Context& context) {
  return std::max(kSmallestTask, total / (context.threads * kExpertTasksPerThread));
}

// Step 2.
void lift(Lift lift, int64_t* first, int64_t* first_count, std::byte* counts, const Context& context) {
  const Layer& l = lift.l;
  const double total = total_cost(l, *l.up, [&](int64_t rows) { return lift.cost(rows); });
  lift.target = target_of(total, context);
  // Tasks left of each (expert, run of row blocks).
  using Count = std::atomic<int32_t>;
  Count* left = reinterpret_cast<Count*>(counts);
  first_count[0] = 0;
  for (int64_t e = 0; e < l.E; e++) {
    const Cut cut = lift.cut(e);
    first_count[e + 1] = first_count[e] + (cut.groups > 0 ? cut.splits : 0);
    for (int64_t i = first_count[e]; i < first_count[e + 1]; i++) new (left + i) Count(static_cast<int32_t>(cut.groups));
  }
  run_tasks(l, context, total < kSerialCost, first, [&](int64_t e) { return lift.cut(e); },
            [&](int64_t e, const Cut& cut, int64_t group, int64_t split, int worker) {
              lift.run(e, cut, group, split, context.scratch_of(worker));
              if (left[first_count[e] + split].fetch_sub(1, std::memory_order_acq_rel) == 1) lift.close(e, cut, split);
            });
}

// Step 3: rows [R, D] = h · down.
void lower(const Layer& l, const LinearTable& t, const Rows& x, int64_t* first, float* rows, const Context& context) {
  const Weight& w = *l.down;
  const auto cost = [&](int64_t n) { return panel_cost(x.form, w.layout(), n); };
  const double total = total_cost(l, w, cost), target = target_of(total, context);
  const auto cut_of = [&](int64_t e) {
    Cut c;
    const int64_t n = l.segment(e).rows;
    if (n == 0) return c;
    c.blocks = x.blocks(t, n);
    cut_panels(&c, w.panels(), cost(n), kSlabPanels, n, target);
    return c;
  };
  run_tasks(l, context, total < kSerialCost, first, cut_of,
            [&](int64_t e, const Cut& cut, int64_t group, int64_t split, int worker) {
              const Segment s = l.segment(e);
              const PanelJob job = job_of(t, w, e, s, x, context.scratch_of(worker));
              const int64_t panel = group * cut.panels_per_task;
              const int64_t count = std::min(cut.panels_per_task, w.panels() - panel);
              const int64_t begin = split * cut.blocks / cut.splits, end = (split + 1) * cut.blocks / cut.splits;
              float* out = rows + s.first * l.D + panel * kPanel;
              run_part(t, w, x, job, panel, count, begin, end, out, l.D);
              const int64_t row = job.block_row(begin), outputs = std::min(count * kPanel, l.D - panel * kPanel);
              add_bias(l.down_bias, l.D, e, panel * kPanel, outputs, out + row * l.D, job.block_row(end) - row, l.D);
            });
}

void prepare(Instruction& in) {
  require_counts(in, kBiases, kBiases + 3, 1, 1);
  require_tensor(in, in.in[0], "x", DType::kF32, 2);
  require_tensor(in, in.in[1], "expert offsets", DType::kI32, 1);
  require_tensor(in, in.in[2], "row token", DType::kI32, 1);
  require_tensor(in, in.in[3], "slot row", DType::kI32, 2);
  require_tensor(in, in.in[4], "combine weights", DType::kF32, 2);
  if (in.in[5] != nullptr) require_weight(in, in.in[5], "gate weight");
  require_weight(in, in.in[6], "up weight");
  require_weight(in, in.in[7], "down weight");
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  require_that(in, in.in[1]->shape[0] >= 2, "got fewer than 2 expert offsets, expected E + 1");
  require_that(in, in.attrs[0].i >= 0 && in.attrs[0].i <= 3, "got an unknown activation, expected 0 to 3");
  require_that(in, in.attrs[1].i >= 0 && in.attrs[1].i <= 2, "got another 'compute', expected 0 (f32), 1 (bf16) or 2 (int8)");
  require_that(in, in.attrs[2].f >= 0 && std::isfinite(in.attrs[2].f), "got another 'limit', expected 0 (none) or more");
  require_that(in, in.attrs[2].f == 0 || (in.in[5] != nullptr && in.attrs[0].i == 0),
               "got a limit without a gate by silu, expected one");
  const Layer l = layer_of(in);
  for (const Weight* w : {l.gate, l.up}) {
    if (w == nullptr) continue;
    require_dim(in, "experts of a weight", w->experts(), l.E);
    require_dim(in, "columns of gate and up", w->columns(), l.D);
    require_dim(in, "rows of gate and up", w->rows(), l.F);
  }
  require_dim(in, "experts of down", l.down->experts(), l.E);
  require_dim(in, "columns of down", l.down->columns(), l.F);
  require_dim(in, "rows of down", l.down->rows(), l.D);
  require_that(in, l.gate != nullptr || bias_of(in, 0) == nullptr, "got a gate bias without a gate, expected none");
  for (size_t i = 0; i < 3; i++) {
    const Operand* bias = bias_of(in, i);
    if (bias == nullptr) continue;
    require_tensor(in, bias, "a bias", DType::kF32, 2);
    require_dim(in, "experts of a bias", bias->shape[0], l.E);
    require_dim(in, "columns of a bias", bias->shape[1], i < 2 ? l.F : l.D);
  }
  require_dim(in, "rows of slot row", in.in[3]->shape[0], l.N);
  require_dim(in, "rows of combine weights", in.in[4]->shape[0], l.N);
  require_dim(in, "columns of combine weights", in.in[4]->shape[1], l.K);
  require_dim(in, "rows of y", in.out[0]->shape[0], l.N);
  require_dim(in, "columns of y", in.out[0]->shape[1], l.D);

  const auto floats = [](int64_t a, int64_t b) { return aligned(checked_mul(checked_mul(a, b, "moe_experts"), 4, "moe_experts")); };
  in.shared_scratch = 2 * aligned((l.E + 1) * 8) + aligned(count_bound(l) * 4) + rows_bound(*l.up, l.compute, l.R) +
                      tokens_bytes(l) + floats(l.R, l.F) + rows_bound(*l.down, l.compute, l.R) +
                      floats(l.R, l.D);
  if (two_inputs(l)) in.shared_scratch += rows_bound(*l.gate, l.compute, l.R);
  in.worker_scratch = std::max(linear_scratch(l) + tile_floats(l) * 4, floats(kMostBlockRows, l.D));
}

void run(const Instruction& in, const Context& context) {
  Layer l = layer_of(in);
  check_offsets("moe_experts", l.offsets, l.E, l.R);
  l.used = l.offsets[l.E];
  for (int64_t r = 0; r < l.used; r++) {
    if (l.row_token[r] >= 0 && l.row_token[r] < l.N) continue;
    fail(ErrorCode::kOption, "[moe_experts] got token %d for row %lld, expected 0 to %lld", l.row_token[r],
         static_cast<long long>(r), static_cast<long long>(l.N - 1));
  }
  const LinearTable& table = linear_table(context.tier);
  ScratchCursor scratch{context.shared_scratch};
  int64_t* first = reinterpret_cast<int64_t*>(scratch.take((l.E + 1) * 8));
  int64_t* first_count = reinterpret_cast<int64_t*>(scratch.take((l.E + 1) * 8));
  std::byte* counts = scratch.take(count_bound(l) * 4);
  const auto rows_of = [&](const Weight& w) {
    return Rows{form_of(table, w.format(), l.compute), w.columns(), scratch.take(rows_bound(w, l.compute, l.R))};
  };
  const Rows up_x = rows_of(*l.up);
  Rows gate_x = up_x;
  if (two_inputs(l) && form_of(table, l.gate->format(), l.compute) != up_x.form) gate_x = rows_of(*l.gate);
  std::byte* tokens = scratch.take(tokens_bytes(l));
  float* h = reinterpret_cast<float*>(scratch.take(l.R * l.F * 4));
  Rows down_x = rows_of(*l.down);
  float* rows = reinterpret_cast<float*>(scratch.take(l.R * l.D * 4));
  for (const Rows& x : {gate_x, up_x, down_x}) {
    if (block_rows(table, x.form) <= kMostBlockRows) continue;
    fail(ErrorCode::kNative, "[moe_experts] got blocks of %lld rows, expected %lld at most",
         static_cast<long long>(block_rows(table, x.form)), static_cast<long long>(kMostBlockRows));
  }

  context.phase("gather");
  gather(l, table, up_x, first, tokens, context);
  if (gate_x.data != up_x.data) gather(l, table, gate_x, first, tokens, context);
  context.phase("gate and up");
  lift({l, table, tile_kernels(context.tier), gate_x, up_x, h, down_x}, first, first_count, counts, context);
  context.phase("down");
  lower(l, table, down_x, first, rows, context);
  context.phase("combine");
  std::fill(rows + l.used * l.D, rows + l.R * l.D, 0.0f);
  combine_rows(context, "moe_experts", rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y);
}

}  // namespace

void register_moe_experts(KernelRegistry& r) { r.add({"moe_experts", "activation:int,compute:int,limit:float,slope:float", prepare, run}); }

}  // namespace switchyard
