// Formats and sizes for tests of products, on random packed weights.
#pragma once
#include <vector>

#include "formats/format_table.h"
#include "test/random_weight.h"
#include "test/run_kernel.h"

namespace switchyard::test {

inline std::vector<Format> all_formats() {
  std::vector<Format> formats;
  for (int i = 0; i < kFormatCount; i++) formats.push_back(static_cast<Format>(i));
  return formats;
}

// The smallest numbers of columns that show a format's odd ends: `blocks` blocks, or that many values more than whole chunks.
inline int64_t odd_columns(Format f, int64_t blocks) {
  const int block = format_info(f).values_per_block;
  return block == 1 ? 32 * blocks + 2 * blocks - 1 : block * blocks;
}

}  // namespace switchyard::test
