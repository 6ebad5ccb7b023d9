// `strided_copy` and its transpose `strided_scatter`: permute, slice, flip, broadcast, diagonal.
#include <cstdlib>
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kBlock = 16;  // a square of 16 x 16 elements of 4 bytes is 16 cache lines on either side

// Element i of the dense side lies at offset + sum of i·stride on the strided side.
struct Walk {
  int rank = 0;
  int64_t dims[kMaxRank];
  int64_t strides[kMaxRank];
  int64_t offset = 0;
};

Walk collapse(const Shape& shape, const Instruction& instruction) {
  const std::vector<int64_t>& strides = instruction.attrs[0].ints;
  Walk w;
  w.offset = instruction.attrs[1].i;
  for (int d = 0; d < shape.rank; d++) {
    if (shape[d] == 1) continue;
    if (w.rank > 0 && w.strides[w.rank - 1] == strides[d] * shape[d]) {
      w.dims[w.rank - 1] *= shape[d];
      w.strides[w.rank - 1] = strides[d];
    } else {
      w.dims[w.rank] = shape[d];
      w.strides[w.rank++] = strides[d];
    }
  }
  if (w.rank == 0) {
    w.dims[0] = 1;
    w.strides[w.rank++] = 1;
  }
  return w;
}

// Counts through the leading dimensions.
struct Odometer {
  const Walk& w;
  int rank;
  int64_t index[kMaxRank];
  int64_t offset;
  Odometer(const Walk& walk, int leading, int64_t start) : w(walk), rank(leading), offset(walk.offset) {
    for (int d = rank - 1; d >= 0; d--) {
      index[d] = start % w.dims[d];
      start /= w.dims[d];
      offset += index[d] * w.strides[d];
    }
  }
  void next() {
    for (int d = rank - 1; d >= 0; d--) {
      offset += w.strides[d];
      if (++index[d] < w.dims[d]) return;
      offset -= index[d] * w.strides[d];
      index[d] = 0;
    }
  }
};

template <class T, bool kScatter>
void move(T* dense, T* strided, int64_t n, int64_t stride) {
  if (stride == 1) {
    if (kScatter) {
      std::memcpy(strided, dense, size_t(n) * sizeof(T));
    } else {
      std::memcpy(dense, strided, size_t(n) * sizeof(T));
    }
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    if (kScatter) {
      strided[i * stride] = dense[i];
    } else {
      dense[i] = strided[i * stride];
    }
  }
}

template <class T, bool kScatter>
void walk_rows(const Context& context, const Walk& w, T* dense, T* strided) {
  const int64_t inner = w.dims[w.rank - 1], stride = w.strides[w.rank - 1];
  int64_t rows = 1;
  for (int d = 0; d + 1 < w.rank; d++) rows *= w.dims[d];
  if (w.rank == 1) {  // one row: cut it
    parallel_ranges(context, inner, 1, [&](int64_t begin, int64_t end, int) {
      move<T, kScatter>(dense + begin, strided + w.offset + begin * stride, end - begin, stride);
    });
    return;
  }
  if (w.strides[w.rank - 2] == 1 && stride != 1) {  // a transposition: squares keep both sides in cache
    const int64_t height = w.dims[w.rank - 2], blocks = (height + kBlock - 1) / kBlock;
    parallel_ranges(context, rows / height * blocks, inner * kBlock, [&](int64_t begin, int64_t end, int) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t first = task % blocks * kBlock, last = std::min(height, first + kBlock);
        const Odometer at(w, w.rank - 2, task / blocks);
        T* to = dense + (task / blocks * height + first) * inner;
        T* from = strided + at.offset + first;
        for (int64_t column = 0; column < inner; column += kBlock) {
          const int64_t end_column = std::min(inner, column + kBlock);
          for (int64_t r = 0; r < last - first; r++) {
            move<T, kScatter>(to + r * inner + column, from + r + column * stride, end_column - column,
                              stride);
          }
        }
      }
    });
    return;
  }
  parallel_ranges(context, rows, inner, [&](int64_t begin, int64_t end, int) {
    Odometer at(w, w.rank - 1, begin);
    for (int64_t row = begin; row < end; row++, at.next()) {
      move<T, kScatter>(dense + row * inner, strided + at.offset, inner, stride);
    }
  });
}

template <bool kScatter>
void walk(const Instruction& instruction, const Context& context, const Operand* dense,
          const Operand* strided) {
  if (dense->shape.size() == 0) return;
  const Walk w = collapse(dense->shape, instruction);
  switch (dtype_size(dense->dtype)) {
    case 1: walk_rows<uint8_t, kScatter>(context, w, dense->as<uint8_t>(), strided->as<uint8_t>()); break;
    case 2: walk_rows<uint16_t, kScatter>(context, w, dense->as<uint16_t>(), strided->as<uint16_t>()); break;
    default: walk_rows<uint32_t, kScatter>(context, w, dense->as<uint32_t>(), strided->as<uint32_t>()); break;
  }
}

// Every place of the walk lies inside the strided tensor.
void check_walk(const Instruction& instruction, const Operand* dense, const Operand* strided) {
  const char* name = instruction.kernel->name.data();
  const std::vector<int64_t>& strides = instruction.attrs[0].ints;
  require_that(instruction, dense->dtype == strided->dtype, "input and output differ in dtype");
  require_dim(instruction, "number of strides", int64_t(strides.size()), dense->shape.rank);
  if (dense->shape.size() == 0) return;
  const int64_t size = strided->shape.size();
  int64_t low = instruction.attrs[1].i, high = low;
  require_that(instruction, low >= 0 && low < size, "offset lies outside the strided tensor");
  for (int d = 0; d < dense->shape.rank; d++) {
    if (dense->shape[d] == 1) continue;
    if (strides[d] <= -size || strides[d] >= size) {
      fail(ErrorCode::kProgram,
           "[%s] got stride %lld, expected less than the %lld elements of the strided tensor", name,
           (long long)strides[d], (long long)size);
    }
    const int64_t reach = checked_mul(dense->shape[d] - 1, std::abs(strides[d]), name);
    if (strides[d] > 0) {
      high = checked_add(high, reach, name);
    } else {
      low -= std::min(reach, 2 * size);  // enough to be refused, without overflow
    }
  }
  if (low < 0 || high >= size) {
    fail(ErrorCode::kProgram, "[%s] strides reach elements %lld…%lld, expected them in a tensor of %lld",
         name, (long long)low, (long long)high, (long long)size);
  }
}

void prepare_copy(Instruction& instruction) {
  require_counts(instruction, 1, 1, 1, 1);
  require_dense(instruction, instruction.in[0], "input is a weight, expected a tensor");
  require_dense(instruction, instruction.out[0], "output is a weight, expected a tensor");
  check_walk(instruction, instruction.out[0], instruction.in[0]);
}

void run_copy(const Instruction& instruction, const Context& context) {
  walk<false>(instruction, context, instruction.out[0], instruction.in[0]);
}

void prepare_scatter(Instruction& instruction) {
  require_counts(instruction, 1, 1, 1, 1);
  require_dense(instruction, instruction.in[0], "input is a weight, expected a tensor");
  require_dense(instruction, instruction.out[0], "output is a weight, expected a tensor");
  check_walk(instruction, instruction.in[0], instruction.out[0]);
  // Distinct places: sorted by size, each stride passes all that the smaller ones reach.
  const Shape& shape = instruction.in[0]->shape;
  std::vector<std::pair<int64_t, int64_t>> steps;  // |stride|, length
  for (int d = 0; d < shape.rank; d++) {
    if (shape[d] > 1) steps.emplace_back(std::abs(instruction.attrs[0].ints[d]), shape[d]);
  }
  std::sort(steps.begin(), steps.end());
  int64_t reach = 0;
  for (const auto& [stride, length] : steps) {
    require_that(instruction, stride > reach, "strides meet an element twice, expected distinct places");
    reach += stride * (length - 1);
  }
}

void run_scatter(const Instruction& instruction, const Context& context) {
  const Operand* y = instruction.out[0];
  const int64_t bytes = y->shape.size() * dtype_size(y->dtype);
  parallel_ranges(context, bytes, 1, [&](int64_t begin, int64_t end, int) {
    std::memset(y->data + begin, 0, size_t(end - begin));
  });
  walk<true>(instruction, context, instruction.in[0], y);
}

}  // namespace

void register_strided(KernelRegistry& registry) {
  registry.add({"strided_copy", "strides:ints,offset:int", prepare_copy, run_copy});
  registry.add({"strided_scatter", "strides:ints,offset:int", prepare_scatter, run_scatter});
}

}  // namespace switchyard
