// `matmul`: dense f32 products, batched, with transposed operands.
//
// Every output element is one chain of fused multiply-adds over rising k, whatever the sizes, the blocking
// and the threads: partial sums that leave the registers between k-blocks do so without rounding.
//
// 1. A task owns a block of rows and columns of one batch.
// 2. For each block of k it packs its piece of b as panels of whole vectors, and its piece of a as panels of
//    gemm_rows rows, both in its worker's scratch; then runs register tiles over them.
// 3. With few rows packing costs more than it saves: tiles read a and b in place (b is packed where it is
// transposed,
//    because a tile needs neighbouring columns).
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kBlockK = 256;
constexpr int64_t kBlockN = 256;       // packed b: 256 KiB, in the second-level cache
constexpr int64_t kTilesPerBlock = 16; // rows of a block = 16 tiles: packed a is at most 224 KiB
constexpr int64_t kFewRows = 16;       // up to this many rows b is read where it lies
// Below this many multiply-adds a task is not worth a parallel region (2 us at 50 GFLOP/s and more).
constexpr int64_t kTaskWork = 100'000;

struct Product {
  int64_t batch, m, n, k;
  bool transpose_a, transpose_b, shared_b;
  explicit Product(const Instruction& instruction) {
    const Shape &a = instruction.in[0]->shape, &b = instruction.in[1]->shape, &c = instruction.out[0]->shape;
    transpose_a = instruction.attrs[0].i != 0;
    transpose_b = instruction.attrs[1].i != 0;
    batch = c[0], m = c[1], n = c[2];
    k = transpose_a ? a[1] : a[2];
    shared_b = b[0] == 1;
  }
};

void prepare(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  for (const Operand* x : instruction.in) require_tensor(instruction, x, "a or b", DType::kF32, 3);
  require_tensor(instruction, instruction.out[0], "c", DType::kF32, 3);
  const Product p(instruction);
  const Shape &a = instruction.in[0]->shape, &b = instruction.in[1]->shape;
  require_dim(instruction, "batch of a", a[0], p.batch);
  if (!p.shared_b) require_dim(instruction, "batch of b", b[0], p.batch);
  require_dim(instruction, "rows of a", p.transpose_a ? a[2] : a[1], p.m);
  require_dim(instruction, "columns of b", p.transpose_b ? b[1] : b[2], p.n);
  require_dim(instruction, "rows of b", p.transpose_b ? b[2] : b[1], p.k);
  instruction.worker_scratch = 4 * kBlockK * (kBlockN + kTilesPerBlock * kMaxGemmRows);
}

// b[k0…k0+depth, n0…n0+width) as panels of `wide` columns, padded with zeros: panel[step·wide + column].
void pack_b(const Product& p, const float* b, int64_t k0, int64_t depth, int64_t n0, int64_t width,
            int64_t wide, float* to) {
  for (int64_t j = 0; j < width; j += wide, to += depth * wide) {
    const int64_t w = std::min(wide, width - j);
    if (!p.transpose_b) {
      for (int64_t s = 0; s < depth; s++) {
        std::memcpy(to + s * wide, b + (k0 + s) * p.n + n0 + j, size_t(w) * 4);
        if (w < wide) std::memset(to + s * wide + w, 0, size_t(wide - w) * 4);
      }
      continue;
    }
    // Squares of 16 keep both sides in the first-level cache.
    for (int64_t s0 = 0; s0 < depth; s0 += 16) {
      const int64_t s1 = std::min(depth, s0 + 16);
      for (int64_t l = 0; l < wide; l++) {
        const float* from = b + (n0 + j + l) * p.k + k0;
        for (int64_t s = s0; s < s1; s++) to[s * wide + l] = l < w ? from[s] : 0.0f;
      }
    }
  }
}

// a[m0…m0+height, k0…k0+depth) as panels of `tall` rows: panel[step·tall + row]. Missing rows are never read.
void pack_a(const Product& p, const float* a, int64_t m0, int64_t height, int64_t k0, int64_t depth,
            int64_t tall, float* to) {
  for (int64_t i = 0; i < height; i += tall, to += depth * tall) {
    const int64_t h = std::min(tall, height - i);
    if (p.transpose_a) {
      for (int64_t s = 0; s < depth; s++)
        std::memcpy(to + s * tall, a + (k0 + s) * p.m + m0 + i, size_t(h) * 4);
      continue;
    }
    for (int64_t s0 = 0; s0 < depth; s0 += 16) {
      const int64_t s1 = std::min(depth, s0 + 16);
      for (int64_t r = 0; r < h; r++) {
        const float* from = a + (m0 + i + r) * p.k + k0;
        for (int64_t s = s0; s < s1; s++) to[s * tall + r] = from[s];
      }
    }
  }
}

// Rows [m0, m0 + height) and columns [n0, n0 + width) of one product.
void block(const Product& p, const MathTable& math, const float* a, const float* b, float* c, int64_t m0,
           int64_t height, int64_t n0, int64_t width, float* scratch) {
  const int64_t tall = math.gemm_rows, wide = 16 * math.gemm_vectors;
  const bool few = p.m <= kFewRows;
  const bool direct_b = few && !p.transpose_b;
  float *packed_b = scratch, *packed_a = scratch + kBlockK * kBlockN;
  for (int64_t k0 = 0; k0 < p.k; k0 += kBlockK) {
    const int64_t depth = std::min(kBlockK, p.k - k0);
    if (!direct_b) pack_b(p, b, k0, depth, n0, width, wide, packed_b);
    if (!few) pack_a(p, a, m0, height, k0, depth, tall, packed_a);
    for (int64_t j = 0; j < width; j += wide) {
      const int64_t w = std::min(wide, width - j), vectors = (w + 15) / 16;
      const float* panel_b = direct_b ? b + k0 * p.n + n0 + j : packed_b + j * depth;
      const int64_t b_k = direct_b ? p.n : wide;
      for (int64_t i = 0; i < height; i += tall) {
        const int64_t h = std::min(tall, height - i);
        float* to = c + (m0 + i) * p.n + n0 + j;
        if (few) {
          const float* from = p.transpose_a ? a + k0 * p.m + m0 + i : a + (m0 + i) * p.k + k0;
          math.gemm_direct[h - 1][vectors - 1](depth, from, p.transpose_a ? 1 : p.k, p.transpose_a ? p.m : 1,
                                               panel_b, b_k, to, p.n, int(w), k0 > 0);
        } else {
          math.gemm_packed[h - 1][vectors - 1](depth, packed_a + i * depth, 1, tall, panel_b, b_k, to, p.n,
                                               int(w), k0 > 0);
        }
      }
    }
  }
}

void run(const Instruction& instruction, const Context& context) {
  const Product p(instruction);
  const float *a = instruction.in[0]->as<float>(), *b = instruction.in[1]->as<float>();
  float* c = instruction.out[0]->as<float>();
  if (p.batch == 0 || p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    std::memset(c, 0, size_t(instruction.out[0]->shape.size()) * 4);
    return;
  }
  const MathTable& math = math_table(context.tier);
  const int64_t wide = 16 * math.gemm_vectors, most_rows = kTilesPerBlock * math.gemm_rows;
  // Blocks as large as allowed, smaller where threads would idle; the split never changes the bits.
  int64_t rows = std::min(p.m, most_rows), columns = std::min(p.n, kBlockN);
  const int64_t wanted = context.threads > 1 ? context.threads * 3 : 1;
  const auto blocks = [&] { return (p.m + rows - 1) / rows * ((p.n + columns - 1) / columns); };
  while (p.batch * blocks() < wanted && columns >= 2 * wide && rows * columns * p.k >= 2 * kTaskWork) {
    columns = (columns / 2 + wide - 1) / wide * wide;
  }
  const int64_t down = (p.m + rows - 1) / rows, across = (p.n + columns - 1) / columns;
  const auto task = [&](int64_t t, int worker) {
    const int64_t at = t / (down * across), i = t / across % down * rows, j = t % across * columns;
    block(p, math, a + at * p.m * p.k, b + (p.shared_b ? 0 : at * p.k * p.n), c + at * p.m * p.n, i,
          std::min(rows, p.m - i), j, std::min(columns, p.n - j),
          reinterpret_cast<float*>(context.scratch_of(worker)));
  };
  const int64_t tasks = p.batch * down * across;
  const int64_t work = p.m * p.n * p.k / (down * across) + 1;  // of one task
  const int64_t together = std::max<int64_t>(1, kTaskWork / work);
  if (tasks <= together) {
    for (int64_t t = 0; t < tasks; t++) task(t, 0);
    return;
  }
  context.parallel_for((tasks + together - 1) / together, [&](int64_t group, int worker) {
    for (int64_t t = group * together; t < std::min(tasks, (group + 1) * together); t++) task(t, worker);
  });
}

}  // namespace

void register_matmul(KernelRegistry& registry) {
  registry.add({"matmul", "transpose_a:int,transpose_b:int", prepare, run});
}

}  // namespace switchyard
