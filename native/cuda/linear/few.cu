// Products of at most kFewRows rows of activations, rounded to bf16: weights are streamed once (stream.h).
#include "cuda/linear/few.h"

#include "cuda/linear/stream_rows.h"

namespace switchyard::cuda {

bool has_few(Format f) { return f != Format::kF32; }

int64_t few_scratch(const Product& p, const DeviceLimits&) { return row_tiles_bytes(p.rows, p.experts, p.weight->columns); }

void launch_few(const Product& p, const StreamTuning& tuning, uint32_t instruction, const Launch& on, std::byte* scratch) {
  const DeviceWeight& w = *p.weight;
  const PlanRows plan{p.offsets, p.row_token, p.experts, p.rows, p.tokens};
  launch_row_tiles(p.x, plan, w.columns, order_of(w.format), scratch, p.y, w.rows, instruction, on);
  launch_stream<1>(w, nullptr, plan, scratch, tuning, RowsStore{p.y, nullptr, w.rows}, instruction, on);
}

void launch_few(const Product& p, uint32_t instruction, const Launch& on, std::byte* scratch) {
  StreamTuning tuning;
  tuning.panels = task_panels(p.weight->panels() * std::min(p.experts, p.rows), on.device->multiprocessors, {1, 2, 4});
  launch_few(p, tuning, instruction, on, scratch);
}

}  // namespace switchyard::cuda
