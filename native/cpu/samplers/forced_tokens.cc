// forced_tokens(ids): only these tokens stay, equally likely whatever their scores were; ids rise. This is how transformers forces
// an end token.
#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

void forced_tokens(Row& row, Record& record) {
  row.settle();
  int64_t kept = 0;
  for (const int32_t id : record.list()) {
    if (!row.has(id) || (kept > 0 && id <= row.memory.ids[kept - 1])) {
      fail(ErrorCode::kOption, "[sample] got forced token %d, expected rising ids from 0 to %lld", id,
           (long long)row.vocabulary - 1);
    }
    row.set_score(id, 0);
    row.memory.ids[kept++] = id;
  }
  row.list(kept);
}

}  // namespace switchyard::samplers
