// repetition_penalty(penalty, from): scores of tokens in history[from…] are divided by the penalty where positive, multiplied
// where negative; once per token (Keskar et al. 2019).
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void repetition_penalty(Row& row, Record& record) {
  const auto penalty = float(record.finite());
  const auto ids = row.history_from(record.index());
  if (!(penalty > 0)) fail(ErrorCode::kOption, "[sample] got a repetition penalty of %g, expected more than 0", double(penalty));
  row.settle();
  int32_t* seen = row.memory.counts;
  for (const int32_t id : ids) {
    if (row.has(id)) seen[id] = 0;
  }
  for (const int32_t id : ids) {
    if (!row.has(id) || seen[id]++ > 0) continue;
    const float score = row.score_of(id);
    row.set_score(id, score < 0 ? score * penalty : score / penalty);
  }
}

}  // namespace switchyard::samplers
