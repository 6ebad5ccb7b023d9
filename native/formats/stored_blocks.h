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

// mxfp4 as checkpoints of transformers hold it: 16 bytes of codes for every 32 values, value 2i in the low and 2i + 1 in
// the high half of byte i, and a byte of scale elsewhere. Writes the blocks of GGUF.
void join_mxfp4(const std::byte* codes, const std::byte* scales, int64_t blocks, std::byte* out);

void read_stored_block(Format f, const std::byte* block, StoredBlock* out);
// The inverse: the same bytes that were read.
void write_stored_block(Format f, const StoredBlock& in, std::byte* block);

}  // namespace switchyard
