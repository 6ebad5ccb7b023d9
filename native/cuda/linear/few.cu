// Products of at most kFewRows rows of activations, rounded to bf16: weights are streamed once (stream.h).
#include "cuda/linear/few.h"

#include <vector>

#include "cuda/linear/stream_rows.h"

namespace switchyard::cuda {

bool has_few(Format f) { return f != Format::kF32; }

int64_t few_scratch(const Product& p, const DeviceLimits&) { return row_tiles_bytes(p.rows, p.experts, p.weight->columns); }

void launch_stream_rows(std::span<const DeviceWeight* const> weights, const PlanRows& plan, const std::byte* tiles,
                        const StreamTuning& tuning, const RowsStore& store, uint32_t instruction, const Launch& on) {
  launch_stream<1>(weights, plan, tiles, tuning, store, instruction, on);
}

void launch_few(std::span<const Product> products, const StreamTuning& tuning, uint32_t instruction, const Launch& on,
                std::byte* scratch) {
  const Product& first = products[0];
  const DeviceWeight* weights[kMostStreamed];
  ClearedRows cleared;
  RowsStore store;
  for (size_t i = 0; i < products.size(); i++) {
    weights[i] = products[i].weight;
    cleared.y[i] = store.y[i] = products[i].y, cleared.columns[i] = store.outputs[i] = products[i].weight->rows;
  }
  const PlanRows plan{first.offsets, first.row_token, first.experts, first.rows, first.tokens};
  launch_row_tiles(first.x, plan, first.weight->columns, order_of(first.weight->format), scratch, cleared, instruction, on);
  launch_stream_rows(std::span(weights, products.size()), plan, scratch, tuning, store, instruction, on);
}

void launch_few(std::span<const Product> products, uint32_t instruction, const Launch& on, std::byte* scratch) {
  std::vector<Product> left(products.begin(), products.end());
  while (!left.empty()) {
    std::vector<Product> together, others;
    for (const Product& p : left) {
      const bool joins = together.size() < kMostStreamed && p.weight->format == left[0].weight->format;
      (joins ? together : others).push_back(p);
    }
    launch_few(together, StreamTuning{}, instruction, on, scratch);
    left = std::move(others);
  }
}

}  // namespace switchyard::cuda
