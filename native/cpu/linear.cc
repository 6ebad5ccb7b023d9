// linear and grouped_linear are one task list over (expert, weight, run of panels, run of row blocks):
//   1. bring the rows into the forms that the weights want (f32 blocks, int8, bf16), in parallel over rows;
//   2. claim tasks of about equal cost until none is left.
// Few rows read the activations as they are (f32_direct) and need no first step in f32; and before a weight of few outputs,
// a router, a task brings its own rows into their form: all of them would go to memory and back for little work.
#include "cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "cpu/linear_cut.h"
#include "formats/half.h"

namespace switchyard {
namespace {

constexpr int64_t kPackRows = 16;          // rows per task of the first step
constexpr int64_t kSerialPack = 32 << 10;  // values

// Runs fn serially where the whole is too small to share.
template <class F>
void parallel(const Context& context, int64_t tasks, bool serial, const F& fn) {
  context.pool->parallel_for(tasks, serial ? 1 : context.threads, fn);
}

// The last expert that starts at or before `row`.
int64_t expert_at(const int32_t* offsets, int64_t experts, int64_t row) {
  if (offsets == nullptr) return 0;
  return std::upper_bound(offsets, offsets + experts + 1, row) - offsets - 1;
}

struct Packing {
  const float* x;
  int64_t rows, columns;
  const int32_t* offsets;
  int64_t experts;
  int64_t per_block, row_bytes;
  PackFn pack;
  std::byte* out;
  int64_t skip_rows;  // segments of at most so many rows are read as they are
};

// Packs the row blocks of every segment; a task packs those that start within its rows.
void pack_rows(const Packing& p, const Context& context) {
  const int64_t used = p.offsets == nullptr ? p.rows : p.offsets[p.experts];
  parallel(context, (used + kPackRows - 1) / kPackRows, used * p.columns < kSerialPack, [&](int64_t task, int) {
    const int64_t begin = task * kPackRows, end = std::min(begin + kPackRows, used);
    for (int64_t row = begin; row < end;) {
      const Segment s = segment_of(p.offsets, p.rows, expert_at(p.offsets, p.experts, row));
      const int64_t next = s.first + s.rows;
      if (s.rows <= p.skip_rows) {
        row = next;
        continue;
      }
      const int64_t blocks = blocks_of(s.rows, p.per_block);
      PanelJob cut;
      cut.rows = s.rows;
      cut.blocks = blocks;
      int64_t i = (row - s.first) * blocks / s.rows;
      for (; i < blocks; i++) {
        const int64_t first = cut.block_row(i), at = s.first + first;
        if (at < begin) continue;
        if (at >= end) break;
        p.pack(p.x + at * p.columns, p.columns, cut.block_row(i + 1) - first, p.columns, p.out + at * p.row_bytes);
      }
      row = next;
    }
  });
}

// Whether each task packs its row blocks itself: one weight whose panels one task takes all.
bool packs_in_tasks(std::span<const Weight* const> weights, int compute) {
  return weights.size() == 1 && compute != 1 && weights[0]->format() == Format::kF32 && weights[0]->panels() <= kSlabPanels;
}

// The row blocks of a job one after another, each packed in the job's scratch. x: row 0 of the expert.
void pack_and_run(const LinearTable& table, const Cut& cut, Format format, const PanelJob& job, const float* x) {
  const int64_t k = job.layout.columns;
  PanelJob one = job;
  one.first_block = 0;
  one.blocks = one.last_block = 1;
  one.x = job.scratch;
  for (int64_t b = job.first_block; b < job.last_block; b++) {
    const int64_t row = job.block_row(b);
    one.rows = job.block_row(b + 1) - row;
    one.y = job.y + row * job.y_stride;
    table.pack_f32(x + row * k, k, one.rows, k, job.scratch);
    run_job(table, cut, format, one);
  }
}

void zero_rows(float* y, int64_t width, int64_t from, int64_t rows) {
  if (from < rows) std::memset(y + from * width, 0, static_cast<size_t>((rows - from) * width) * sizeof(float));
}

}  // namespace

void check_offsets(const char* where, const int32_t* offsets, int64_t experts, int64_t rows) {
  for (int64_t e = 0; e <= experts; e++) {
    const int64_t low = e == 0 ? 0 : offsets[e - 1], high = e == 0 ? 0 : rows;
    if (offsets[e] >= low && offsets[e] <= high) continue;
    fail(ErrorCode::kShape, "[%s] got expert offset %d at %lld, expected %lld to %lld", where, offsets[e],
         static_cast<long long>(e), static_cast<long long>(low), static_cast<long long>(high));
  }
}

int64_t linear_shared_scratch(int64_t rows, int64_t columns, int64_t experts, std::span<const Weight* const> weights,
                              int compute) {
  const int64_t count = checked_mul(experts, static_cast<int64_t>(weights.size()), "linear") + 1;
  // Each form once.
  bool f32 = false, bf16 = false, int8[kForms] = {};
  if (packs_in_tasks(weights, compute)) weights = {};
  for (const Weight* w : weights) {
    const bool floats = !is_integer_format(w->format());
    (compute == 2 && !floats ? int8[int8_form(w->format())] : compute == 1 && floats ? bf16 : f32) = true;
  }
  const auto bytes = [&](int64_t per_row) { return aligned(checked_mul(rows, per_row, "linear")); };
  int64_t total = aligned(checked_mul(count, 8, "linear"));
  if (f32) total += bytes(f32_row_bytes(columns));
  for (int form = 0; form < kForms; form++) {
    if (int8[form]) total += bytes(row_bytes(static_cast<Form>(form), columns));
  }
  // A tier with bf16 arithmetic packs bf16 rows; the others keep rounded rows, and blocks of them.
  if (bf16) total += std::max(bytes(bf16_row_bytes(columns)), 2 * bytes(f32_row_bytes(columns)));
  return total;
}

void run_linear(const LinearCall& call, const Context& context) {
  const LinearTable& table = linear_table(context.tier);
  const int64_t k = call.columns, experts = call.experts, weights = static_cast<int64_t>(call.weights.size());
  const int64_t used = call.offsets == nullptr ? call.rows : call.offsets[experts];
  for (int64_t w = 0; w < weights; w++) zero_rows(call.y[w], call.weights[w]->rows(), used, call.rows);
  if (used == 0) return;

  ScratchCursor scratch{context.shared_scratch};
  int64_t* first_task = reinterpret_cast<int64_t*>(scratch.take((experts * weights + 1) * 8));
  bool needed[kForms] = {};
  for (const Weight* w : call.weights) needed[form_of(table, w->format(), call.compute)] = true;
  const std::byte* as_is[kForms] = {};  // rows as they are, for f32_direct
  std::byte* blocks[kForms] = {};
  as_is[kFormF32] = reinterpret_cast<const std::byte*>(call.x);
  const bool in_tasks = packs_in_tasks(call.weights, call.compute);
  for (const Form form : {kFormF32, kFormInt8, kFormG64, kFormG128, kFormRounded, kFormBf16}) {
    if (!needed[form] || in_tasks) continue;
    const int64_t per_row = row_bytes(form, k);
    if (form == kFormRounded) {
      float* rounded = reinterpret_cast<float*>(scratch.take(used * per_row));
      parallel(context, used, used * k < kSerialPack, [&](int64_t row, int) {
        for (int64_t i = row * k; i < (row + 1) * k; i++) rounded[i] = bf16_to_f32(f32_to_bf16(call.x[i]));
      });
      as_is[form] = reinterpret_cast<const std::byte*>(rounded);
    }
    blocks[form] = scratch.take(used * per_row);
    const bool f32 = form == kFormF32 || form == kFormRounded;
    pack_rows({f32 ? reinterpret_cast<const float*>(as_is[form]) : call.x, call.rows, k, call.offsets, experts,
               block_rows(table, form), per_row, pack_of(table, form), blocks[form],
               f32 ? table.direct_rows : 0},
              context);
  }

  double total = 0;
  for (int64_t e = 0; e < experts; e++) {
    const int64_t rows = segment_of(call.offsets, call.rows, e).rows;
    if (rows == 0) continue;
    for (const Weight* w : call.weights) {
      const Form form = form_of(table, w->format(), call.compute);
      total += panel_cost(form, w->layout(), rows) * static_cast<double>(w->panels());
    }
  }
  const double target = std::max(kSmallestTask, total / (context.threads * kTasksPerThread));
  const auto cut_of = [&](int64_t e, const Weight& w) {
    Cut cut;
    const int64_t rows = segment_of(call.offsets, call.rows, e).rows;
    if (rows == 0) return cut;
    cut.form = form_of(table, w.format(), call.compute);
    cut.direct = (cut.form == kFormF32 || cut.form == kFormRounded) && rows <= table.direct_rows;
    cut.blocks = cut.direct ? 1 : blocks_of(rows, block_rows(table, cut.form));
    cut_panels(&cut, w.panels(), panel_cost(cut.form, w.layout(), rows), kSlabPanels, rows, target);
    return cut;
  };
  int64_t tasks = 0;
  for (int64_t e = 0; e < experts; e++) {
    for (int64_t w = 0; w < weights; w++) {
      first_task[e * weights + w] = tasks;
      tasks += cut_of(e, *call.weights[w]).tasks();
    }
  }
  first_task[experts * weights] = tasks;

  parallel(context, tasks, total < kSerialCost, [&](int64_t task, int worker) {
    const int64_t which = std::upper_bound(first_task, first_task + experts * weights + 1, task) - first_task - 1;
    const int64_t e = which / weights, i = which % weights;
    const Weight& w = *call.weights[i];
    const Cut cut = cut_of(e, w);
    const int64_t place = task - first_task[which];
    const int64_t group = place / cut.splits, split = place % cut.splits;
    const int64_t panel = group * cut.panels_per_task;
    const Segment s = segment_of(call.offsets, call.rows, e);
    PanelJob job;
    job.panels = w.panel(e, panel);
    job.panel_count = std::min(cut.panels_per_task, w.panels() - panel);
    job.layout = w.layout();
    job.x_row_bytes = row_bytes(cut.form, k);
    job.rows = s.rows;
    job.blocks = cut.blocks;
    job.first_block = split * cut.blocks / cut.splits;
    job.last_block = (split + 1) * cut.blocks / cut.splits;
    job.y = call.y[i] + s.first * w.rows() + panel * kPanel;
    job.y_stride = w.rows();
    job.outputs = w.rows() - panel * kPanel;
    job.scratch = context.scratch_of(worker);
    if (in_tasks && !cut.direct) return pack_and_run(table, cut, w.format(), job, call.x + s.first * k);
    job.x = (cut.direct ? as_is[cut.form] : blocks[cut.form]) + s.first * job.x_row_bytes;
    run_job(table, cut, w.format(), job);
  });
}

int64_t linear_transposed_scratch(int64_t rows, const Weight& weight) {
  return aligned(checked_mul(weight.experts() + 1, 8, "linear_transposed")) +
         aligned(checked_mul(rows, f32_row_bytes(weight.rows()), "linear_transposed"));
}

void run_linear_transposed(const LinearTransposedCall& call, const Context& context) {
  const LinearTable& table = linear_table(context.tier);
  const Weight& weight = *call.weight;
  const int64_t n = weight.rows(), k = weight.columns(), experts = call.experts;
  const int64_t used = call.offsets == nullptr ? call.rows : call.offsets[experts];
  zero_rows(call.dx, k, used, call.rows);
  if (used == 0) return;
  ScratchCursor scratch{context.shared_scratch};
  int64_t* first_task = reinterpret_cast<int64_t*>(scratch.take((experts + 1) * 8));
  std::byte* blocks = scratch.take(used * f32_row_bytes(n));
  pack_rows({call.dy, call.rows, n, call.offsets, experts, table.f32_rows, f32_row_bytes(n), table.pack_f32, blocks, 0},
            context);

  // A unit of 32 columns takes the place of a panel.
  const int64_t units = (k + kChunk - 1) / kChunk;
  const auto unit_cost = [&](int64_t rows) {
    const double bytes = static_cast<double>(weight.panels() * weight.layout().bytes) / static_cast<double>(units);
    return bytes + kMacCost[kFormF32] * static_cast<double>(n * kChunk * rows);
  };
  double total = 0;
  for (int64_t e = 0; e < experts; e++) {
    const int64_t rows = segment_of(call.offsets, call.rows, e).rows;
    if (rows > 0) total += unit_cost(rows) * static_cast<double>(units);
  }
  const double target = std::max(kSmallestTask, total / (context.threads * kTasksPerThread));
  const auto cut_of = [&](int64_t e) {
    Cut cut;
    const int64_t rows = segment_of(call.offsets, call.rows, e).rows;
    if (rows == 0) return cut;
    cut.blocks = blocks_of(rows, table.f32_rows);
    cut_panels(&cut, units, unit_cost(rows), 1, rows, target);
    return cut;
  };
  int64_t tasks = 0;
  for (int64_t e = 0; e < experts; e++) {
    first_task[e] = tasks;
    tasks += cut_of(e).tasks();
  }
  first_task[experts] = tasks;

  parallel(context, tasks, total < kSerialCost, [&](int64_t task, int worker) {
    const int64_t e = std::upper_bound(first_task, first_task + experts + 1, task) - first_task - 1;
    const Cut cut = cut_of(e);
    const int64_t place = task - first_task[e];
    const int64_t unit = place / cut.splits * cut.panels_per_task, split = place % cut.splits;
    const Segment s = segment_of(call.offsets, call.rows, e);
    PanelJob job;
    job.panels = weight.panel(e, 0);
    job.panel_count = weight.panels();
    job.layout = weight.layout();
    job.x_row_bytes = f32_row_bytes(n);
    job.x = blocks + s.first * job.x_row_bytes;
    job.rows = s.rows;
    job.blocks = cut.blocks;
    job.first_block = split * cut.blocks / cut.splits;
    job.last_block = (split + 1) * cut.blocks / cut.splits;
    job.first_column = unit * kChunk;
    job.outputs = std::min(cut.panels_per_task * kChunk, k - job.first_column);
    job.transposed_rows = n;
    job.y = call.dx + s.first * k + job.first_column;
    job.y_stride = k;
    job.scratch = context.scratch_of(worker);
    table.f32_transposed[static_cast<int>(weight.format())](job);
  });
}

}  // namespace switchyard
