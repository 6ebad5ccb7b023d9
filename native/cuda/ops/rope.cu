// `rope_table` and `rope`: rotary position embedding (Su et al. 2021, equation 34).
#include "cuda/device/async.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;

// The angle is rounded to f32 before the functions, as the reference implementations do.
__global__ void table_kernel(float* cos, float* sin, const int32_t* positions, const float* frequencies, int64_t n,
                             int64_t half, float scale) {
  begin_overlapped();
  SWITCHYARD_GRID_STRIDE(i, n * half) {
    const float angle = static_cast<float>(positions[i / half]) * frequencies[i % half];
    cos[i] = cosf(angle) * scale;
    sin[i] = sinf(angle) * scale;
  }
}

void run_table(const Instruction& in, const Launch& on) {
  const int64_t n = in.in[0]->shape[0], half = in.in[1]->shape[0];
  launch(kOverlapped, table_kernel, grid_for(n * half, kThreads, on), kThreads, 0, on, in.out[0]->as<float>(), in.out[1]->as<float>(),
         in.in[0]->as<int32_t>(), in.in[1]->as<float>(), n, half, static_cast<float>(in.attrs[0].f));
}

// A row is one head of one token. Its units: half / V pieces that turn, then (c - 2·half) / V that are copied.
template <class Index>
struct Rope {
  float* y;
  const float *x, *cos, *sin;
  Index count;  // units of all rows
  Divisor<Index> units, heads;
  Index turning;  // units of a row that turn
  int c, half;
};

// Products round before the sum, as in the formula written with separate operations.
__device__ inline float turned(float a, float cos, float b, float sin) {
  return __fadd_rn(__fmul_rn(a, cos), __fmul_rn(b, sin));
}

template <class Index, int V, bool kInterleaved>
__global__ void __launch_bounds__(kThreads) rope_kernel(const __grid_constant__ Rope<Index> p) {
  begin_overlapped();
  SWITCHYARD_GRID_STRIDE(i, int64_t{p.count}) {
    const Index row = p.units.quotient(static_cast<Index>(i)), unit = static_cast<Index>(i) - row * p.units.size;
    const float* x = p.x + int64_t{row} * p.c;
    float* y = p.y + int64_t{row} * p.c;
    if (unit >= p.turning) {
      const int64_t at = int64_t{2} * p.half + (unit - p.turning) * V;
      if (y != x) store_pack(y + at, load_pack<V>(x + at));
      continue;
    }
    const int64_t at = int64_t{unit} * V, angle = int64_t{p.heads.quotient(row)} * p.half + at;
    const Pack<float, V> cos = load_pack<V>(p.cos + angle), sin = load_pack<V>(p.sin + angle);
    if constexpr (kInterleaved) {
      // Pairs stand side by side: V of them are two packs.
      Pack<float, V> two[2] = {load_pack<V>(x + 2 * at), load_pack<V>(x + 2 * at + V)};
#pragma unroll
      for (int v = 0; v < V; v++) {
        float &a = two[2 * v / V].v[2 * v % V], &b = two[(2 * v + 1) / V].v[(2 * v + 1) % V];
        const float first = turned(a, cos.v[v], b, -sin.v[v]);
        b = turned(b, cos.v[v], a, sin.v[v]);
        a = first;
      }
      store_pack(y + 2 * at, two[0]), store_pack(y + 2 * at + V, two[1]);
    } else {
      Pack<float, V> a = load_pack<V>(x + at), b = load_pack<V>(x + p.half + at);
#pragma unroll
      for (int v = 0; v < V; v++) {
        const float first = turned(a.v[v], cos.v[v], b.v[v], -sin.v[v]);
        b.v[v] = turned(b.v[v], cos.v[v], a.v[v], sin.v[v]);
        a.v[v] = first;
      }
      store_pack(y + at, a), store_pack(y + p.half + at, b);
    }
  }
}

template <class Index, int V>
void run_with(const Instruction& in, const Launch& on) {
  const Shape& shape = in.in[0]->shape;
  const int64_t half = in.in[1]->shape[1], c = shape[2], turning = half / V, units = turning + (c - 2 * half) / V;
  const int64_t count = shape[0] * shape[1] * units;
  if (count == 0) return;
  Rope<Index> p{in.out[0]->as<float>(), in.in[0]->as<float>(), in.in[1]->as<float>(), in.in[2]->as<float>()};
  p.count = static_cast<Index>(count), p.units = Divisor<Index>(units), p.heads = Divisor<Index>(shape[1]);
  p.turning = static_cast<Index>(turning), p.c = static_cast<int>(c), p.half = static_cast<int>(half);
  launch(kOverlapped, in.attrs[0].i != 0 ? rope_kernel<Index, V, true> : rope_kernel<Index, V, false>, grid_for(count, kThreads, on),
         kThreads, 0, on, p);
}

void run_rope(const Instruction& in, const Launch& on) {
  const Shape& shape = in.in[0]->shape;
  const bool small = shape.size() < kSmall;
  bool packed = in.in[1]->shape[1] % 4 == 0 && shape[2] % 4 == 0 && is_aligned(in.out[0]->data, 16);
  for (const Operand* x : in.in) packed = packed && is_aligned(x->data, 16);
  if (packed) {
    small ? run_with<int32_t, 4>(in, on) : run_with<int64_t, 4>(in, on);
  } else {
    small ? run_with<int32_t, 1>(in, on) : run_with<int64_t, 1>(in, on);
  }
}

}  // namespace

void register_rope(KernelTable& t) {
  t.add({"rope_table", run_table});
  t.add({"rope", run_rope});
}

}  // namespace switchyard::cuda
