// The experts of a layer by runs of panels.
//
// 1. Every row of the plan gets its token's activations in the form that the weights read.
// 2. Tasks over (expert, run of panels, run of row blocks) make gate and up for the same outputs and h = act(gate)·up.
//    The task that ends a run of row blocks brings h into the form that down reads.
// 3. Tasks of down.
// With few rows, step 1 runs on the calling thread: a decode step wakes the pool twice.
#include <algorithm>
#include <atomic>
#include <new>

#include "moe/experts_layer.h"

namespace switchyard {
namespace {

// Floats of up's outputs that a task holds beside those of gate: half of a small L2.
constexpr int64_t kTileFloats = 32 << 10;
constexpr int64_t kSerialGather = 32 << 10;  // values; fewer take less time than waking the pool
constexpr double kExpertTasksPerThread = 16;

int64_t tile_floats(const ExpertLayer& l) { return std::max(kTileFloats, l.two_inputs() ? l.R * kPanel : 0); }
int64_t count_bound(const ExpertLayer& l) { return l.R / kSplitRows + l.E; }

int64_t expert_of(const int64_t* first, int64_t E, int64_t task) {
  return std::upper_bound(first, first + E + 1, task) - first - 1;
}

// Step 1 for one form. first: scratch [E + 1].
void gather(const ExpertLayer& l, const LinearTable& t, const Rows& to, int64_t* first, std::byte* memory,
            const Context& context) {
  const Tokens tokens(l, t, to.form, memory);
  if (Tokens::has(to.form)) tokens.pack(context);
  first[0] = 0;
  for (int64_t e = 0; e < l.E; e++) first[e + 1] = first[e] + to.blocks(t, l.segment(e).rows);
  const int width = l.used * l.D < kSerialGather ? 1 : context.threads;
  context.pool->parallel_for(first[l.E], width, [&](int64_t task, int worker) {
    const int64_t e = expert_of(first, l.E, task);
    const Segment s = l.segment(e);
    const PanelJob cut = cut_rows(s.rows, to.blocks(t, s.rows));
    const int64_t begin = s.first + cut.block_row(task - first[e]), end = s.first + cut.block_row(task - first[e] + 1);
    if (Tokens::has(to.form)) return tokens.block(begin, end, to.at(begin));
    float* copy = reinterpret_cast<float*>(context.scratch_of(worker));  // [block rows, D]
    for (int64_t r = begin; r < end; r++) std::copy_n(l.x + l.row_token[r] * l.D, l.D, copy + (r - begin) * l.D);
    pack_block(t, to.form, to.direct(t, s.rows), copy, l.D, end - begin, l.D, to.at(begin));
  });
}

// What step 2 knows of the whole layer.
struct Lift {
  const ExpertLayer& l;
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
    PanelJob up = job_of(table, *l.up, e, s.rows, up_x, up_x.at(s.first), scratch), gate;
    if (l.gate != nullptr) gate = job_of(table, *l.gate, e, s.rows, gate_x, gate_x.at(s.first), scratch);
    float* tile = reinterpret_cast<float*>(scratch + expert_linear_scratch(l));
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
          float* at = out + r * l.F;
          tiles.activate(l.hidden, at, l.gate == nullptr ? nullptr : tile + (r - row) * outputs, outputs, at);
        }
      }
    }
  }

  // The rows of a run of row blocks are complete.
  void close(int64_t e, const Cut& c, int64_t split) const {
    const Segment s = l.segment(e);
    const PanelJob cut = cut_rows(s.rows, down_x.blocks(table, s.rows));
    for (int64_t b = split * cut.blocks / c.splits; b < (split + 1) * cut.blocks / c.splits; b++) {
      const int64_t row = s.first + cut.block_row(b), rows = cut.block_row(b + 1) - cut.block_row(b);
      pack_block(table, down_x.form, down_x.direct(table, s.rows), h + row * l.F, l.F, rows, l.F, down_x.at(row));
    }
  }
};

// Tasks of every expert in one list: fn(expert, cut, group, split, worker).
template <class CutOf, class F>
void run_tasks(const ExpertLayer& l, const Context& context, bool serial, int64_t* first, const CutOf& cut_of, const F& fn) {
  first[0] = 0;
  for (int64_t e = 0; e < l.E; e++) first[e + 1] = first[e] + cut_of(e).tasks();
  context.pool->parallel_for(first[l.E], serial ? 1 : context.threads, [&](int64_t task, int worker) {
    const int64_t e = expert_of(first, l.E, task);
    const Cut cut = cut_of(e);
    fn(e, cut, (task - first[e]) / cut.splits, (task - first[e]) % cut.splits, worker);
  });
}

template <class Cost>
double total_cost(const ExpertLayer& l, const Weight& w, const Cost& cost) {
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
  const ExpertLayer& l = lift.l;
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
void lower(const ExpertLayer& l, const LinearTable& t, const Rows& x, int64_t* first, float* rows, const Context& context) {
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
              const PanelJob job = job_of(t, w, e, s.rows, x, x.at(s.first), context.scratch_of(worker));
              const int64_t panel = group * cut.panels_per_task;
              const int64_t count = std::min(cut.panels_per_task, w.panels() - panel);
              const int64_t begin = split * cut.blocks / cut.splits, end = (split + 1) * cut.blocks / cut.splits;
              float* out = rows + s.first * l.D + panel * kPanel;
              run_part(t, w, x, job, panel, count, begin, end, out, l.D);
              const int64_t row = job.block_row(begin), outputs = std::min(count * kPanel, l.D - panel * kPanel);
              add_bias(l.down_bias, l.D, e, panel * kPanel, outputs, out + row * l.D, job.block_row(end) - row, l.D);
            });
}

}  // namespace

ExpertScratch by_panels_scratch(const ExpertLayer& l) {
  const auto floats = [](int64_t a, int64_t b) {
    return aligned(checked_mul(checked_mul(a, b, "moe_experts"), 4, "moe_experts"));
  };
  ExpertScratch s;
  s.shared = 2 * aligned((l.E + 1) * 8) + aligned(count_bound(l) * 4) + rows_bound(*l.up, l.compute, l.R) +
             Tokens::bytes(l) + floats(l.R, l.F) + rows_bound(*l.down, l.compute, l.R);
  if (l.two_inputs()) s.shared += rows_bound(*l.gate, l.compute, l.R);
  s.worker = std::max(expert_linear_scratch(l) + tile_floats(l) * 4, floats(kMostBlockRows, l.D));
  return s;
}

void run_by_panels(const ExpertLayer& l, const LinearTable& t, const TileKernels& tiles, std::byte* shared, float* rows,
                   const Context& context) {
  ScratchCursor scratch{shared};
  int64_t* first = reinterpret_cast<int64_t*>(scratch.take((l.E + 1) * 8));
  int64_t* first_count = reinterpret_cast<int64_t*>(scratch.take((l.E + 1) * 8));
  std::byte* counts = scratch.take(count_bound(l) * 4);
  const auto rows_of = [&](const Weight& w) {
    return Rows{form_of(t, w.format(), l.compute), w.columns(), scratch.take(rows_bound(w, l.compute, l.R))};
  };
  const Rows up_x = rows_of(*l.up);
  Rows gate_x = up_x;
  if (l.two_inputs() && form_of(t, l.gate->format(), l.compute) != up_x.form) gate_x = rows_of(*l.gate);
  std::byte* tokens = scratch.take(Tokens::bytes(l));
  float* h = reinterpret_cast<float*>(scratch.take(l.R * l.F * 4));
  const Rows down_x = rows_of(*l.down);

  context.phase("gather");
  gather(l, t, up_x, first, tokens, context);
  if (gate_x.data != up_x.data) gather(l, t, gate_x, first, tokens, context);
  context.phase("gate and up");
  lift({l, t, tiles, gate_x, up_x, h, down_x}, first, first_count, counts, context);
  context.phase("down");
  lower(l, t, down_x, first, rows, context);
}

}  // namespace switchyard
