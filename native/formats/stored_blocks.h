// One stored block taken apart: unsigned codes, and the scales as they are stored.
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats/format.h"

namespace switchyard {

struct StoredBlock {
  uint8_t codes[256];  // values_per_block of them
  uint16_t d, m;       // f16 bits: s and m of kScale(Min), d and dmin of kSuper(Min)
  uint8_t e;           // kExponent
  int8_t c[16];        // per group, kSuper(Min) only (kSuperMin: 0…63)
  uint8_t n[16];
};

void read_stored_block(Format f, const std::byte* block, StoredBlock* out);

}  // namespace switchyard
