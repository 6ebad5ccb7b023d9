// moe_combine and its gradient: gather-and-sum per token, no atomics.
#include "cuda/moe/combine.h"

#include <algorithm>

#include "cuda/device/async.h"
#include "cuda/device/float16.h"
#include "cuda/device/reduce.h"
#include "cuda/device/report.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
// Choices whose rows a thread asks for before it needs the first: 128 bytes in flight each.
constexpr int kAtOnce = 8;

// Where a choice's row is, or -1 where it has none.
__device__ inline int32_t row_of(const int32_t* slot_row, int64_t at, int64_t R, ErrorWord* error, uint32_t instruction) {
  const int32_t row = slot_row[at];
  if (row >= -1 && row < R) return row;
  report(error, instruction, ErrorKind::kIndex, at, row, -1, R - 1);
  return -1;
}

// A thread owns kCount columns of a token: threadIdx.x and blockIdx.y walk columns, threadIdx.y and blockIdx.x tokens.
template <class T, int kCount>
__global__ void combine_kernel(const T* rows, const int32_t* slot_row, const float* weights, int64_t R, int64_t N, int64_t K,
                               int64_t D, float* y, ErrorWord* error, uint32_t instruction) {
  wait_for_previous_grid();  // nothing here is __restrict__: such loads may move before it
  constexpr int kStore = kCount < 4 ? kCount : 4;
  const int64_t column_step = int64_t{gridDim.y} * blockDim.x * kCount;
  for (int64_t n = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; n < N; n += int64_t{gridDim.x} * blockDim.y) {
    for (int64_t d = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kCount; d < D; d += column_step) {
      float sum[kCount] = {};
      for (int64_t first = 0; first < K; first += kAtOnce) {
        int32_t row[kAtOnce];
        float weight[kAtOnce];
        Pack<T, kCount> piece[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; k++) {
          const int64_t at = n * K + first + k;
          row[k] = first + k < K ? row_of(slot_row, at, R, error, instruction) : -1;
          weight[k] = first + k < K && weights != nullptr ? weights[at] : 1.0f;
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; k++) {
          if (row[k] >= 0) piece[k] = load_pack<kCount>(rows + row[k] * D + d);
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; k++) {
          if (row[k] < 0) continue;  // not 0 · x: a row of NaN that nobody asked for stays out
#pragma unroll
          for (int i = 0; i < kCount; i++) sum[i] = __fmaf_rn(weight[k], to_float(piece[k].v[i]), sum[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kCount; i += kStore) {
        Pack<float, kStore> out;
#pragma unroll
        for (int j = 0; j < kStore; j++) out.v[j] = sum[i + j];
        store_pack(y + n * D + d + i, out);
      }
    }
  }
}

// One warp a choice: d_weights[n, k] = <rows[slot_row[n, k]], dy[n]>. Warps of a token are neighbours, so that dy is read once
// from memory.
template <int kCount>
__global__ void combine_grad_kernel(const float* __restrict__ rows, const int32_t* __restrict__ slot_row,
                                    const float* __restrict__ dy, int64_t R, int64_t N, int64_t K, int64_t D,
                                    float* __restrict__ dw, ErrorWord* error, uint32_t instruction) {
  const int lane = threadIdx.x % 32;
  for (int64_t at = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; at < N * K; at += int64_t{gridDim.x} * kWarps) {
    const int32_t row = row_of(slot_row, at, R, error, instruction);
    const float *a = rows + row * D, *b = dy + at / K * D;
    float sum[kCount] = {};
#pragma unroll 4
    for (int64_t d = lane * kCount; d < (row < 0 ? 0 : D); d += 32 * kCount) {
      const auto x = load_pack<kCount>(a + d), g = load_pack<kCount>(b + d);
#pragma unroll
      for (int i = 0; i < kCount; i++) sum[i] = __fmaf_rn(x.v[i], g.v[i], sum[i]);
    }
    float total = sum[0];
#pragma unroll
    for (int i = 1; i < kCount; i++) total += sum[i];
    total = warp_reduce(total, Add());
    if (lane == 0) dw[at] = total;
  }
}

unsigned at_most(int64_t n, int64_t most) { return static_cast<unsigned>(std::min(n, most)); }

template <class T, int kCount>
void launch_pieces(const T* rows, const int32_t* slot_row, const float* weights, int64_t R, int64_t N, int64_t K, int64_t D,
                   float* y, uint32_t instruction, const Launch& on, Start start) {
  const int64_t pieces = (D + kCount - 1) / kCount;
  // Few tokens: small blocks, so that more multiprocessors take part.
  const int threads = N * pieces < int64_t{on.device->multiprocessors} * kThreads ? 32 : kThreads;
  const int across = std::min<int64_t>(threads, (pieces + 31) / 32 * 32), tokens = threads / across;
  const dim3 grid(at_most((N + tokens - 1) / tokens, INT32_MAX), at_most((pieces + across - 1) / across, 65535));
  launch(start, combine_kernel<T, kCount>, grid, dim3(across, tokens), 0, on, rows, slot_row, weights, R, N, K, D, y, on.error,
         instruction);
}

void run_combine(const Instruction& in, const Launch& on) {
  const Shape &rows = in.in[0]->shape, &slots = in.in[1]->shape;
  launch_combine(in.in[0]->as<float>(), in.in[1]->as<int32_t>(), in.in[2] == nullptr ? nullptr : in.in[2]->as<float>(),
                 rows[0], slots[0], slots[1], rows[1], in.out[0]->as<float>(), in.number, on);
}

void run_combine_grad(const Instruction& in, const Launch& on) {
  const int64_t R = in.in[0]->shape[0], D = in.in[0]->shape[1], N = in.in[1]->shape[0], K = in.in[1]->shape[1];
  const float *rows = in.in[0]->as<float>(), *dy = in.in[2]->as<float>();
  const auto kernel = D % 4 == 0 && is_aligned(rows, 16) && is_aligned(dy, 16) ? combine_grad_kernel<4> : combine_grad_kernel<1>;
  launch(kernel, grid_for(N * K * 32, kThreads, on), kThreads, 0, on, rows, in.in[1]->as<int32_t>(), dy, R, N, K, D,
         in.out[0]->as<float>(), on.error, in.number);
}

}  // namespace

template <class T>
void launch_combine(const T* rows, const int32_t* slot_row, const float* weights, int64_t R, int64_t N, int64_t K, int64_t D,
                    float* y, uint32_t instruction, const Launch& on, Start start) {
  constexpr int kCount = 16 / sizeof(T);
  if (D == 0) return;
  if (D % kCount == 0 && is_aligned(rows, 16) && is_aligned(y, 16)) {
    launch_pieces<T, kCount>(rows, slot_row, weights, R, N, K, D, y, instruction, on, start);
  } else {
    launch_pieces<T, 1>(rows, slot_row, weights, R, N, K, D, y, instruction, on, start);
  }
}
template void launch_combine(const float*, const int32_t*, const float*, int64_t, int64_t, int64_t, int64_t, float*, uint32_t,
                             const Launch&, Start);
template void launch_combine(const Bf16*, const int32_t*, const float*, int64_t, int64_t, int64_t, int64_t, float*, uint32_t,
                             const Launch&, Start);
template void launch_combine(const Half*, const int32_t*, const float*, int64_t, int64_t, int64_t, int64_t, float*, uint32_t,
                             const Launch&, Start);

void register_moe_combine(KernelTable& t) {
  t.add({"moe_combine", run_combine});
  t.add({"moe_combine_grad", run_combine_grad});
}

}  // namespace switchyard::cuda
