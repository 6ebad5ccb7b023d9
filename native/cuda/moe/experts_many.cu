// moe_experts for many rows: hidden = act(gate·x, up·x) in one pass over tiles of rows, down in a second, and the weighted sum of
// each token's rows.
#include <algorithm>

#include "cuda/linear/many_epilogue.h"
#include "cuda/linear/many_weights.h"
#include "cuda/linear/scratch.h"
#include "cuda/moe/combine.h"
#include "cuda/moe/experts_many.h"

namespace switchyard::cuda {
namespace {

int64_t expanded(const DeviceWeight* w, int64_t experts) { return w == nullptr ? 0 : many::part_bytes(*w, experts, w->panels()); }
int64_t experts_a_turn(const ExpertLayer& l, int64_t expand_bytes) {
  const int64_t bytes = expanded(l.gate, 1) + expanded(l.up, 1) + expanded(l.down, 1);
  return bytes == 0 ? l.E : std::clamp<int64_t>(expand_bytes / bytes, 1, l.E);
}

struct Scratch {
  int64_t turn;  // experts of one
  ScratchParts parts;
  Bf16 *x, *hidden, *rows;
  std::byte *gate, *up, *down, *tiles;

  Scratch(const ExpertLayer& l, const ManyTuning& tuning, std::byte* memory)
      : turn(experts_a_turn(l, tuning.expand_bytes)),
        parts{memory},
        x(parts.take<Bf16>(l.N * many::padded_columns(l.D) * 2)),
        hidden(parts.take<Bf16>(l.R * many::padded_columns(l.F) * 2)),
        rows(parts.take<Bf16>(l.R * l.D * 2)),
        gate(parts.take<std::byte>(expanded(l.gate, turn))),
        up(parts.take<std::byte>(expanded(l.up, turn))),
        down(parts.take<std::byte>(expanded(l.down, turn))),
        tiles(parts.take<std::byte>(many::TileList::bytes(l.R, l.E, many::kLeastTileRows))) {}
};

many::Rule rule_of(const ExpertLayer& l) {
  if (l.limit > 0) return many::Rule::kClamped;
  constexpr many::Rule kRules[] = {many::Rule::kSilu, many::Rule::kGelu, many::Rule::kGeluTanh, many::Rule::kRelu};
  return kRules[l.activation];
}

many::Panels panels_of(const DeviceWeight& w, const many::Work& work, std::byte* room, const Launch& on) {
  return many::launch_expand(w, {work.first_expert, work.experts, 0, w.panels()}, work.tiles, room, on);
}

template <class S>
void run_hidden(const ExpertLayer& l, const Scratch& scratch, many::Work work, const Launch& on) {
  const int64_t stride = many::padded_columns(l.F);
  work.columns = l.D, work.x = scratch.x, work.row_token = l.row_token, work.tokens = l.N;
  const many::Panels up = panels_of(*l.up, work, scratch.up, on);
  if (l.gate != nullptr) {
    work.first = panels_of(*l.gate, work, scratch.gate, on), work.second = up;
    work.groups = static_cast<int>(stride / 64);
    many::launch_product<S>(work, many::HiddenStore{scratch.hidden, stride, static_cast<int>(l.F), l.gate_bias, l.up_bias,
                                                    rule_of(l), l.limit, l.slope}, on);
  } else {
    work.first = up;
    work.groups = static_cast<int>((stride + 127) / 128);
    many::launch_product<S>(work, many::RowStore<Bf16>{scratch.hidden, stride, static_cast<int>(stride), static_cast<int>(l.F),
                                                       l.up_bias, rule_of(l)}, on);
  }
}

template <class S>
void run_down(const ExpertLayer& l, const Scratch& scratch, many::Work work, const Launch& on) {
  work.first = panels_of(*l.down, work, scratch.down, on);
  work.columns = l.F, work.x = scratch.hidden, work.row_token = nullptr, work.tokens = l.R;
  work.groups = static_cast<int>((l.D + 127) / 128);
  const int outputs = static_cast<int>(l.D);
  many::launch_product<S>(work, many::RowStore<Bf16>{scratch.rows, l.D, outputs, outputs, l.down_bias, many::Rule::kNone}, on);
}

template <class S>
void run(const ExpertLayer& l, const ManyTuning& tuning, uint32_t instruction, const Launch& on, unsigned steps) {
  const Scratch scratch(l, tuning, on.scratch);
  many::Work work;
  work.tiles = many::TileList::at(scratch.tiles, l.R, l.E, S::kRows), work.instruction = instruction, work.error = on.error;
  if (steps & kRound) many::launch_round(l.x, l.N, l.D, scratch.x, on);
  if (steps & kTiles) {
    // Without tokens no row has one: offsets other than 0 are wrong then.
    many::launch_tile_list(l.offsets, l.E, l.N == 0 ? 0 : l.R, S::kRows, work.tiles, instruction, on);
  }
  for (int64_t e = 0; e < l.E; e += scratch.turn) {
    work.first_expert = static_cast<int>(e), work.experts = static_cast<int>(std::min(scratch.turn, l.E - e));
    if (steps & kHidden) run_hidden<S>(l, scratch, work, on);
    if (steps & kDown) run_down<S>(l, scratch, work, on);
  }
  if (steps & kCombine) {
    many::launch_clear_unused(scratch.rows, l.R, l.D, work.tiles, on);
    launch_combine<Bf16>(scratch.rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y, instruction, on);
  }
}

}  // namespace

bool has_many(const ExpertLayer& l) {
  for (const DeviceWeight* w : {l.gate, l.up, l.down}) {
    if (w != nullptr && !has_many(w->format)) return false;
  }
  return true;
}

int64_t many_scratch(const ExpertLayer& l, const ManyTuning& tuning) { return Scratch(l, tuning, nullptr).parts.bytes; }
int64_t many_scratch(const ExpertLayer& l, const DeviceLimits& device) { return many_scratch(l, many_tuning(device)); }

void launch_many(const ExpertLayer& l, const ManyTuning& tuning, uint32_t instruction, const Launch& on, unsigned steps) {
  many::with_shape(tuning.way, [&]<class S>() { run<S>(l, tuning, instruction, on, steps); });
}
void launch_many(const ExpertLayer& l, uint32_t instruction, const Launch& on) {
  launch_many(l, many_tuning(*on.device), instruction, on);
}

}  // namespace switchyard::cuda
