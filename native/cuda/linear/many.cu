// Products of many rows with a packed weight: y of f32, x rounded to bf16.
#include "cuda/linear/many.h"

#include <algorithm>

#include "cuda/linear/many_epilogue.h"
#include "cuda/linear/many_weights.h"
#include "cuda/linear/scratch.h"

namespace switchyard::cuda {
namespace {

many::Part first_part(const Product& p, int64_t expand_bytes) {
  const DeviceWeight& w = *p.weight;
  many::Part part{0, p.experts, 0, w.panels()};
  if (many::reads_panels(w)) return part;
  const int64_t panel = std::max<int64_t>(1, many::part_bytes(w, 1, 1)), fit = std::max<int64_t>(many::kGroupPanels, expand_bytes / panel);
  part.panels = std::min(w.panels(), fit / many::kGroupPanels * many::kGroupPanels);
  part.experts = std::clamp<int64_t>(fit / std::max<int64_t>(1, w.panels()), 1, p.experts);
  return part;
}

// Rows of a tile: fewer where that leaves fewer multiprocessors idle. A tile's time grows with its rows, and with what its weights
// take to come.
template <class S>
int tile_rows(const Product& p, int64_t groups, const DeviceLimits& device) {
  constexpr int64_t kWeightRows = 64;
  int best = S::kRows;
  int64_t least = 0;
  for (int rows = S::kRows; rows >= many::kLeastTileRows; rows /= 2) {
    const int64_t items = (p.experts == 1 ? (p.rows + rows - 1) / rows : p.rows / rows + p.experts) * groups;
    const int64_t time = (items + device.multiprocessors - 1) / device.multiprocessors * (rows + kWeightRows);
    if (rows == S::kRows || time < least) best = rows, least = time;
  }
  return best;
}

struct Scratch {
  ScratchParts parts;
  Bf16* x;
  std::byte *room, *tiles;

  Scratch(const Product& p, const many::Part& part, std::byte* memory)
      : parts{memory},
        x(parts.take<Bf16>(p.tokens * many::padded_columns(p.weight->columns) * 2)),
        room(parts.take<std::byte>(many::part_bytes(*p.weight, part.experts, part.panels))),
        tiles(parts.take<std::byte>(many::TileList::bytes(p.rows, p.experts, many::kLeastTileRows))) {}
};

template <class S>
void run(const Product& p, int64_t expand_bytes, uint32_t instruction, const Launch& on, std::byte* memory) {
  const DeviceWeight& w = *p.weight;
  const many::Part size = first_part(p, expand_bytes);
  const Scratch scratch(p, size, memory);
  many::Work work;
  const int rows = tile_rows<S>(p, (size.panels + many::kGroupPanels - 1) / many::kGroupPanels, *on.device);
  work.tiles = many::TileList::at(scratch.tiles, p.rows, p.experts, rows);
  work.columns = w.columns, work.x = scratch.x, work.row_token = p.row_token, work.tokens = p.tokens;
  work.instruction = instruction, work.error = on.error;
  many::launch_round(p.x, p.tokens, w.columns, scratch.x, on);
  // Without tokens no row has one: offsets other than 0 are wrong then.
  many::launch_tile_list(p.offsets, p.experts, p.tokens == 0 ? 0 : p.rows, rows, work.tiles, instruction, on);
  for (many::Part part = size; part.first_expert < p.experts; part.first_expert += size.experts) {
    part.experts = std::min(size.experts, p.experts - part.first_expert);
    for (part.first_panel = 0; part.first_panel < w.panels(); part.first_panel += size.panels) {
      part.panels = std::min(size.panels, w.panels() - part.first_panel);
      work.first = many::launch_expand(w, part, work.tiles, scratch.room, on);
      work.first_expert = static_cast<int>(part.first_expert), work.experts = static_cast<int>(part.experts);
      work.groups = static_cast<int>((part.panels + many::kGroupPanels - 1) / many::kGroupPanels);
      const int64_t output = part.first_panel * kPanel;
      const int outputs = static_cast<int>(std::min(w.rows - output, part.panels * kPanel));
      many::launch_product<S>(work, many::RowStore<float>{p.y + output, w.rows, outputs, outputs, nullptr, many::Rule::kNone}, on);
    }
  }
  if (p.offsets != nullptr || p.tokens == 0) many::launch_clear_unused(p.y, p.rows, w.rows, work.tiles, on);
}

}  // namespace

bool has_many(Format f) { return f != Format::kF32; }

int64_t many_scratch(const Product& p, int64_t expand_bytes) {
  return Scratch(p, first_part(p, expand_bytes), nullptr).parts.bytes;
}
int64_t many_scratch(const Product& p, const DeviceLimits&) { return many_scratch(p, kExpandBytes); }

void launch_many(const Product& p, int64_t expand_bytes, uint32_t instruction, const Launch& on, std::byte* scratch) {
  many::with_shape(many::way_for(*on.device), [&]<class S>() {
    run<S>(p, expand_bytes, instruction, on, scratch);
  });
}
void launch_many(const Product& p, uint32_t instruction, const Launch& on, std::byte* scratch) {
  launch_many(p, kExpandBytes, instruction, on, scratch);
}

}  // namespace switchyard::cuda
