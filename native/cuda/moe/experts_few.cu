// moe_experts for few tokens: the weights of the experts that have rows are streamed once (linear/stream.h), gate and up together.
// Activations and what is between the products are bf16. The grids start early, each fills its rings with weights while the one
// before ends.
#include "cuda/moe/experts_few.h"

#include "cuda/linear/stream_rows.h"
#include "cuda/moe/combine.h"
#include "cuda/moe/stream_hidden.h"

namespace switchyard::cuda {
namespace {

struct FewScratch {
  std::byte *x, *hidden;
  float* rows;
  int64_t bytes = 0;

  FewScratch(const ExpertLayer& l, std::byte* from) {
    const auto take = [&](int64_t n) {
      std::byte* p = from + bytes;
      bytes += (n + 255) / 256 * 256;
      return p;
    };
    x = take(row_tiles_bytes(l.R, l.E, l.D)), hidden = take(row_tiles_bytes(l.R, l.E, l.F));
    rows = reinterpret_cast<float*>(take(l.R * l.D * 4));
  }
};

}  // namespace

bool has_few(const ExpertLayer& l) {
  return (l.gate == nullptr || l.gate->format == l.up->format) && has_few(l.up->format) && has_few(l.down->format);
}

int64_t few_scratch(const ExpertLayer& l, const DeviceLimits&) { return FewScratch(l, nullptr).bytes; }

void launch_few(const ExpertLayer& l, const FewTuning& tuning, uint32_t instruction, const Launch& on) {
  const FewScratch scratch(l, on.scratch);
  const HiddenRule rule{l.activation, l.limit, l.slope};
  const PlanRows plan{l.offsets, l.row_token, l.E, l.R, l.N};
  launch_row_tiles(l.x, plan, l.D, order_of(l.up->format), scratch.x,
                   ClearedRows{{scratch.rows}, {l.D}}, instruction, on);
  const HiddenStore store{rule, l.gate_bias, l.up_bias, l.F, order_of(l.down->format), reinterpret_cast<uint32_t*>(scratch.hidden)};
  if (l.gate != nullptr) {
    launch_stream_gated(*l.gate, *l.up, plan, scratch.x, tuning.hidden, store, instruction, on);
  } else {
    launch_stream_plain(*l.up, plan, scratch.x, tuning.hidden, store, instruction, on);
  }
  const DeviceWeight* const down[] = {l.down};
  launch_stream_rows(down, plan, scratch.hidden, tuning.rows, RowsStore{{scratch.rows}, {l.D}, l.down_bias}, instruction, on);
  launch_combine(scratch.rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y, instruction, on,
                 Start::kEarly);
}

void launch_few(const ExpertLayer& l, uint32_t instruction, const Launch& on) {
  launch_few(l, FewTuning{}, instruction, on);
}

}  // namespace switchyard::cuda
