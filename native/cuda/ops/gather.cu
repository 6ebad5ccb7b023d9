// `take_rows` and `take_along`; their transposes are in scatter_add.cu.
#include "cuda/device/report.h"
#include "cuda/device/rows_grid.h"
#include "cuda/device/widest.h"

namespace switchyard::cuda {
namespace {

// y[i] = x[ids[i]]; rows of `width` pieces. Zeros for id -1, and for one that is reported.
template <class T>
__global__ void take_rows_kernel(T* y, const T* x, const int32_t* ids, int64_t n, int64_t m, int64_t width, ErrorWord* error,
                                 uint32_t instruction) {
  SWITCHYARD_ROWS(i, m) {
    const int64_t id = ids[i];
    const bool present = in_range_or_none(error, instruction, i, id, n);
    SWITCHYARD_COLUMNS(j, width) y[i * width + j] = present ? x[id * width + j] : T{};
  }
}

void run_take_rows(const Instruction& in, const Launch& on) {
  const Operand &x = *in.in[0], &ids = *in.in[1], &y = *in.out[0];
  const int64_t n = x.shape[0], m = y.shape[0], bytes = x.shape[1] * dtype_size(x.dtype);
  with_widest(address(x.data) | address(y.data) | static_cast<uint64_t>(bytes), [&]<class T>() {
    const int64_t width = bytes / static_cast<int64_t>(sizeof(T));
    const RowsGrid g = rows_grid(m, width, on);
    launch(take_rows_kernel<T>, g.grid, g.block, 0, on, y.as<T>(), x.as<T>(), ids.as<int32_t>(), n, m, width, on.error, in.number);
  });
}

// Rows of ids are [outer · m], each of `inner` elements.
template <class T>
__global__ void take_along_kernel(T* y, const T* x, const int32_t* ids, int64_t rows, int64_t m, int64_t n, int64_t inner,
                                  ErrorWord* error, uint32_t instruction) {
  SWITCHYARD_ROWS(row, rows) {
    const T* from = x + row / m * n * inner;
    SWITCHYARD_COLUMNS(j, inner) {
      const int64_t at = row * inner + j, id = ids[at];
      y[at] = in_range(error, instruction, at, id, n) ? from[id * inner + j] : T{};
    }
  }
}

void run_take_along(const Instruction& in, const Launch& on) {
  const Operand &x = *in.in[0], &ids = *in.in[1], &y = *in.out[0];
  const int64_t n = x.shape[1], inner = x.shape[2], m = ids.shape[1], rows = ids.shape[0] * m;
  with_widest(static_cast<uint64_t>(dtype_size(x.dtype)), [&]<class T>() {
    const RowsGrid g = rows_grid(rows, inner, on);
    launch(take_along_kernel<T>, g.grid, g.block, 0, on, y.as<T>(), x.as<T>(), ids.as<int32_t>(), rows, m, n, inner, on.error,
           in.number);
  });
}

}  // namespace

void register_gather(KernelTable& t) {
  t.add({"take_rows", run_take_rows});
  t.add({"take_along", run_take_along});
}

}  // namespace switchyard::cuda
