// Weights of any format as panels of bf16, for products that read no others.
#pragma once
#include "cuda/linear/many_kernel.h"

namespace switchyard::cuda::many {

// Whether products read the panels of a weight as they are.
inline bool reads_panels(const DeviceWeight& w) { return w.format == Format::kBF16; }

// Some panels of some experts of a weight.
struct Part {
  int64_t first_expert = 0, experts = 1;
  int64_t first_panel = 0, panels = 0;
};
inline int64_t part_bytes(const DeviceWeight& w, int64_t experts, int64_t panels) {
  return reads_panels(w) ? 0 : experts * panels * panel_layout(Format::kBF16, w.columns).bytes;
}
// The part as products read it. What is not bf16 is decoded to `room` (part_bytes() of it) and rounded; experts without tiles are
// left out.
Panels launch_expand(const DeviceWeight& w, const Part& part, const TileList& tiles, std::byte* room, const Launch& on);

}  // namespace switchyard::cuda::many
