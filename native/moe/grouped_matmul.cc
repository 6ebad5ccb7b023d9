// Matrix products of experts on plain f32 tensors, for training. An output element is one chain over the whole inner
// dimension, whichever way computes it:
//   packed: rows of x against panels of 64 columns of w, which are packed slice by slice;
//   turned: few rows of x, packed in one panel, against the rows of w as they lie (w is read once and not copied);
//   direct: few rows of x against w [K, N] as it lies.
// All tasks of all experts form one list, claimed atomically.
#include <cstring>

#include "moe/grouped.h"

namespace switchyard {
namespace {

// Rows of a packed task: packing costs 0.16 ns a weight, multiplying 0.017 ns a row (AVX-512, 115 GFLOP/s).
constexpr int64_t kRows = 512;
constexpr int64_t kSlice = 256;       // of the inner dimension of a packed task
constexpr int64_t kPanel = 32768;     // floats of a panel: turned tasks read theirs from the second cache
// Rows of w [K, N] lie a power of two apart as a rule: more of them would not stay in the second cache's sets.
constexpr int64_t kTransposedSlice = 128;
constexpr int64_t kBlocks = 2;        // panels of a packed task: the next one's weights are fetched meanwhile
constexpr int64_t kTurnedRows = 256;  // rows of w of a turned task
constexpr int64_t kFewRows = 16;
constexpr int64_t kDirectColumns = 512, kDirectSlice = 32;  // of a direct task; a slice fills 64 KiB
constexpr int64_t kRowsAtOnce = 24;                         // between two looks at what to fetch

struct Part {  // one product of the sum
  GroupedRows x;
  const float* w;
  int64_t K;
};

struct Product {
  const TileKernels& tiles;
  Part parts[2];
  int count;  // of parts
  int64_t N;
  bool transpose;
  float* y;

  const float* weight(const Part& p, int64_t e, int64_t n, int64_t k) const {
    return p.w + (transpose ? (e * p.K + k) * N + n : (e * N + n) * p.K + k);
  }
};

enum class Way { kPacked, kTurned, kDirect };

// Both ways multiply whole vectors: a panel of x wastes the lanes that it lacks rows for.
Way way_of(int64_t rows, const Product& p) {
  if (p.transpose) return rows <= kFewRows && p.N % 16 == 0 ? Way::kDirect : Way::kPacked;
  return rows <= kFewRows || (rows <= kPanelColumns && round_up(rows, 16) - rows <= 8) ? Way::kTurned : Way::kPacked;
}

int64_t tasks_of(int64_t rows, const Product& p) {
  if (rows == 0) return 0;
  switch (way_of(rows, p)) {
    case Way::kTurned: return ceil_div(p.N, kTurnedRows);
    case Way::kDirect: return ceil_div(p.N, kDirectColumns);
    default: return ceil_div(rows, kRows) * ceil_div(p.N, kBlocks * kPanelColumns);
  }
}

struct Workspace {
  float *panel, *sums;             // [kPanel], [kRows, 64]
  const float **rows, **columns;   // [kRows], [kTurnedRows]
  static constexpr int64_t kBytes =
      (kPanel + kRows * kPanelColumns) * sizeof(float) + (kRows + kTurnedRows) * sizeof(float*);
  explicit Workspace(std::byte* memory)
      : panel(reinterpret_cast<float*>(memory)),
        sums(panel + kPanel),
        rows(reinterpret_cast<const float**>(sums + kRows * kPanelColumns)),
        columns(rows + kRows) {}
};

struct Slice {  // of one expert's w: columns [n, n + columns) of the product, [k, k + size) of the inner dimension
  int64_t n, columns, k, size;
};

// Finds the rows of a slice, [columns, size] or transposed [size, columns], and returns how many there are.
int64_t locate(const Product& p, const Part& part, int64_t e, const Slice& s, const float** rows) {
  const int64_t count = s.columns == 0 ? 0 : p.transpose ? s.size : s.columns;
  for (int64_t i = 0; i < count; i++) {
    rows[i] = p.transpose ? p.weight(part, e, s.n, s.k + i) : p.weight(part, e, s.n + i, s.k);
  }
  return count;
}

// panel [size, 64] of a slice whose rows are found.
void pack(const Product& p, const Slice& s, const float* const* rows, float* panel) {
  if (!p.transpose) return p.tiles.transpose(rows, static_cast<int>(s.columns), s.size, panel, kPanelColumns, kPanelColumns);
  for (int64_t i = 0; i < s.size; i++, panel += kPanelColumns) {
    std::memcpy(panel, rows[i], static_cast<size_t>(s.columns) * sizeof(float));
    std::fill(panel + s.columns, panel + kPanelColumns, 0.0f);
  }
}

// sums (+)= rows · panel, while what is read later is fetched: first the next rows of this product, then `next`.
void multiply_rows(const Product& p, const float* const* rows, int64_t count, const Slice& s, const float* panel,
                   float* sums, bool add, Prefetch& next) {
  const int64_t share = ceil_div(next.left(), ceil_div(count, kRowsAtOnce));
  for (int64_t i = 0; i < count; i += kRowsAtOnce) {
    const int64_t now = std::min(kRowsAtOnce, count - i), then = std::min(kRowsAtOnce, count - i - now);
    Prefetch(rows + i + now, then, s.k, s.size).some(then * s.size);
    next.some(share);
    p.tiles.multiply(now, s.size, static_cast<int>(s.columns), rows + i, s.k, panel, kPanelColumns, 0,
                     sums + i * kPanelColumns, add);
  }
}

void packed_task(const Product& p, const Workspace& s, int64_t e, int64_t row, int64_t count, int64_t n_begin) {
  const int64_t n_end = std::min(p.N, n_begin + kBlocks * kPanelColumns);
  const int64_t most = p.transpose ? kTransposedSlice : kSlice;
  for (int64_t n = n_begin; n < n_end; n += kPanelColumns) {
    const int64_t columns = std::min<int64_t>(kPanelColumns, n_end - n);
    bool add = false;
    for (int i = 0; i < p.count; i++) {
      const Part& part = p.parts[i];
      const auto slice_at = [&](int64_t from, int64_t k) {
        return Slice{from, std::clamp<int64_t>(n_end - from, 0, kPanelColumns), k, std::min(most, part.K - k)};
      };
      for (int64_t r = 0; r < count; r++) s.rows[r] = part.x.at(row + r);
      for (int64_t k = 0; k < part.K; k += most) {
        const Slice now = slice_at(n, k);
        locate(p, part, e, now, s.columns);
        pack(p, now, s.columns, s.panel);
        // What follows: the next slice of these columns, else the first of the next columns.
        const Slice then = k + most < part.K ? slice_at(n, k + most) : slice_at(n + kPanelColumns, 0);
        const int64_t found = locate(p, part, e, then, s.columns);
        Prefetch next(s.columns, found, 0, p.transpose ? then.columns : then.size);
        multiply_rows(p, s.rows, count, now, s.panel, s.sums, add, next);
        add = true;
      }
    }
    for (int64_t r = 0; r < count; r++) {
      float* y = p.y + (row + r) * p.N + n;
      if (add) {
        std::memcpy(y, s.sums + r * kPanelColumns, static_cast<size_t>(columns) * sizeof(float));
      } else {
        std::fill_n(y, columns, 0.0f);
      }
    }
  }
}

void turned_task(const Product& p, const Workspace& s, int64_t e, int64_t row, int64_t rows, int64_t n) {
  const int64_t count = std::min(kTurnedRows, p.N - n), lanes = round_up(rows, 16), most = kPanel / lanes;
  bool add = false;
  for (int i = 0; i < p.count; i++) {
    const Part& part = p.parts[i];
    for (int64_t j = 0; j < count; j++) s.columns[j] = p.weight(part, e, n + j, 0);
    for (int64_t k = 0; k < part.K; k += most) {
      const int64_t slice = std::min(most, part.K - k);
      for (int64_t r = 0; r < rows; r++) s.rows[r] = part.x.at(row + r) + k;
      p.tiles.transpose(s.rows, static_cast<int>(rows), slice, s.panel, lanes, lanes);
      p.tiles.multiply(count, slice, static_cast<int>(rows), s.columns, k, s.panel, lanes, 0, s.sums, add);
      add = true;
    }
  }
  for (int64_t r = 0; r < rows; r++) {
    float* y = p.y + (row + r) * p.N + n;
    for (int64_t j = 0; j < count; j++) y[j] = add ? s.sums[j * kPanelColumns + r] : 0.0f;
  }
}

void direct_task(const Product& p, const Workspace& s, int64_t e, int64_t row, int64_t rows, int64_t n_begin) {
  const int64_t n_end = std::min(p.N, n_begin + kDirectColumns);
  bool add = false;
  for (int i = 0; i < p.count; i++) {
    const Part& part = p.parts[i];
    for (int64_t r = 0; r < rows; r++) s.rows[r] = part.x.at(row + r);
    for (int64_t k = 0; k < part.K; k += kDirectSlice) {
      const int64_t slice = std::min(kDirectSlice, part.K - k);
      for (int64_t n = n_begin; n < n_end; n += kPanelColumns) {
        const int64_t columns = std::min<int64_t>(kPanelColumns, n_end - n);
        p.tiles.multiply(rows, slice, static_cast<int>(columns), s.rows, k, p.weight(part, e, n, k), p.N, kDirectSlice,
                         s.sums + (n - n_begin) * kFewRows, add);
      }
      add = true;
    }
  }
  for (int64_t n = n_begin; n < n_end; n += kPanelColumns) {
    const int64_t columns = std::min<int64_t>(kPanelColumns, n_end - n);
    for (int64_t r = 0; r < rows; r++) {
      float* y = p.y + (row + r) * p.N + n;
      const float* sums = s.sums + (n - n_begin) * kFewRows + r * kPanelColumns;
      for (int64_t j = 0; j < columns; j++) y[j] = add ? sums[j] : 0.0f;
    }
  }
}

void prepare(Instruction& in) {
  require_counts(in, 6, 6, 1, 1);
  const Operand *x = in.in[0], *w = in.in[1], *offsets = in.in[2], *ids = in.in[3], *x2 = in.in[4], *w2 = in.in[5];
  require_tensor(in, x, "x", DType::kF32, 2);
  require_tensor(in, w, "w", DType::kF32, 3);
  require_tensor(in, offsets, "expert offsets", DType::kI32, 1);
  require_tensor(in, in.out[0], "y", DType::kF32, 2);
  const Shape& y = in.out[0]->shape;
  const bool transpose = in.attrs[0].i != 0;
  require_dim(in, "length of expert offsets", offsets->shape[0], w->shape[0] + 1);
  require_dim(in, "columns of x", x->shape[1], w->shape[transpose ? 1 : 2]);
  require_dim(in, "columns of y", y[1], w->shape[transpose ? 2 : 1]);
  if (ids != nullptr) require_tensor(in, ids, "row ids", DType::kI32, 1);
  require_dim(in, "rows of y", y[0], ids != nullptr ? ids->shape[0] : x->shape[0]);
  require_that(in, (x2 == nullptr) == (w2 == nullptr), "got one of a second x and w, expected both or none");
  if (x2 != nullptr) {
    require_tensor(in, x2, "second x", DType::kF32, 2);
    require_tensor(in, w2, "second w", DType::kF32, 3);
    require_dim(in, "rows of the second x", x2->shape[0], y[0]);
    require_dim(in, "experts of the second w", w2->shape[0], w->shape[0]);
    require_dim(in, "columns of the second x", x2->shape[1], w2->shape[transpose ? 1 : 2]);
    require_dim(in, "columns of the second product", y[1], w2->shape[transpose ? 2 : 1]);
  }
  in.shared_scratch = TaskList::bytes(w->shape[0]);
  in.worker_scratch = Workspace::kBytes;
}

void run(const Instruction& in, const Context& context) {
  const int64_t R = in.out[0]->shape[0], N = in.out[0]->shape[1], E = in.in[1]->shape[0];
  const int32_t* offsets = in.in[2]->as<int32_t>();
  check_offsets("grouped_matmul", offsets, E, R);
  Product p{tile_kernels(context.tier), {}, in.in[4] == nullptr ? 1 : 2, N, in.attrs[0].i != 0, in.out[0]->as<float>()};
  for (int i = 0; i < p.count; i++) {
    const Operand *x = in.in[i == 0 ? 0 : 4], *w = in.in[i == 0 ? 1 : 5];
    p.parts[i] = {GroupedRows::of("grouped_matmul", x, i == 0 ? in.in[3] : nullptr, offsets[E]), w->as<float>(),
                  x->shape[1]};
  }
  std::fill(p.y + offsets[E] * N, p.y + R * N, 0.0f);

  const TaskList list(context.shared_scratch, offsets, E, [&](int64_t rows) { return tasks_of(rows, p); });
  context.parallel_for(list.count(), [&](int64_t task, int worker) {
    const Workspace scratch(context.scratch_of(worker));
    const int64_t e = list.expert_of(task), row = offsets[e], rows = offsets[e + 1] - row;
    switch (way_of(rows, p)) {
      case Way::kTurned: return turned_task(p, scratch, e, row, rows, task * kTurnedRows);
      case Way::kDirect: return direct_task(p, scratch, e, row, rows, task * kDirectColumns);
      default: break;
    }
    // Blocks of rows of one expert are of even size; those of the same columns lie side by side.
    const int64_t blocks = ceil_div(rows, kRows), block = task % blocks;
    const int64_t begin = rows * block / blocks, end = rows * (block + 1) / blocks;
    packed_task(p, scratch, e, row + begin, end - begin, task / blocks * kBlocks * kPanelColumns);
  });
}

}  // namespace

void register_grouped_matmul(KernelRegistry& r) { r.add({"grouped_matmul", "transpose:int", prepare, run}); }

}  // namespace switchyard
