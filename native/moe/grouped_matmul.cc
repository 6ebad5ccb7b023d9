// Matrix products of experts on plain f32 tensors, for training: rows are sorted by expert, expert e owns rows
// offsets[e] … offsets[e + 1] - 1.
//
// One flat list of tasks over (expert, block of rows, block of columns), claimed atomically. A task cuts its inner
// dimension in slices, packs each slice of B into a panel [slice, 64] and multiplies all its rows with it; the sums
// stay in scratch, so an output element is one chain over the whole inner dimension.
#include <algorithm>
#include <cstring>

#include "cpu/tile.h"
#include "runtime/kernel.h"

namespace switchyard {
namespace {

// Rows of a task: the cost of packing is shared by that many (measured: 3 % of the time at 192).
constexpr int64_t kRows = 192;
// A panel of this many slices fills 32 KiB of L1.
constexpr int64_t kSlice = 128;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void check_offsets(const char* kernel, const int32_t* offsets, int64_t E, int64_t R) {
  for (int64_t e = 0; e <= E; e++) {
    const int64_t low = e > 0 ? offsets[e - 1] : 0, high = e > 0 ? R : 0;
    if (offsets[e] >= low && offsets[e] <= high) continue;
    fail(ErrorCode::kShape, "[%s] got %d as expert offset %lld, expected %lld to %lld", kernel, offsets[e],
         static_cast<long long>(e), static_cast<long long>(low), static_cast<long long>(high));
  }
}

struct Workspace {
  float *panel, *sums, *left;  // [kSlice, 64], [kRows, 64], [kRows, 64]
  const float** rows;          // [kRows]
  static constexpr int64_t kBytes = (kSlice + 2 * kRows) * kPanelColumns * sizeof(float) + kRows * sizeof(float*);
  explicit Workspace(std::byte* memory)
      : panel(reinterpret_cast<float*>(memory)),
        sums(panel + kSlice * kPanelColumns),
        left(sums + kRows * kPanelColumns),
        rows(reinterpret_cast<const float**>(left + kRows * kPanelColumns)) {}
};

// panel[i] = from[i · distance], `columns` of them; the rest of the 64 is zero.
void copy_panel(const float* from, int64_t distance, int64_t count, int64_t columns, float* panel) {
  for (int64_t i = 0; i < count; i++) {
    float* to = panel + i * kPanelColumns;
    std::memcpy(to, from + i * distance, static_cast<size_t>(columns) * sizeof(float));
    std::fill(to + columns, to + kPanelColumns, 0.0f);
  }
}

void store_sums(const float* sums, int64_t count, int64_t columns, float* to, int64_t distance) {
  for (int64_t i = 0; i < count; i++) {
    std::memcpy(to + i * distance, sums + i * kPanelColumns, static_cast<size_t>(columns) * sizeof(float));
  }
}

void prepare(Instruction& in) {
  require_counts(in, 3, 3, 1, 1);
  require_tensor(in, in.in[0], "x", DType::kF32, 2);
  require_tensor(in, in.in[1], "w", DType::kF32, 3);
  require_tensor(in, in.in[2], "expert offsets", DType::kI32, 1);
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  const Shape &x = in.in[0]->shape, &w = in.in[1]->shape, &y = in.out[0]->shape;
  const bool transpose = in.attrs[0].i != 0;
  require_dim(in, "length of expert offsets", in.in[2]->shape[0], w[0] + 1);
  require_dim(in, "columns of x", x[1], w[transpose ? 1 : 2]);
  require_dim(in, "rows of y", y[0], x[0]);
  require_dim(in, "columns of y", y[1], w[transpose ? 2 : 1]);
  in.shared_scratch = (w[0] + 1) * static_cast<int64_t>(sizeof(int64_t));
  in.worker_scratch = Workspace::kBytes;
}

void run(const Instruction& in, const Context& context) {
  const TileKernels& tiles = tile_kernels(context.tier);
  const bool transpose = in.attrs[0].i != 0;
  const int64_t R = in.in[0]->shape[0], K = in.in[0]->shape[1], N = in.out[0]->shape[1], E = in.in[1]->shape[0];
  const float *x = in.in[0]->as<float>(), *w = in.in[1]->as<float>();
  const int32_t* offsets = in.in[2]->as<int32_t>();
  float* y = in.out[0]->as<float>();
  check_offsets("grouped_matmul", offsets, E, R);
  std::fill(y + offsets[E] * N, y + R * N, 0.0f);

  int64_t* first_block = reinterpret_cast<int64_t*>(context.shared_scratch);  // [E+1]: blocks of rows before expert e
  first_block[0] = 0;
  for (int64_t e = 0; e < E; e++) first_block[e + 1] = first_block[e] + ceil_div(offsets[e + 1] - offsets[e], kRows);
  const int64_t column_blocks = ceil_div(N, kPanelColumns);

  context.parallel_for(first_block[E] * column_blocks, [&](int64_t task, int worker) {
    const Workspace scratch(context.scratch_of(worker));
    const int64_t block = task / column_blocks, n0 = task % column_blocks * kPanelColumns;
    const int64_t e = std::upper_bound(first_block, first_block + E + 1, block) - first_block - 1;
    // Blocks of one expert are of even size.
    const int64_t rows = offsets[e + 1] - offsets[e], blocks = first_block[e + 1] - first_block[e];
    const int64_t part = block - first_block[e], row = offsets[e] + rows * part / blocks;
    const int64_t count = offsets[e] + rows * (part + 1) / blocks - row;
    const int64_t columns = std::min<int64_t>(kPanelColumns, N - n0);
    std::fill_n(scratch.sums, count * kPanelColumns, 0.0f);
    for (int64_t k0 = 0; k0 < K; k0 += kSlice) {
      const int64_t slice = std::min(kSlice, K - k0);
      if (transpose) {
        copy_panel(w + (e * K + k0) * N + n0, N, slice, columns, scratch.panel);
      } else {
        for (int64_t j = 0; j < columns; j++) scratch.rows[j] = w + (e * N + n0 + j) * K + k0;
        tiles.transpose(scratch.rows, static_cast<int>(columns), slice, scratch.panel);
      }
      for (int64_t i = 0; i < count; i++) scratch.rows[i] = x + (row + i) * K + k0;
      tiles.multiply(count, slice, static_cast<int>(columns), scratch.rows, scratch.panel, scratch.sums);
    }
    store_sums(scratch.sums, count, columns, y + row * N + n0, N);
  });
}

void prepare_grad(Instruction& in) {
  require_counts(in, 3, 3, 1, 1);
  require_tensor(in, in.in[0], "dy", DType::kF32, 2);
  require_tensor(in, in.in[1], "x", DType::kF32, 2);
  require_tensor(in, in.in[2], "expert offsets", DType::kI32, 1);
  require_tensor(in, in.out[0], "dw", DType::kF32, 3);
  const Shape &dy = in.in[0]->shape, &x = in.in[1]->shape, &dw = in.out[0]->shape;
  require_dim(in, "rows of x", x[0], dy[0]);
  require_dim(in, "length of expert offsets", in.in[2]->shape[0], dw[0] + 1);
  require_dim(in, "rows of dw", dw[1], dy[1]);
  require_dim(in, "columns of dw", dw[2], x[1]);
  in.worker_scratch = Workspace::kBytes;
}

// dw[e] = Σ over the rows of e, in their order, of dyᵀ x.
void run_grad(const Instruction& in, const Context& context) {
  const TileKernels& tiles = tile_kernels(context.tier);
  const int64_t R = in.in[0]->shape[0], N = in.in[0]->shape[1], K = in.in[1]->shape[1], E = in.out[0]->shape[0];
  const float *dy = in.in[0]->as<float>(), *x = in.in[1]->as<float>();
  const int32_t* offsets = in.in[2]->as<int32_t>();
  float* dw = in.out[0]->as<float>();
  check_offsets("grouped_matmul_grad", offsets, E, R);

  const int64_t n_blocks = ceil_div(N, kRows), k_blocks = ceil_div(K, kPanelColumns);
  context.parallel_for(E * n_blocks * k_blocks, [&](int64_t task, int worker) {
    const Workspace scratch(context.scratch_of(worker));
    const int64_t e = task / (n_blocks * k_blocks), n0 = task / k_blocks % n_blocks * kRows;
    const int64_t k0 = task % k_blocks * kPanelColumns;
    const int64_t count = std::min(kRows, N - n0), columns = std::min<int64_t>(kPanelColumns, K - k0);
    std::fill_n(scratch.sums, count * kPanelColumns, 0.0f);
    for (int64_t row = offsets[e]; row < offsets[e + 1]; row += kPanelColumns) {
      const int64_t slice = std::min<int64_t>(kPanelColumns, offsets[e + 1] - row);
      copy_panel(x + row * K + k0, K, slice, columns, scratch.panel);
      for (int64_t r = 0; r < slice; r++) scratch.rows[r] = dy + (row + r) * N + n0;
      tiles.transpose(scratch.rows, static_cast<int>(slice), count, scratch.left);
      for (int64_t i = 0; i < count; i++) scratch.rows[i] = scratch.left + i * kPanelColumns;
      tiles.multiply(count, slice, static_cast<int>(columns), scratch.rows, scratch.panel, scratch.sums);
    }
    store_sums(scratch.sums, count, columns, dw + (e * N + n0) * K + k0, K);
  });
}

}  // namespace

void register_grouped_matmul(KernelRegistry& r) {
  r.add({"grouped_matmul", "transpose:int", prepare, run});
  r.add({"grouped_matmul_grad", "", prepare_grad, run_grad});
}

}  // namespace switchyard
