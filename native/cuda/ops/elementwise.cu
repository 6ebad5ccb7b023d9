// `elementwise`: any chain of lane-wise operations in one pass over memory.
//
// 1. The launcher plans (elementwise_plan.h) and merges dimensions that every input walks as one.
// 2. A thread takes tiles of four neighbouring elements, one or two at a time: it brings the inputs into its slots of shared memory, runs the steps,
//    which all threads of the block decode alike, and stores the accumulator.
// Inputs that are one element, and constants, are brought once a thread.
#include <algorithm>

#include "cuda/device/async.h"
#include "cuda/device/float16.h"
#include "cuda/device/vector.h"
#include "cuda/ops/elementwise_plan.h"

namespace switchyard::cuda {
namespace {

constexpr int kLanes = 4;
constexpr int kMostThreads = 128;            // of a block
constexpr int64_t kMostShared = 48 * 1024;   // what a block has without asking
constexpr int64_t kMostTiles = 2;            // a thread of a full device takes one at a time up to here
constexpr int kTogether = 4;                 // inputs whose loads are all started before the first is used

enum class Reading : uint8_t {
  kUnread,
  kOnce,   // one element for all
  kFlat,   // as large as the output
  kRow,    // broadcast; the lanes of a thread lie in one row
  kLane,   // broadcast; each lane for itself
};

template <class Index>
struct Input {
  const std::byte* data;
  DType dtype;
  Reading reading;
  bool packed;  // four elements in one access
  uint8_t slot;
  Index strides[kMaxRank];
};

template <class Index>
struct Parameters {
  int inputs, rank, constants, steps, result;
  bool packed;  // the output, in one access
  DType dtype;  // of the output
  std::byte* y;
  Index size;
  Divisor<Index> dims[kMaxRank];  // from the innermost outwards
  Input<Index> in[kMaxElementwiseInputs];
  ElementStep code[kMaxElementwiseCode];
};

using Lanes = Pack<uint32_t, kLanes>;  // bits of f32 or i32

template <int kTiles>
struct Tiles {
  Lanes tile[kTiles];
  __device__ uint32_t& operator[](int l) { return tile[l / kLanes].v[l % kLanes]; }
  __device__ uint32_t operator[](int l) const { return tile[l / kLanes].v[l % kLanes]; }
};

__device__ inline int width(DType t) {
  return t == DType::kF16 || t == DType::kBF16 ? 2 : t == DType::kU8 || t == DType::kBool ? 1 : 4;
}

__device__ inline uint32_t load_raw(const std::byte* data, DType t, int64_t at) {
  switch (width(t)) {
    case 4: return reinterpret_cast<const uint32_t*>(data)[at];
    case 2: return reinterpret_cast<const uint16_t*>(data)[at];
    default: return reinterpret_cast<const uint8_t*>(data)[at];
  }
}

// Raw bits of four lanes from element `first` of the output on, `count` of which exist; packed lanes lie close together.
template <class Index>
__device__ inline Lanes fetch(const Parameters<Index>& p, const Input<Index>& in, Index first, int count) {
  Lanes raw{};
  if (in.reading == Reading::kFlat || in.reading == Reading::kRow) {
    const bool flat = in.reading == Reading::kFlat;
    const Index at = flat ? first : walk_to<1>(p.rank, p.dims, in.strides, first);
    if (in.packed && count == kLanes) {
      switch (width(in.dtype)) {
        case 4: return load_pack<4>(reinterpret_cast<const uint32_t*>(in.data) + at);
        case 2: {
          const auto two = load_pack<2>(reinterpret_cast<const uint32_t*>(in.data + int64_t{2} * at));
          raw.v[0] = two.v[0], raw.v[1] = two.v[1];
          return raw;
        }
        default: raw.v[0] = *reinterpret_cast<const uint32_t*>(in.data + at); return raw;
      }
    }
    const Index step = flat ? 1 : in.strides[0];
#pragma unroll
    for (int l = 0; l < kLanes; l++) {
      if (l < count) raw.v[l] = load_raw(in.data, in.dtype, at + l * step);
    }
  } else if (in.reading == Reading::kLane) {
#pragma unroll
    for (int l = 0; l < kLanes; l++) {
      if (l < count) raw.v[l] = load_raw(in.data, in.dtype, walk_to<1>(p.rank, p.dims, in.strides, static_cast<Index>(first + l)));
    }
  }
  return raw;
}

__device__ inline Lanes halves(Lanes v) { return {v.v[0] & 0xffff, v.v[0] >> 16, v.v[1] & 0xffff, v.v[1] >> 16}; }
__device__ inline Lanes bytes(Lanes v) {
  return {v.v[0] & 0xff, v.v[0] >> 8 & 0xff, v.v[0] >> 16 & 0xff, v.v[0] >> 24};
}

__device__ inline Lanes unpack(DType t, bool packed, Lanes v) {
  switch (t) {
    case DType::kF16:
      if (packed) v = halves(v);
#pragma unroll
      for (uint32_t& x : v.v) x = __float_as_uint(to_float(Half{static_cast<uint16_t>(x)}));
      break;
    case DType::kBF16:
      if (packed) v = halves(v);
#pragma unroll
      for (uint32_t& x : v.v) x <<= 16;
      break;
    case DType::kU8:
      if (packed) v = bytes(v);
      break;
    case DType::kBool:
      if (packed) v = bytes(v);
#pragma unroll
      for (uint32_t& x : v.v) x = x != 0;
      break;
    default: break;
  }
  return v;
}

// The first `count` lanes, one by one unless `packed`.
template <class T>
__device__ inline void store_as(T* y, bool packed, int count, Lanes v) {
  if (packed && count == kLanes) {
    Pack<T, kLanes> pack;
#pragma unroll
    for (int l = 0; l < kLanes; l++) pack.v[l] = static_cast<T>(v.v[l]);
    store_pack(y, pack);
  } else {
#pragma unroll
    for (int l = 0; l < kLanes; l++) {
      if (l < count) y[l] = static_cast<T>(v.v[l]);
    }
  }
}

template <class Index>
__device__ inline void store_lanes(const Parameters<Index>& p, Index first, int count, Lanes v) {
  const int64_t at = first;
  switch (p.dtype) {
    case DType::kF16:
#pragma unroll
      for (uint32_t& x : v.v) x = to_half(__uint_as_float(x)).bits;
      return store_as(reinterpret_cast<uint16_t*>(p.y) + at, p.packed, count, v);
    case DType::kBF16:
#pragma unroll
      for (uint32_t& x : v.v) x = to_bf16(__uint_as_float(x)).bits;
      return store_as(reinterpret_cast<uint16_t*>(p.y) + at, p.packed, count, v);
    case DType::kBool:
#pragma unroll
      for (uint32_t& x : v.v) x = x != 0;
      [[fallthrough]];
    case DType::kU8: return store_as(reinterpret_cast<uint8_t*>(p.y) + at, p.packed, count, v);
    default: return store_as(reinterpret_cast<uint32_t*>(p.y) + at, p.packed, count, v);
  }
}

__device__ inline float as_float(uint32_t x) { return __uint_as_float(x); }
__device__ inline uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ inline uint32_t bits_of(uint32_t x) { return x; }
__device__ inline uint32_t bits_of(int32_t x) { return static_cast<uint32_t>(x); }
__device__ inline uint32_t bits_of(bool x) { return x; }

// Called, not inlined: long, rare, and four of each would crowd the instruction cache of every chain.
__device__ __attribute__((noinline)) float power(float x, float y) { return powf(x, y); }
__device__ __attribute__((noinline)) float sine(float x) { return sinf(x); }
__device__ __attribute__((noinline)) float cosine(float x) { return cosf(x); }

__device__ inline float sigmoid(float x) {  // e^-|x| never overflows
  const float z = expf(-fabsf(x));
  return __fdividef(x < 0 ? z : 1.0f, 1.0f + z);  // 2 ulp, for divisors up to 2^126
}
// Both truncate; by zero: 0; INT32_MIN / -1 wraps.
__device__ inline uint32_t quotient(int32_t x, int32_t y) {
  return y == 0 ? 0 : y == -1 ? 0u - static_cast<uint32_t>(x) : static_cast<uint32_t>(x / y);
}
__device__ inline int32_t remainder_of(int32_t x, int32_t y) { return y == 0 || y == -1 ? 0 : x % y; }
// Truncates; what no i32 holds is INT32_MIN.
__device__ inline int32_t to_int(float x) {
  return x >= -2147483648.0f && x < 2147483648.0f ? static_cast<int32_t>(x) : INT32_MIN;
}

template <int kTiles>
__device__ inline void compute(int op, const Tiles<kTiles>& a, const Tiles<kTiles>& b, const Tiles<kTiles>& c, Tiles<kTiles>& y) {
// The expression over lanes of a, b, c as floats (F), signed (I) or unsigned (U) numbers.
#define LANES(op, expression)                                                                       \
  case ElementOp::op:                                                                               \
    _Pragma("unroll") for (int l = 0; l < kTiles * kLanes; l++) y[l] = bits_of(expression); \
    break;
#define F(operand) as_float(operand[l])
#define I(operand) static_cast<int32_t>(operand[l])
#define U(operand) operand[l]
  switch (static_cast<ElementOp>(op)) {
    LANES(kAdd, F(a) + F(b))
    LANES(kSub, F(a) - F(b))
    LANES(kMul, F(a) * F(b))
    LANES(kDiv, F(a) / F(b))
    LANES(kMax, F(a) > F(b) || F(a) != F(a) ? F(a) : F(b))
    LANES(kMin, F(a) < F(b) || F(a) != F(a) ? F(a) : F(b))
    LANES(kPow, power(F(a), F(b)))
    LANES(kNeg, U(a) ^ 0x80000000u)
    LANES(kAbs, U(a) & 0x7fffffffu)
    LANES(kSign, F(a) > 0 ? 1.0f : F(a) < 0 ? -1.0f : F(a))
    LANES(kExp, expf(F(a)))
    LANES(kLog, logf(F(a)))
    LANES(kLog1p, log1pf(F(a)))
    LANES(kSqrt, sqrtf(F(a)))
    LANES(kRsqrt, 1.0f / sqrtf(F(a)))
    LANES(kReciprocal, 1.0f / F(a))
    LANES(kTanh, tanhf(F(a)))
    LANES(kErf, erff(F(a)))
    LANES(kSigmoid, sigmoid(F(a)))
    LANES(kSin, sine(F(a)))
    LANES(kCos, cosine(F(a)))
    LANES(kFloor, floorf(F(a)))
    LANES(kLt, F(a) < F(b))
    LANES(kLe, F(a) <= F(b))
    LANES(kEq, F(a) == F(b))
    LANES(kNe, F(a) != F(b))
    LANES(kAddI32, U(a) + U(b))
    LANES(kSubI32, U(a) - U(b))
    LANES(kMulI32, U(a) * U(b))
    LANES(kDivI32, quotient(I(a), I(b)))
    LANES(kModI32, remainder_of(I(a), I(b)))
    LANES(kMaxI32, I(a) > I(b) ? I(a) : I(b))
    LANES(kMinI32, I(a) < I(b) ? I(a) : I(b))
    LANES(kLtI32, I(a) < I(b))
    LANES(kLeI32, I(a) <= I(b))
    LANES(kEqI32, U(a) == U(b))
    LANES(kNeI32, U(a) != U(b))
    LANES(kAnd, U(a) & U(b))
    LANES(kOr, U(a) | U(b))
    LANES(kXor, U(a) ^ U(b))
    LANES(kNot, ~U(a))
    LANES(kSelect, U(a) != 0 ? U(b) : U(c))
    LANES(kSelectI32, U(a) != 0 ? U(b) : U(c))
    LANES(kToI32, to_int(F(a)))
    LANES(kToF32, static_cast<float>(I(a)))
    case ElementOp::kConst: case ElementOp::kConstI32: case ElementOp::kCount: break;  // constants are in their slots
  }
#undef LANES
#undef F
#undef I
#undef U
}

template <class Index, int kTiles>
__global__ void __launch_bounds__(kMostThreads)
    elementwise_kernel(const __grid_constant__ Parameters<Index> p) {
  begin_overlapped();
  SWITCHYARD_SHARED(shared);
  const int threads = static_cast<int>(blockDim.x);
  Lanes* const file = reinterpret_cast<Lanes*>(shared) + threadIdx.x;  // tile t of slot s at (s · kTiles + t) · threads
  const auto put = [&](int slot, int t, const Lanes& v) { file[(slot * kTiles + t) * threads] = v; };
  const auto put_all = [&](int slot, uint32_t x) {
#pragma unroll
    for (int t = 0; t < kTiles; t++) put(slot, t, {x, x, x, x});
  };
  for (int i = 0; i < p.inputs; i++) {
    const Input<Index>& in = p.in[i];
    if (in.reading == Reading::kOnce) put_all(in.slot, unpack(in.dtype, false, {load_raw(in.data, in.dtype, 0)}).v[0]);
  }
  for (int s = 0; s < p.constants; s++) put_all(p.code[s].to, p.code[s].bits);

  Tiles<kTiles> y{};
  const auto operand = [&](int slot) {
    if (slot == kAccumulator) return y;
    Tiles<kTiles> v;
#pragma unroll
    for (int t = 0; t < kTiles; t++) v.tile[t] = file[(slot * kTiles + t) * threads];
    return v;
  };
  const int64_t step = int64_t{gridDim.x} * threads * kLanes;
  for (int64_t start = (int64_t{blockIdx.x} * threads + threadIdx.x) * kLanes; start < p.size; start += kTiles * step) {
    const auto first = [&](int t) { return static_cast<Index>(start + t * step); };
    const auto count = [&](int t) {
      const int64_t rest = p.size - (start + t * step);
      return static_cast<int>(rest < 0 ? 0 : rest < kLanes ? rest : kLanes);
    };
    for (int i = 0; i < p.inputs; i += kTogether) {
      Tiles<kTiles> raw[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; j++) {
        if (i + j >= p.inputs || p.in[i + j].reading <= Reading::kOnce) continue;
#pragma unroll
        for (int t = 0; t < kTiles; t++) {
          if (count(t) > 0) raw[j].tile[t] = fetch(p, p.in[i + j], first(t), count(t));
        }
      }
#pragma unroll
      for (int j = 0; j < kTogether; j++) {
        if (i + j >= p.inputs || p.in[i + j].reading <= Reading::kOnce) continue;
        const Input<Index>& in = p.in[i + j];
#pragma unroll
        for (int t = 0; t < kTiles; t++) {
          if (count(t) > 0) put(in.slot, t, unpack(in.dtype, in.packed && count(t) == kLanes, raw[j].tile[t]));
        }
      }
    }
    for (int s = p.constants; s < p.steps; s++) {
      const ElementStep& code = p.code[s];
      Tiles<kTiles> a{}, b{}, c{};
      if (code.arity > 0) a = operand(code.from[0]);
      if (code.arity > 1) b = operand(code.from[1]);
      if (code.arity > 2) c = operand(code.from[2]);
      compute(code.op, a, b, c, y);
      if (code.to == kAccumulator) continue;
#pragma unroll
      for (int t = 0; t < kTiles; t++) put(code.to, t, y.tile[t]);
    }
    const Tiles<kTiles> result = operand(p.result);
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      if (count(t) > 0) store_lanes(p, first(t), count(t), result.tile[t]);
    }
  }
}

// Merges dimensions of the output that every input walks as one.
template <class Index>
void merge_dims(const Instruction& in, Parameters<Index>& p) {
  const Shape& shape = in.out[0]->shape;
  int64_t dims[kMaxRank], step[kMaxElementwiseInputs];
  std::fill_n(step, kMaxElementwiseInputs, int64_t{1});
  p.rank = 0;
  for (int d = shape.rank - 1; d >= 0; d--) {
    int64_t stride[kMaxElementwiseInputs];
    for (int i = 0; i < p.inputs; i++) {
      const Shape& s = in.in[i]->shape;
      const int own = d - (shape.rank - s.rank);
      const int64_t m = own >= 0 ? s[own] : 1;
      stride[i] = m == 1 ? 0 : step[i];
      step[i] *= m;
    }
    if (shape[d] == 1) continue;
    bool merge = p.rank > 0;
    for (int i = 0; merge && i < p.inputs; i++) {
      merge = stride[i] == int64_t{p.in[i].strides[p.rank - 1]} * dims[p.rank - 1];
    }
    if (merge) {
      dims[p.rank - 1] *= shape[d];
    } else {
      for (int i = 0; i < p.inputs; i++) p.in[i].strides[p.rank] = static_cast<Index>(stride[i]);
      dims[p.rank++] = shape[d];
    }
  }
  for (int d = 0; d < p.rank; d++) p.dims[d] = Divisor<Index>(dims[d]);
}

template <class Index>
void set_reading(const Operand& x, int slot, const Parameters<Index>& p, Input<Index>& in) {
  const int64_t n = x.shape.size(), bytes = dtype_size(x.dtype);
  in.data = x.data, in.dtype = x.dtype, in.slot = static_cast<uint8_t>(slot);
  in.packed = is_aligned(x.data, kLanes * bytes);
  if (slot < 0) {
    in.reading = Reading::kUnread;
  } else if (n == p.size) {
    in.reading = Reading::kFlat;
  } else if (n == 1) {
    in.reading = Reading::kOnce;
  } else if (p.dims[0].size % kLanes == 0) {
    in.reading = Reading::kRow;
    in.packed = in.packed && in.strides[0] == 1;
    for (int d = 1; d < p.rank; d++) in.packed = in.packed && in.strides[d] % kLanes == 0;
  } else {
    in.reading = Reading::kLane;
    in.packed = false;
  }
}

template <class Index>
void run_with(const Instruction& in, const Launch& on) {
  const Operand& y = *in.out[0];
  Parameters<Index> p{};
  p.inputs = static_cast<int>(in.in.size());
  p.size = static_cast<Index>(y.shape.size());
  p.y = y.data, p.dtype = y.dtype, p.packed = is_aligned(y.data, kLanes * dtype_size(y.dtype));
  const ElementPlan plan = plan_elements(p.inputs, in.attrs[0].ints);
  p.constants = plan.constants, p.steps = plan.steps, p.result = plan.result;
  std::copy_n(plan.code, plan.steps, p.code);
  merge_dims(in, p);
  for (int i = 0; i < p.inputs; i++) set_reading(*in.in[i], plan.input_slot[i], p, p.in[i]);
  // Two tiles a thread share the decoding of a step, where enough threads are left to fill the device.
  const int64_t tiles = (y.shape.size() + kLanes - 1) / kLanes;
  const bool two = sizeof(Index) == 4 && tiles >= kMostTiles * on.device->multiprocessors * int64_t{2048};
  int threads = kMostThreads;
  const int64_t slots = int64_t{plan.slots} * static_cast<int64_t>(sizeof(Lanes)) * (two ? 2 : 1);
  while (threads > 32 && slots * threads > kMostShared) threads /= 2;
  launch(kOverlapped, two ? elementwise_kernel<Index, sizeof(Index) == 4 ? 2 : 1> : elementwise_kernel<Index, 1>,
         grid_for(two ? tiles / 2 : tiles, threads, on), threads, slots * threads, on, p);
}

void run(const Instruction& in, const Launch& on) {
  if (in.out[0]->shape.size() == 0) return;
  if (in.out[0]->shape.size() < kSmall - kLanes) {
    run_with<int32_t>(in, on);
  } else {
    run_with<int64_t>(in, on);
  }
}

}  // namespace

void register_elementwise(KernelTable& t) { t.add({"elementwise", run}); }

}  // namespace switchyard::cuda
