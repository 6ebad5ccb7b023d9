// The experts of a layer by runs of rows, where experts have many: a task takes some rows of one expert through gate, up,
// the activation and down.
//
// 1. Every token's activations are brought into the form that gate and up read.
// 2. A task puts the row blocks of its rows together from those. Gate and up are made a slab of panels at a time, and
//    h = act(gate)·up of the slab, which is brought into the form that down reads: in bf16 at once, in int8 when the rows
//    are whole, because these tell their outliers. Then down, by slabs too.
//
// What a task makes on the way lies in scratch of its thread, used again from task to task, and so stays in the L2 cache:
// of a server processor's core that did 2 TFLOP/s from there, 28 GB/s came from the L3 cache and 6 to 10 from memory. The
// weights stream past, fetched while the panels before them are multiplied.
#include <algorithm>

#include "moe/experts_layer.h"
#include "moe/grouped.h"

namespace switchyard {
namespace {

constexpr int64_t kTaskBytes = 7 << 18;      // of a task's rows: what an L2 of 2 MiB holds beside some panels
constexpr int64_t kFewestRows = 32;          // of an expert, on average: fewer wait for the weights either way
constexpr int64_t kFewestTaskRows = 64;      // fewer do not pay for reading an expert's weights again
constexpr int64_t kRowTasksPerThread = 8;    // so that threads end at about the same time
constexpr int64_t kFewestSlabPanels = 4;
constexpr int64_t kPanelsAhead = 2;          // that kernels take at once, and so fetch ahead
constexpr int64_t kPastCaches = 16 << 20;    // bytes of outputs: more would not be found in a cache by who reads them

// The form of the activations of a weight on every tier that goes by rows.
Form form_by_rows(const Weight& w, int compute) {
  return compute == 2 && is_integer_format(w.format()) ? int8_form(w.format()) : kFormBf16;
}

// Panels of a slab: at least the columns of a group of h's form.
int64_t slab_panels(const ExpertLayer& l) {
  const Form form = form_by_rows(*l.down, l.compute);
  return std::max<int64_t>(kFewestSlabPanels, (is_int8(form) ? layout_of(form).group : kChunk) / kPanel);
}

// Columns of h that lie in f32 until the row is whole.
int64_t kept_columns(const ExpertLayer& l) { return is_int8(form_by_rows(*l.down, l.compute)) ? l.F : 0; }

int64_t most_task_rows(const ExpertLayer& l) {
  const Form h_form = form_by_rows(*l.down, l.compute);
  const int64_t x = row_bytes(form_by_rows(*l.up, l.compute), l.D), h = row_bytes(h_form, l.F);
  // With whole rows of h, one of the two forms at a time is at work, and what is kept of h is written and read only once.
  const int64_t bytes = (is_int8(h_form) ? std::max(x, h) : x + h) + 2 * kept_columns(l) + 8 * slab_panels(l) * kPanel;
  return std::min(l.R, kTaskBytes / bytes);
}

int64_t task_bytes(const Weight& w, int compute, int64_t rows) {
  return aligned(rows * row_bytes(form_by_rows(w, compute), w.columns()));
}

int64_t task_rows(const ExpertLayer& l, int threads) {
  const int64_t even = round_up(ceil_div(l.used, threads * kRowTasksPerThread), kMostBlockRows);
  return std::min(most_task_rows(l), std::max(even, kFewestTaskRows));
}

// What a thread works in.
struct Bench {
  std::byte* linear;
  Rows x, h;
  float *gate, *up;  // [task rows, slab]; gate also of down
  float* kept;       // [task rows, kept_columns()] of h
};

struct Way {
  const ExpertLayer& l;
  const LinearTable& table;
  const TileKernels& tiles;
  const Tokens& tokens;
  int64_t slab;      // panels
  bool past_caches;
  float* rows;       // [R, D]

  int64_t stride() const { return slab * kPanel; }

  // A slab of one weight's outputs, with its bias. next: the weight whose slab comes then, nullptr where none does.
  void multiply(const Bench& b, const Weight& w, const Rows& x, int64_t e, int64_t count, int64_t panel, const float* bias,
                const Weight* next, int64_t next_panel, float* out) const {
    PanelJob job = job_of(table, w, e, count, x, x.data, b.linear);
    if (next != nullptr) {
      job.next = next->panel(e, next_panel);
      job.next_bytes = std::min(kPanelsAhead, next->panels() - next_panel) * next->layout().bytes;
    }
    const int64_t column = panel * kPanel, width = w.rows();
    run_part(table, w, x, job, panel, std::min(slab, w.panels() - panel), 0, job.blocks, out, stride());
    add_bias(bias, width, e, column, std::min(stride(), width - column), out, count, stride());
  }

  void lift(const Bench& b, int64_t e, int64_t count) const {
    const PanelJob cut = cut_rows(count, b.h.blocks(table, count));
    const Weight& first = l.gate != nullptr ? *l.gate : *l.up;
    const bool whole = is_int8(b.h.form);
    float* h = whole ? b.kept : b.gate;
    const int64_t width = whole ? l.F : stride();
    // Columns of the row blocks of h to their place in the form, `at` bytes of a row from its start.
    const auto bring = [&](int64_t columns, int64_t at) {
      for (int64_t i = 0; i < cut.blocks; i++) {
        const int64_t row = cut.block_row(i), rows = cut.block_row(i + 1) - row;
        pack_block(table, b.h.form, false, h + row * width, width, rows, columns, b.h.at(row) + rows * at);
      }
    };
    for (int64_t panel = 0; panel < first.panels(); panel += slab) {
      const bool last = panel + slab >= first.panels();
      const int64_t column = panel * kPanel, outputs = std::min(stride(), l.F - column);
      float* up = l.gate != nullptr ? b.up : b.gate;
      if (l.gate != nullptr) multiply(b, *l.gate, b.x, e, count, panel, l.gate_bias, l.up, panel, b.gate);
      multiply(b, *l.up, b.x, e, count, panel, l.up_bias, last ? l.down : &first, last ? 0 : panel + slab, up);
      for (int64_t r = 0; r < count; r++) {
        tiles.activate(l.hidden, b.gate + r * stride(), l.gate != nullptr ? up + r * stride() : nullptr, outputs,
                       h + r * width + (whole ? column : 0));
      }
      if (!whole) bring(outputs, bf16_row_bytes(column));
    }
    if (whole) bring(l.F, 0);
  }

  void lower(const Bench& b, int64_t e, int64_t first, int64_t count) const {
    for (int64_t panel = 0; panel < l.down->panels(); panel += slab) {
      const bool last = panel + slab >= l.down->panels();
      const int64_t column = panel * kPanel, outputs = std::min(stride(), l.D - column);
      multiply(b, *l.down, b.h, e, count, panel, l.down_bias, last ? nullptr : l.down, panel + slab, b.gate);
      for (int64_t r = 0; r < count; r++) {
        copy_floats(b.gate + r * stride(), outputs, past_caches, rows + (first + r) * l.D + column);
      }
    }
  }

  // Rows [first, first + count) of the plan, all of expert e.
  void run(const Bench& b, int64_t e, int64_t first, int64_t count) const {
    const PanelJob cut = cut_rows(count, b.x.blocks(table, count));
    for (int64_t i = 0; i < cut.blocks; i++) {
      const int64_t row = cut.block_row(i);
      tokens.block(first + row, first + cut.block_row(i + 1), b.x.at(row));
    }
    lift(b, e, count);
    lower(b, e, first, count);
    if (past_caches) stream_fence();
  }
};

}  // namespace

ExpertScratch by_rows_scratch(const ExpertLayer& l) {
  const int64_t rows = most_task_rows(l);
  ExpertScratch s;
  s.shared = aligned(TaskList::bytes(l.E)) + Tokens::bytes(l);
  s.worker = expert_linear_scratch(l) + task_bytes(*l.up, l.compute, rows) + task_bytes(*l.down, l.compute, rows) +
             aligned(rows * kept_columns(l) * 4) + 2 * aligned(rows * slab_panels(l) * kPanel * 4);
  return s;
}

bool goes_by_rows(const ExpertLayer& l, const LinearTable& t, int threads) {
  const int64_t most = task_rows(l, threads);
  if (l.two_inputs() || most < kFewestTaskRows) return false;
  for (const Weight* w : {l.up, l.down}) {
    if (form_of(t, w->format(), l.compute) != form_by_rows(*w, l.compute)) return false;
  }
  int64_t active = 0, tasks = 0;
  for (int64_t e = 0; e < l.E; e++) {
    const int64_t rows = l.segment(e).rows;
    active += rows > 0 ? 1 : 0;
    tasks += ceil_div(rows, most);
  }
  return l.used >= active * kFewestRows && tasks >= threads * kRowTasksPerThread / 2;
}

void run_by_rows(const ExpertLayer& l, const LinearTable& t, const TileKernels& tiles, std::byte* shared, float* rows,
                 const Context& context) {
  const int64_t at_once = task_rows(l, context.threads), most = most_task_rows(l);
  const Form x_form = form_by_rows(*l.up, l.compute), h_form = form_by_rows(*l.down, l.compute);
  ScratchCursor scratch{shared};
  std::byte* list = scratch.take(TaskList::bytes(l.E));
  const Tokens tokens(l, t, x_form, scratch.take(Tokens::bytes(l)));
  const TaskList tasks(list, l.offsets, l.E, [&](int64_t n) { return ceil_div(n, at_once); });
  const Way way{l, t, tiles, tokens, slab_panels(l), l.used * l.D * 4 > kPastCaches && l.D % 4 == 0, rows};

  context.phase("gather");
  tokens.pack(context);
  context.phase("experts");
  context.parallel_for(tasks.count(), [&](int64_t task, int worker) {
    ScratchCursor own{context.scratch_of(worker)};
    const auto floats = [&](int64_t n) { return reinterpret_cast<float*>(own.take(n * 4)); };
    Bench b;
    b.linear = own.take(expert_linear_scratch(l));
    b.x = {x_form, l.D, own.take(task_bytes(*l.up, l.compute, most))};
    b.h = {h_form, l.F, own.take(task_bytes(*l.down, l.compute, most))};
    b.gate = floats(most * way.stride());
    b.up = floats(most * way.stride());
    b.kept = floats(most * kept_columns(l));
    const int64_t e = tasks.expert_of(task);
    const Segment s = l.segment(e);
    const int64_t count = ceil_div(s.rows, at_once), begin = task * s.rows / count;
    way.run(b, e, s.first + begin, (task + 1) * s.rows / count - begin);
  });
}

}  // namespace switchyard
