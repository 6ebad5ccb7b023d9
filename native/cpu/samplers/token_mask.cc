// token_mask(bits): only tokens whose bit is 1 stay; bit i of word w stands for token 32·w + i. Tokens past the end go.
#include <bit>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void token_mask(Row& row, Record& record) {
  const auto bits = record.list();
  const auto word_of = [&](int64_t id) { return size_t(id / 32) < bits.size() ? uint32_t(bits[size_t(id / 32)]) : 0; };
  const auto allowed = [&](int64_t id) { return (word_of(id) >> (id % 32) & 1) != 0; };
  int64_t count = 0;
  for (const int32_t word : bits) count += std::popcount(uint32_t(word));
  if (!row.dense()) return row.keep_if([&](int64_t i) { return allowed(row.id(i)); });
  if (count <= row.vocabulary / 2) {
    int64_t kept = 0;
    int32_t* ids = row.memory.ids;
    for (int64_t w = 0; w * 32 < row.vocabulary && size_t(w) < bits.size(); w++) {
      for (auto rest = uint32_t(bits[size_t(w)]); rest != 0; rest &= rest - 1) {
        const int64_t id = w * 32 + std::countr_zero(rest);
        if (id < row.vocabulary) ids[kept++] = int32_t(id);
      }
    }
    return row.list(kept);
  }
  // Few are banned: a list of the others would be longer than the vocabulary is worth.
  for (int64_t from = 0; from < row.vocabulary; from += 32) {
    for (uint32_t rest = ~word_of(from); rest != 0; rest &= rest - 1) {
      const int64_t id = from + std::countr_zero(rest);
      if (id < row.vocabulary) row.set_score(int32_t(id), -INFINITY);
    }
  }
}

}  // namespace switchyard::samplers
