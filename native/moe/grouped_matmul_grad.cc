// The gradient of experts' matrices: dw[e] = Σ over the rows of e, in their order, of dyᵀ x. One flat list of tasks
// over (expert, block of rows of dw, block of columns), claimed atomically.
#include <cstring>

#include "moe/grouped.h"

namespace switchyard {
namespace {

constexpr int64_t kRows = 192;      // of dw in a task
constexpr int64_t kColumns = 1024;  // of dw in a task, taken kBlock at a time: the next ones are fetched meanwhile
constexpr int64_t kBlock = 256;
constexpr int64_t kSlice = 128;  // rows of dy and x that are packed at once
constexpr int64_t kFewRows = 16;
constexpr int64_t kFewColumns = 48;  // rows of dw of a task with few rows of dy: it writes whole rows of dw
constexpr int64_t kRowsAtOnce = 24;  // between two looks at what to fetch
// From this size on dw is stored past the caches: it would not stay there.
constexpr int64_t kPastCaches = int64_t{16} << 20;

struct Workspace {
  float *left, *panels, *sums;    // [kSlice, kRows], [kBlock / 64, kSlice, 64], [kBlock / 64, kRows, 64]
  const float **dy, **x;          // [kSlice]: rows as they lie
  const float **left_at, **panel_at;  // [kSlice]: rows as packed
  static constexpr int64_t kFloats = kSlice * kRows + kBlock * (kSlice + kRows);
  static constexpr int64_t kBytes = kFloats * sizeof(float) + 4 * kSlice * sizeof(float*);
  explicit Workspace(std::byte* memory)
      : left(reinterpret_cast<float*>(memory)),
        panels(left + kSlice * kRows),
        sums(panels + kBlock * kSlice),
        dy(reinterpret_cast<const float**>(sums + kBlock * kRows)),
        x(dy + kSlice),
        left_at(x + kSlice),
        panel_at(left_at + kSlice) {}
};

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

// sums or dw of [count, columns] from the packed slice.
void multiply_block(const Gradient& g, const Workspace& s, int64_t slice, int64_t count, int64_t columns, bool first,
                    bool last, float* dw, Prefetch& next_dy, Prefetch& next_x) {
  const int64_t steps = ceil_div(columns, kPanelColumns) * ceil_div(count, kRowsAtOnce);
  const int64_t dy_share = ceil_div(next_dy.left(), steps), x_share = ceil_div(next_x.left(), steps);
  for (int64_t j = 0; j < columns; j += kPanelColumns) {
    const int64_t width = std::min<int64_t>(kPanelColumns, columns - j);
    const float* panel = s.panels + j * kSlice;
    float* sums = s.sums + j * kRows;
    for (int64_t r = 0; r < slice; r++) s.panel_at[r] = panel + r * kPanelColumns;
    for (int64_t i = 0; i < count; i += kRowsAtOnce) {
      const int64_t now = std::min(kRowsAtOnce, count - i);
      next_dy.some(dy_share);
      next_x.some(x_share);
      float* at = sums + i * kPanelColumns;
      const bool to_dw = last && g.whole_vectors;
      g.tiles.outer(now, slice, width, s.left_at, i, s.panel_at, 0, first ? nullptr : at, to_dw ? dw + i * g.K + j : at,
                    to_dw ? g.K : kPanelColumns, to_dw && g.past_caches);
      for (int64_t r = 0; r < now && last && !to_dw; r++) {
        std::memcpy(dw + (i + r) * g.K + j, at + r * kPanelColumns, static_cast<size_t>(width) * sizeof(float));
      }
    }
  }
}

// dw[n … n + count) of columns [k_begin, k_end).
void packed_task(const Gradient& g, const Workspace& s, int64_t row, int64_t rows, int64_t n, int64_t count,
                 int64_t k_begin, int64_t k_end, float* dw) {
  const int64_t slices = std::max<int64_t>(1, ceil_div(rows, kSlice));
  const auto slice_at = [&](int64_t i) { return rows * i / slices; };
  const int64_t distance = round_up(count, 16);
  for (int64_t r = 0; r < kSlice; r++) s.left_at[r] = s.left + r * distance;
  for (int64_t k = k_begin; k < k_end; k += kBlock) {
    const int64_t columns = std::min(kBlock, k_end - k);
    for (int64_t i = 0; i < slices; i++) {
      const int64_t begin = slice_at(i), slice = slice_at(i + 1) - begin;
      for (int64_t r = 0; r < slice; r++) {
        const float *dy = g.dy.at(row + begin + r) + n, *x = g.x.at(row + begin + r) + k;
        std::memcpy(s.left + r * distance, dy, static_cast<size_t>(count) * sizeof(float));
        for (int64_t j = 0; j < columns; j += kPanelColumns) {
          const int64_t width = std::min<int64_t>(kPanelColumns, columns - j);
          float* to = s.panels + j * kSlice + r * kPanelColumns;
          std::memcpy(to, x + j, static_cast<size_t>(width) * sizeof(float));
          std::fill(to + width, to + kPanelColumns, 0.0f);
        }
      }
      // What follows: the next slice of these columns, else the first of the next columns.
      const bool more = i + 1 < slices;
      const int64_t next_k = more ? k : k + kBlock, next_begin = more ? slice_at(i + 1) : 0;
      const int64_t next_slice = next_k < k_end ? slice_at(more ? i + 2 : 1) - next_begin : 0;
      for (int64_t r = 0; r < next_slice; r++) {
        s.dy[r] = g.dy.at(row + next_begin + r);
        s.x[r] = g.x.at(row + next_begin + r);
      }
      Prefetch next_dy(s.dy, next_slice, n, count), next_x(s.x, next_slice, next_k, std::min(kBlock, k_end - next_k));
      multiply_block(g, s, slice, count, columns, i == 0, !more, dw + n * g.K + k, next_dy, next_x);
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
      const int64_t size = std::min(kRows, round_up(ceil_div(N, n_blocks), 6)), n = task / k_blocks * size;
      const int64_t k = task % k_blocks * kColumns;
      if (n < N) packed_task(g, scratch, row, rows, n, std::min(size, N - n), k, std::min(K, k + kColumns), to);
    }
    if (g.past_caches) stream_fence();
  });
}

}  // namespace

void register_grouped_matmul_grad(KernelRegistry& r) { r.add({"grouped_matmul_grad", "", prepare, run}); }

}  // namespace switchyard
