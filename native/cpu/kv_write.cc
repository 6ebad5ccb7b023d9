// `kv_write`: new keys or values go to their slots in a paged cache, in place.
//
// A block holds for each head its values row after row, [size, C], or its keys channel after channel, [C, size], so that
// attention finds 16 keys in a vector without turning them. Codes of 8 bits are followed by their scales, f32 [size].
#include <cmath>
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kScaleBytes = sizeof(float);

void prepare(Instruction& instruction) {
  require_counts(instruction, 3, 3, 1, 1);
  const Operand *cache = instruction.in[0], *x = instruction.in[1], *slots = instruction.in[2];
  require_dense(instruction, cache, "cache is missing or a weight, expected a tensor");
  const bool codes = cache->dtype == DType::kU8;
  const bool known = codes || cache->dtype == DType::kF16 || cache->dtype == DType::kBF16;
  require_tensor(instruction, cache, "cache", known ? cache->dtype : DType::kF32, 4);
  require_tensor(instruction, x, "x", DType::kF32, 3);
  require_tensor(instruction, slots, "slots", DType::kI32, 1);
  const bool transpose = instruction.attrs[0].i != 0;
  require_dim(instruction, "kv heads", x->shape[1], cache->shape[1]);
  require_dim(instruction, codes ? "head dim and 4 bytes of scale" : "head dim", cache->shape[transpose ? 2 : 3],
              x->shape[2] + (codes ? kScaleBytes : 0));
  require_dim(instruction, "slots", slots->shape[0], x->shape[0]);
  require_tensor(instruction, instruction.out[0], "cache", cache->dtype, 4);
  require_that(instruction, instruction.out[0]->shape == cache->shape,
               "input and output cache differ in shape");
  // A row on its way into a cache of another type.
  instruction.worker_scratch = x->shape[2] * kScaleBytes;
}

// x ≈ scale · code, scale = max|x| / 127, codes to nearest even. A row that is not finite has the scale NaN. Plain
// operations of one rounding each: the same bits on every tier.
float quantize(const float* x, int64_t n, int8_t* codes) {
  int32_t top = 0;  // bits of magnitudes are ordered as the magnitudes are, NaN last
  for (int64_t c = 0; c < n; c++) {
    int32_t bits;
    std::memcpy(&bits, x + c, sizeof bits);
    top = std::max(top, bits & 0x7fffffff);
  }
  float largest;
  std::memcpy(&largest, &top, sizeof largest);
  std::fill_n(codes, n, int8_t{0});
  if (!std::isfinite(largest)) return NAN;
  if (largest < 1e-30f) return 0.0f;  // its inverse might overflow
  const float inverse = 127.0f / largest;
  constexpr float kRound = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
  for (int64_t c = 0; c < n; c++) codes[c] = static_cast<int8_t>(x[c] * inverse + kRound - kRound);
  return largest / 127.0f;
}

// n elements from `from` to `to`, `distance` elements apart.
template <class T>
void scatter(const std::byte* from, std::byte* to, int64_t n, int64_t distance) {
  const T* x = reinterpret_cast<const T*>(from);
  T* y = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < n; i++) y[i * distance] = x[i];
}

void scatter(const std::byte* from, std::byte* to, int64_t n, int64_t distance, int64_t size) {
  if (distance == 1) {
    std::memcpy(to, from, static_cast<size_t>(n * size));
    return;
  }
  switch (size) {
    case 1: return scatter<uint8_t>(from, to, n, distance);
    case 2: return scatter<uint16_t>(from, to, n, distance);
    default: return scatter<uint32_t>(from, to, n, distance);
  }
}

void run(const Instruction& instruction, const Context& context) {
  const Operand *cache = instruction.out[0], *in = instruction.in[1];
  const bool transpose = instruction.attrs[0].i != 0, codes = cache->dtype == DType::kU8;
  const int64_t groups = cache->shape[1], block = cache->shape[transpose ? 3 : 2], c = in->shape[2];
  const int64_t n = in->shape[0], places = cache->shape[0] * block, size = dtype_size(cache->dtype);
  const int64_t page = cache->shape[2] * cache->shape[3] * size;  // bytes of a block and head
  const int32_t* slots = instruction.in[2]->as<int32_t>();
  for (int64_t i = 0; i < n; i++) {
    if (slots[i] < -1 || slots[i] >= places) {
      fail(ErrorCode::kOption, "[kv_write] got slot %d for row %lld, expected -1…%lld", slots[i],
           (long long)i, (long long)places - 1);
    }
  }
  if (cache->data != instruction.in[0]->data && cache->shape.size() > 0) {
    std::memcpy(cache->data, instruction.in[0]->data, size_t(cache->shape.size() * size));
  }
  const auto store = math_table(context.tier).store[static_cast<int>(cache->dtype)];
  // A head is one thread's: two rows may name one slot, and the later one stays.
  parallel_ranges(context, groups, n * c, [&](int64_t begin, int64_t end, int worker) {
    std::byte* row = context.scratch_of(worker);
    for (int64_t g = begin; g < end; g++) {
      for (int64_t i = 0; i < n; i++) {
        if (slots[i] < 0) continue;
        const int64_t place = slots[i] % block;
        std::byte* to = cache->data + (slots[i] / block * groups + g) * page;
        const float* x = in->as<float>() + (i * groups + g) * c;
        if (codes) {
          const float scale = quantize(x, c, reinterpret_cast<int8_t*>(row));
          std::memcpy(to + block * c + place * kScaleBytes, &scale, sizeof scale);
        } else {
          store(row, x, c);
        }
        scatter(row, to + (transpose ? place : place * c) * size, c, transpose ? block : 1, size);
      }
    }
  });
}

}  // namespace

void register_kv_write(KernelRegistry& registry) {
  registry.add({"kv_write", "transpose:int", prepare, run, InPlace::kAny});
}

}  // namespace switchyard
