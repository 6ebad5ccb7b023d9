// count_penalty(frequency, presence, from): a token that occurs c > 0 times in history[from…] loses c·frequency + presence
// (the frequency and presence penalties of OpenAI's API).
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void count_penalty(Row& row, Record& record) {
  const double frequency = record.finite(), presence = record.finite();
  const auto ids = row.history_from(record.index());
  row.settle();
  int32_t* counts = row.memory.counts;
  for (const int32_t id : ids) {
    if (row.has(id)) counts[id] = 0;
  }
  for (const int32_t id : ids) {
    if (row.has(id)) counts[id]++;
  }
  for (const int32_t id : ids) {
    if (!row.has(id) || counts[id] == 0) continue;
    row.set_score(id, float(double(row.score_of(id)) - (counts[id] * frequency + presence)));
    counts[id] = 0;
  }
}

}  // namespace switchyard::samplers
