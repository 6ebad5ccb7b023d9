// moe_experts for many rows: hidden = act(gate·x, up·x) in one pass over tiles of rows, down in a second, and the weighted sum of
// each token's rows.
#include "cuda/linear/many_epilogue.h"
#include "cuda/moe/combine.h"
#include "cuda/moe/experts.h"
#include "cuda/moe/experts_many.h"

namespace switchyard::cuda {
namespace {

// What lies in scratch, one after another.
struct Parts {
  std::byte* at;
  int64_t bytes = 0;

  template <class T>
  T* take(int64_t size) {
    T* p = at == nullptr ? nullptr : reinterpret_cast<T*>(at + bytes);
    bytes += (size + 255) / 256 * 256;
    return p;
  }
};
struct Scratch {
  Parts parts;
  Bf16 *x, *hidden, *rows;
  many::TileList* tiles;

  Scratch(const ExpertLayer& l, std::byte* memory)
      : parts{memory},
        x(parts.take<Bf16>(l.N * many::padded_columns(l.D) * 2)),
        hidden(parts.take<Bf16>(l.R * many::padded_columns(l.F) * 2)),
        rows(parts.take<Bf16>(l.R * l.D * 2)),
        tiles(parts.take<many::TileList>(many::tile_list_bytes(l.R, l.E, many::kLeastTileRows))) {}
};

many::Rule rule_of(const ExpertLayer& l) {
  if (l.limit > 0) return many::Rule::kClamped;
  constexpr many::Rule kRules[] = {many::Rule::kSilu, many::Rule::kGelu, many::Rule::kGeluTanh, many::Rule::kRelu};
  return kRules[l.activation];
}

template <class S>
void run_hidden(const ExpertLayer& l, const Scratch& scratch, many::Work work, const Launch& on) {
  const int64_t stride = many::padded_columns(l.F);
  work.columns = l.D, work.x = scratch.x, work.row_token = l.row_token, work.tokens = l.N;
  if (l.gate != nullptr) {
    work.first = many::Panels::of(*l.gate), work.second = many::Panels::of(*l.up);
    work.groups = static_cast<int>(stride / 64);
    many::launch_product<S>(work, many::HiddenStore{scratch.hidden, stride, static_cast<int>(l.F), l.gate_bias, l.up_bias,
                                                    rule_of(l), l.limit, l.slope}, on);
  } else {
    work.first = many::Panels::of(*l.up);
    work.groups = static_cast<int>((stride + 127) / 128);
    many::launch_product<S>(work, many::RowStore<Bf16>{scratch.hidden, stride, static_cast<int>(stride), static_cast<int>(l.F),
                                                       l.up_bias, rule_of(l)}, on);
  }
}

template <class S>
void run_down(const ExpertLayer& l, const Scratch& scratch, many::Work work, const Launch& on) {
  work.first = many::Panels::of(*l.down);
  work.columns = l.F, work.x = scratch.hidden, work.row_token = nullptr, work.tokens = l.R;
  work.groups = static_cast<int>((l.D + 127) / 128);
  const int outputs = static_cast<int>(l.D);
  many::launch_product<S>(work, many::RowStore<Bf16>{scratch.rows, l.D, outputs, outputs, l.down_bias, many::Rule::kNone}, on);
}

template <class S>
void run(const ExpertLayer& l, uint32_t instruction, const Launch& on, unsigned steps) {
  const Scratch scratch(l, on.scratch);
  many::Work work;
  work.tiles = scratch.tiles, work.instruction = instruction, work.error = on.error;
  if (steps & kRound) many::launch_round(l.x, l.N, l.D, scratch.x, on);
  if (steps & kTiles) {
    // Without tokens no row has one: offsets other than 0 are wrong then.
    many::launch_tile_list(l.offsets, l.E, l.N == 0 ? 0 : l.R, S::kRows, scratch.tiles, instruction, on);
  }
  if (steps & kHidden) run_hidden<S>(l, scratch, work, on);
  if (steps & kDown) run_down<S>(l, scratch, work, on);
  if (steps & kCombine) {
    many::launch_clear_unused(scratch.rows, l.R, l.D, scratch.tiles, on);
    launch_combine<Bf16>(scratch.rows, l.slot_row, l.weights, l.R, l.N, l.K, l.D, l.y, instruction, on);
  }
}

}  // namespace

bool takes_many(const ExpertLayer& l) {
  for (const DeviceWeight* w : {l.gate, l.up, l.down}) {
    if (w != nullptr && w->format != Format::kBF16) return false;
  }
  return true;
}

int64_t many_scratch(const ExpertLayer& l, const DeviceLimits&) { return Scratch(l, nullptr).parts.bytes; }

void launch_many(const ExpertLayer& l, many::Way way, uint32_t instruction, const Launch& on, unsigned steps) {
  many::with_shape(way, [&]<class S>() { run<S>(l, instruction, on, steps); });
}
void launch_many(const ExpertLayer& l, uint32_t instruction, const Launch& on) {
  launch_many(l, many::way_for(*on.device), instruction, on);
}

}  // namespace switchyard::cuda
