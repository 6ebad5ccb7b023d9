// Every kind of record of a sampler chain, in the order of KINDS in src/generate/samplers/kinds.ts: the place is the code.
#pragma once
#include "cpu/samplers/record.h"
#include "cpu/samplers/row.h"
#include "cpu/samplers/select.h"

// name, whether it changes scores
#define SY_SAMPLERS(each)         \
  each(greedy, false)             \
  each(temperature, false)        \
  each(top_k, false)              \
  each(top_p, false)              \
  each(min_p, false)              \
  each(typical, false)            \
  each(tail_free, false)          \
  each(epsilon, false)            \
  each(eta, false)                \
  each(mirostat, false)           \
  each(xtc, false)                \
  each(repetition_penalty, true)  \
  each(count_penalty, true)       \
  each(dry, true)                 \
  each(no_repeat_ngram, true)     \
  each(token_bias, true)          \
  each(sequence_bias, true)       \
  each(token_mask, true)          \
  each(forced_tokens, true)

namespace switchyard::samplers {

// Each in a file of its name. A function reads its words and changes the row; it leaves at least one candidate unless scores
// of all are -inf.
#define SY_DECLARE(name, edits) void name(Row& row, Record& record);
SY_SAMPLERS(SY_DECLARE)
#undef SY_DECLARE

}  // namespace switchyard::samplers
