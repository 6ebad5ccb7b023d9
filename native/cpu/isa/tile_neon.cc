// The tiles of tile.h and attention_tile.h for the neon tier.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/attention_tile.h"
#include "cpu/isa/half.h"
#include "cpu/tile.h"

#if defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>

#define SY_NEON 1
namespace switchyard::tile_neon {
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/tile.inl"
#include "cpu/isa/attention.inl"
}  // namespace switchyard::tile_neon

namespace switchyard {
extern const TileKernels kTile_neon;
extern const AttentionKernels kAttention_neon;
const TileKernels kTile_neon = tile_neon::kTileKernels;
const AttentionKernels kAttention_neon = tile_neon::kAttentionKernels;
}  // namespace switchyard
#endif
