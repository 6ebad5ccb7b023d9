// `kv_copy`: whole blocks of a paged cache to other blocks, in place, so that a sequence can part from one it shared with.
#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

void prepare(Instruction& instruction) {
  require_counts(instruction, 2, 2, 1, 1);
  const Operand *cache = instruction.in[0], *pairs = instruction.in[1];
  require_dense(instruction, cache, "cache is missing or a weight, expected a tensor");
  require_that(instruction, cache->shape.rank >= 1, "cache is a scalar, expected blocks");
  require_tensor(instruction, pairs, "pairs", DType::kI32, 2);
  require_dim(instruction, "columns of pairs", pairs->shape[1], 2);
  require_dense(instruction, instruction.out[0], "the output cache is missing");
  require_that(instruction, instruction.out[0]->shape == cache->shape && instruction.out[0]->dtype == cache->dtype,
               "input and output cache differ in shape or dtype");
}

void run(const Instruction& instruction, const Context& context) {
  const Operand *cache = instruction.out[0], *pairs = instruction.in[1];
  const int64_t blocks = cache->shape[0], n = pairs->shape[0];
  const int64_t bytes = cache->shape.size() * static_cast<int64_t>(dtype_size(cache->dtype));
  const int32_t* at = pairs->as<int32_t>();
  for (int64_t i = 0; i < 2 * n; i++) {
    if (at[i] < -1 || at[i] >= blocks) {
      fail(ErrorCode::kOption, "[kv_copy] got block %d in pair %lld, expected -1…%lld", at[i], (long long)(i / 2),
           (long long)blocks - 1);
    }
  }
  if (cache->data != instruction.in[0]->data && bytes > 0) {
    std::memcpy(cache->data, instruction.in[0]->data, static_cast<size_t>(bytes));
  }
  if (blocks == 0) return;
  const int64_t page = bytes / blocks;
  // Each thread does all pairs in order for its stretch of the pages: a block may be a target first and a source later.
  parallel_ranges(context, page, n, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < n; i++) {
      const int64_t from = at[2 * i], to = at[2 * i + 1];
      if (from < 0 || to < 0 || from == to) continue;
      std::memcpy(cache->data + to * page + begin, cache->data + from * page + begin, static_cast<size_t>(end - begin));
    }
  });
}

}  // namespace

void register_kv_copy(KernelRegistry& registry) { registry.add({"kv_copy", "", prepare, run, InPlace::kAny}); }

}  // namespace switchyard
