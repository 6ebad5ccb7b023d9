// `kv_write`: new keys or values go to their slots in a paged cache, in place.
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

void prepare(Instruction& instruction) {
  require_counts(instruction, 3, 3, 1, 1);
  const Operand *cache = instruction.in[0], *x = instruction.in[1], *slots = instruction.in[2];
  require_dense(instruction, cache, "cache is missing or a weight, expected a tensor");
  require_tensor(instruction, cache, "cache", cache->dtype == DType::kF16 ? DType::kF16 : DType::kF32, 4);
  require_tensor(instruction, x, "x", DType::kF32, 3);
  require_tensor(instruction, slots, "slots", DType::kI32, 1);
  require_dim(instruction, "kv heads", x->shape[1], cache->shape[1]);
  require_dim(instruction, "head dim", x->shape[2], cache->shape[3]);
  require_dim(instruction, "slots", slots->shape[0], x->shape[0]);
  require_tensor(instruction, instruction.out[0], "cache", cache->dtype, 4);
  require_that(instruction, instruction.out[0]->shape == cache->shape,
               "input and output cache differ in shape");
}

void run(const Instruction& instruction, const Context& context) {
  const Operand *cache = instruction.out[0], *in = instruction.in[1];
  const int64_t groups = cache->shape[1], block = cache->shape[2], c = cache->shape[3];
  const int64_t n = in->shape[0], places = cache->shape[0] * block, size = dtype_size(cache->dtype);
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
  // Serial: two rows may name one slot (the later one stays), and the bytes are few beside those of
  // attention.
  for (int64_t i = 0; i < n; i++) {
    if (slots[i] < 0) continue;
    const int64_t at = slots[i] / block, place = slots[i] % block;
    for (int64_t g = 0; g < groups; g++) {
      store(cache->data + (((at * groups + g) * block + place) * c) * size,
            in->as<float>() + (i * groups + g) * c, c);
    }
  }
}

}  // namespace

void register_kv_write(KernelRegistry& registry) {
  registry.add({"kv_write", "", prepare, run, InPlace::kAny});
}

}  // namespace switchyard
