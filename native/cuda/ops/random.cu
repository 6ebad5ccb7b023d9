// `iota`, `random_uniform`, `random_normal`: tensors from nothing. Element i depends on (seed, offset, i) alone.
#include "cuda/device/async.h"
#include "cuda/device/philox.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void iota_kernel(int32_t* y, int64_t n, int64_t inner, int64_t size) {
  begin_overlapped();
  SWITCHYARD_GRID_STRIDE(i, n) y[i] = static_cast<int32_t>(i / inner % size);
}

void run_iota(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  const int64_t axis = in.attrs[0].i, n = y.shape.size();
  int64_t inner = 1;
  for (int64_t d = axis + 1; d < y.shape.rank; d++) inner *= y.shape[static_cast<int>(d)];
  launch(kOverlapped, iota_kernel, grid_for(n, kThreads, on), kThreads, 0, on, y.as<int32_t>(), n, inner, y.shape[static_cast<int>(axis)]);
}

// sin and cos of 2 pi u, 0 <= u < 1, by the CPU's polynomials, so that both draw the same normals but for the last places.
__device__ inline void sin_cos_turns(float u, float* sin, float* cos) {
  const float q = rintf(u * 4.0f), r = fmaf(q, -0.25f, u), r2 = r * r;
  float s = -7.674058533e+01f;
  s = fmaf(s, r2, 8.162486267e+01f), s = fmaf(s, r2, -4.134186172e+01f), s = fmaf(s, r2, 6.283185482e+00f) * r;
  float c = 5.855688477e+01f;
  c = fmaf(c, r2, -8.542306519e+01f), c = fmaf(c, r2, 6.493914032e+01f), c = fmaf(c, r2, -1.973920822e+01f);
  c = fmaf(c, r2, 1.0f);
  const int quarter = static_cast<int>(q);
  const bool swap = quarter & 1;
  *sin = quarter & 2 ? -(swap ? c : s) : swap ? c : s;
  *cos = (quarter + 1) & 2 ? -(swap ? s : c) : swap ? s : c;
}

// Box and Muller 1958, on the words of one pair.
__device__ inline void normal_pair(uint32_t first, uint32_t second, float* y) {
  const float u = (static_cast<float>(first >> 8) + 1.0f) * 0x1p-24f;  // in (0, 1]
  const float radius = sqrtf(logf(u) * -2.0f);
  float sin, cos;
  sin_cos_turns(unit_float(second), &sin, &cos);
  y[0] = radius * cos, y[1] = radius * sin;
}

template <bool kNormal>
__global__ void __launch_bounds__(kThreads)
    random_kernel(float* y, int64_t n, uint64_t seed, uint64_t offset, bool packed) {
  begin_overlapped();
  SWITCHYARD_GRID_STRIDE(i, (n + 3) / 4) {
    const Pack<uint32_t, 4> words = philox(offset + static_cast<uint64_t>(i), seed);
    Pack<float, 4> v;
    if constexpr (kNormal) {
      normal_pair(words.v[0], words.v[1], v.v), normal_pair(words.v[2], words.v[3], v.v + 2);
    } else {
#pragma unroll
      for (int k = 0; k < 4; k++) v.v[k] = unit_float(words.v[k]);
    }
    if (packed && 4 * i + 4 <= n) {
      store_pack(y + 4 * i, v);
    } else {
#pragma unroll
      for (int k = 0; k < 4; k++) {
        if (4 * i + k < n) y[4 * i + k] = v.v[k];
      }
    }
  }
}

template <bool kNormal>
void run_random(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  const int64_t n = y.shape.size();
  launch(kOverlapped, random_kernel<kNormal>, grid_for((n + 3) / 4, kThreads, on), kThreads, 0, on, y.as<float>(), n,
         static_cast<uint64_t>(in.attrs[0].i), static_cast<uint64_t>(in.attrs[1].i), is_aligned(y.data, 16));
}

}  // namespace

void register_random(KernelTable& t) {
  t.add({"iota", run_iota});
  t.add({"random_uniform", run_random<false>});
  t.add({"random_normal", run_random<true>});
}

}  // namespace switchyard::cuda
