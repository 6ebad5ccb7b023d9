// What both ways through the experts of a layer share: the operands of moe_experts, activations in the form that weights
// read, and products with some panels.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/linear.h"
#include "cpu/linear_cut.h"
#include "cpu/tile.h"
#include "runtime/kernel.h"

namespace switchyard {

constexpr int64_t kMostBlockRows = 32;

struct ExpertLayer {
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
  // Gate and up read activations in two forms.
  bool two_inputs() const { return gate != nullptr && gate->format() != up->format(); }
};

// Activations of some rows in one form. A segment of few rows stays as rows of f32 where the form is one of f32.
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

// The rows of a segment and the blocks that they are cut in, for PanelJob::block_row().
PanelJob cut_rows(int64_t rows, int64_t blocks);

// The largest that Rows of a weight's activations can be on any tier.
int64_t rows_bound(const Weight& w, int compute, int64_t rows);

// The tokens of a layer as blocks of one row each: a token's activations are brought into their form once, and the blocks
// of its experts are put together from those.
class Tokens {
 public:
  static bool has(Form form) { return is_int8(form) || form == kFormBf16; }  // not those of f32
  static int64_t bytes(const ExpertLayer& l);  // for either weight, on any tier
  Tokens(const ExpertLayer& l, const LinearTable& t, Form form, std::byte* memory)
      : l_(l), table_(t), form_(form), data_(memory) {}
  void pack(const Context& context) const;
  // Rows [begin, end) of the plan to one block at `out`.
  void block(int64_t begin, int64_t end, std::byte* out) const;

 private:
  const ExpertLayer& l_;
  const LinearTable& table_;
  Form form_;
  std::byte* data_;
};

// A block of `rows` rows of f32, k values each, to `out`; rounds x in place where the form wants it.
void pack_block(const LinearTable& t, Form form, bool direct, float* x, int64_t stride, int64_t rows, int64_t k,
                std::byte* out);

// n values of an expert's bias [E, width], from `column` on, to each of `count` rows; bias may be nullptr.
void add_bias(const float* bias, int64_t width, int64_t e, int64_t column, int64_t n, float* rows, int64_t count,
              int64_t stride);

// All panels of expert e against `rows` rows that start at x.
PanelJob job_of(const LinearTable& t, const Weight& w, int64_t e, int64_t rows, const Rows& x, const std::byte* at,
                std::byte* scratch);
// Panels [panel, panel + count) and row blocks [begin, end) of a job; y is the place of row 0 and output 16·panel.
void run_part(const LinearTable& t, const Weight& w, const Rows& x, PanelJob job, int64_t panel, int64_t count,
              int64_t begin, int64_t end, float* y, int64_t stride);

inline int64_t expert_linear_scratch(const ExpertLayer& l) {
  return aligned(std::max(linear_worker_scratch(l.D), linear_worker_scratch(l.F)));
}

// Two ways to rows [R, D] of the experts' outputs, with the same bits. Both want `shared` and `worker` bytes of scratch.
struct ExpertScratch {
  int64_t shared, worker;
};

// For any layer: tasks are runs of panels, and all gate and up come before all down.
ExpertScratch by_panels_scratch(const ExpertLayer& l);
void run_by_panels(const ExpertLayer& l, const LinearTable& t, const TileKernels& tiles, std::byte* shared, float* rows,
                   const Context& context);

// Where experts have many rows: a task takes some rows of an expert through all of it, in memory that stays in the cache.
ExpertScratch by_rows_scratch(const ExpertLayer& l);
// Whether that is faster: forms of int8 and bf16 with enough rows an expert, and enough tasks for the threads.
bool goes_by_rows(const ExpertLayer& l, const LinearTable& t, int threads);
void run_by_rows(const ExpertLayer& l, const LinearTable& t, const TileKernels& tiles, std::byte* shared, float* rows,
                 const Context& context);

}  // namespace switchyard
