// The gradient of experts' matrices: dw[e] = Σ over the rows of e, in their order, of dyᵀ x. One flat list of tasks
// over (expert, block of rows of dw, block of columns), claimed atomically.
#include <cstring>

#include "moe/grouped.h"

namespace switchyard {
namespace {

constexpr int64_t kRows = 384;      // of dw in a task: packing a row of x costs as much as multiplying it with 24
constexpr int64_t kColumns = 1024;  // of dw in a task
constexpr int64_t kBlock = 256;     // columns of dw of an expert whose dy is packed anew for each
constexpr int64_t kSlice = 384;     // rows of dy and x that are multiplied at once
constexpr int64_t kHeldRows = 512;  // rows of dy that stay packed for all columns of a task
constexpr int64_t kStrip = 6;       // columns of dy that lie together: a register tile reads them in one stream
constexpr int64_t kFewRows = 16;
constexpr int64_t kFewColumns = 48;  // rows of dw of a task with few rows of dy: it writes whole rows of dw
// From this size on dw is stored past the caches: it would not stay there.
constexpr int64_t kPastCaches = int64_t{16} << 20;

struct Workspace {
  float *left, *panel, *sums;  // [kHeldRows, kRows] in strips, [kSlice, 64], [kBlock / 64, kRows, 64]
  const float **dy, **x;       // [kSlice]: rows as they lie
  static constexpr int64_t kFloats = kHeldRows * kRows + kSlice * kPanelColumns + kBlock * kRows;
  static constexpr int64_t kBytes = kFloats * sizeof(float) + 2 * kSlice * sizeof(float*);
  explicit Workspace(std::byte* memory)
      : left(reinterpret_cast<float*>(memory)),
        panel(left + kHeldRows * kRows),
        sums(panel + kSlice * kPanelColumns),
        dy(reinterpret_cast<const float**>(sums + kBlock * kRows)),
        x(dy + kSlice) {}
};
static_assert(kRows % kStrip == 0);

struct Gradient {
  const TileKernels& tiles;
  GroupedRows dy, x;
  int64_t N, K;
  float* dw;
  bool past_caches, whole_vectors;  // whether rows of dw consist of whole vectors
};

// dw[n_begin …] of an expert with few rows, straight from dy and x. Without rows it is zero.
void few_task(const Gradient& g, const Workspace& s, int64_t row, int64_t rows, int64_t n, float* dw) {
  const int64_t count = std::min(kFewColumns, g.N - n);
  for (int64_t r = 0; r < rows; r++) s.dy[r] = g.dy.at(row + r), s.x[r] = g.x.at(row + r);
  g.tiles.outer(count, rows, g.K, s.dy, n, s.x, 0, nullptr, dw + n * g.K, g.K, g.past_caches);
}

// left [strips, rows, kStrip] from rows of dy, columns [n, n + count).
void pack_left(const Gradient& g, int64_t row, int64_t rows, int64_t n, int64_t count, float* left) {
  for (int64_t r = 0; r < rows; r++) {
    const float* dy = g.dy.at(row + r) + n;
    float* to = left + r * kStrip;
    int64_t i = 0;
    for (; i + kStrip <= count; i += kStrip) std::memcpy(to + i * rows, dy + i, kStrip * sizeof(float));
    std::copy_n(dy + i, count - i, to + i * rows);
  }
}

// panel [rows, 64] from rows of x, columns [k, k + width).
void pack_panel(const Gradient& g, int64_t row, int64_t rows, int64_t k, int64_t width, float* panel) {
  for (int64_t r = 0; r < rows; r++, panel += kPanelColumns) {
    std::memcpy(panel, g.x.at(row + r) + k, static_cast<size_t>(width) * sizeof(float));
    std::fill(panel + width, panel + kPanelColumns, 0.0f);
  }
}

// dw [count, width] (+)= left · panel, by way of sums [count, 64] unless one slice is all. `next` is fetched
// meanwhile.
void multiply_panel(const Gradient& g, const float* left, const float* panel, int64_t slice, int64_t count,
                    int64_t width, bool first, bool last, float* sums, float* dw, Prefetch& next) {
  const int64_t share = ceil_div(next.left(), ceil_div(count, kStrip));
  const bool to_dw = last && g.whole_vectors;
  for (int64_t i = 0; i < count; i += kStrip) {
    const int64_t now = std::min(kStrip, count - i);
    next.some(share);
    float* at = sums + i * kPanelColumns;
    g.tiles.outer_packed(now, slice, width, left + i * slice, kStrip, panel, kPanelColumns, first ? nullptr : at,
                         to_dw ? dw + i * g.K : at, to_dw ? g.K : kPanelColumns, to_dw && g.past_caches);
    for (int64_t r = 0; r < now && last && !to_dw; r++) {
      std::memcpy(dw + (i + r) * g.K, at + r * kPanelColumns, static_cast<size_t>(width) * sizeof(float));
    }
  }
}

// dw[n … n + count) of columns [k_begin, k_end).
void packed_task(const Gradient& g, const Workspace& s, int64_t row, int64_t rows, int64_t n, int64_t count,
                 int64_t k_begin, int64_t k_end, float* dw) {
  const int64_t slices = std::max<int64_t>(1, ceil_div(rows, kSlice));
  const auto slice_at = [&](int64_t i) { return rows * i / slices; };
  const bool held = rows <= kHeldRows;
  const int64_t size = round_up(count, kStrip);
  if (held) {
    for (int64_t i = 0; i < slices; i++) {
      pack_left(g, row + slice_at(i), slice_at(i + 1) - slice_at(i), n, count, s.left + slice_at(i) * size);
    }
  }
  const int64_t block = held ? kPanelColumns : kBlock;
  for (int64_t k = k_begin; k < k_end; k += block) {
    const int64_t block_end = std::min(k_end, k + block);
    for (int64_t i = 0; i < slices; i++) {
      const int64_t begin = slice_at(i), slice = slice_at(i + 1) - begin;
      const float* left = held ? s.left + begin * size : s.left;
      if (!held) pack_left(g, row + begin, slice, n, count, s.left);
      for (int64_t j = k; j < block_end; j += kPanelColumns) {
        const int64_t width = std::min<int64_t>(kPanelColumns, block_end - j);
        pack_panel(g, row + begin, slice, j, width, s.panel);
        // What follows: the next columns of this slice, else the first of the next slice or block.
        const bool ends = j + kPanelColumns >= block_end, last = i + 1 == slices;
        const int64_t next_k = !ends ? j + kPanelColumns : last ? block_end : k;
        const int64_t next = !ends ? i : last ? 0 : i + 1;
        const int64_t next_rows = next_k < k_end ? slice_at(next + 1) - slice_at(next) : 0;
        for (int64_t r = 0; r < next_rows; r++) s.x[r] = g.x.at(row + slice_at(next) + r);
        Prefetch next_x(s.x, next_rows, next_k, std::min<int64_t>(kPanelColumns, k_end - next_k));
        multiply_panel(g, left, s.panel, slice, count, width, i == 0, last, s.sums + (j - k) * kRows, dw + n * g.K + j,
                       next_x);
      }
    }
  }
}

void prepare(Instruction& in) {
  require_counts(in, 5, 5, 1, 1);
  const Operand *dy = in.in[0], *x = in.in[1], *offsets = in.in[2], *dy_ids = in.in[3], *x_ids = in.in[4];
  require_tensor(in, dy, "dy", DType::kF32, 2);
  require_tensor(in, x, "x", DType::kF32, 2);
  require_tensor(in, offsets, "expert offsets", DType::kI32, 1);
  require_tensor(in, in.out[0], "dw", DType::kF32, 3);
  if (dy_ids != nullptr) require_tensor(in, dy_ids, "row ids of dy", DType::kI32, 1);
  if (x_ids != nullptr) require_tensor(in, x_ids, "row ids of x", DType::kI32, 1);
  const Shape& dw = in.out[0]->shape;
  require_dim(in, "rows of x", (x_ids != nullptr ? x_ids : x)->shape[0], (dy_ids != nullptr ? dy_ids : dy)->shape[0]);
  require_dim(in, "length of expert offsets", offsets->shape[0], dw[0] + 1);
  require_dim(in, "rows of dw", dw[1], dy->shape[1]);
  require_dim(in, "columns of dw", dw[2], x->shape[1]);
  in.shared_scratch = TaskList::bytes(dw[0]);
  in.worker_scratch = Workspace::kBytes;
}

void run(const Instruction& in, const Context& context) {
  const int64_t E = in.out[0]->shape[0], N = in.out[0]->shape[1], K = in.out[0]->shape[2];
  const int64_t R = (in.in[3] != nullptr ? in.in[3] : in.in[0])->shape[0];
  const int32_t* offsets = in.in[2]->as<int32_t>();
  check_offsets("grouped_matmul_grad", offsets, E, R);
  float* dw = in.out[0]->as<float>();
  const bool whole = K % 16 == 0 && reinterpret_cast<uintptr_t>(dw) % 64 == 0;
  const Gradient g{tile_kernels(context.tier),
                   GroupedRows::of("grouped_matmul_grad", in.in[0], in.in[3], offsets[E]),
                   GroupedRows::of("grouped_matmul_grad", in.in[1], in.in[4], offsets[E]),
                   N,
                   K,
                   dw,
                   whole && E * N * K * int64_t{sizeof(float)} >= kPastCaches,
                   whole};

  const auto few = [&](int64_t rows) { return rows <= kFewRows && g.whole_vectors; };
  const int64_t n_blocks = ceil_div(N, kRows), k_blocks = ceil_div(K, kColumns);
  const TaskList list(context.shared_scratch, offsets, E,
                      [&](int64_t rows) { return few(rows) ? ceil_div(N, kFewColumns) : n_blocks * k_blocks; });
  context.parallel_for(list.count(), [&](int64_t task, int worker) {
    const Workspace scratch(context.scratch_of(worker));
    const int64_t e = list.expert_of(task), row = offsets[e], rows = offsets[e + 1] - row;
    float* to = dw + e * N * K;
    if (few(rows)) {
      few_task(g, scratch, row, rows, task * kFewColumns, to);
    } else {
      // Blocks of rows are of even size, cut at whole tiles.
      const int64_t size = std::min(kRows, round_up(ceil_div(N, n_blocks), kStrip)), n = task / k_blocks * size;
      const int64_t k = task % k_blocks * kColumns;
      if (n < N) packed_task(g, scratch, row, rows, n, std::min(size, N - n), k, std::min(K, k + kColumns), to);
    }
    if (g.past_caches) stream_fence();
  });
}

}  // namespace

void register_grouped_matmul_grad(KernelRegistry& r) { r.add({"grouped_matmul_grad", "", prepare, run}); }

}  // namespace switchyard
