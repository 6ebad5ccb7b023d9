// The tiles of tile.h and attention_tile.h for the scalar tier.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/attention_tile.h"
#include "cpu/isa/half.h"
#include "cpu/tile.h"

#define SY_SCALAR 1
namespace switchyard::tile_scalar {
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/tile.inl"
#include "cpu/isa/attention.inl"
}  // namespace switchyard::tile_scalar

namespace switchyard {
extern const TileKernels kTile_scalar;
extern const AttentionKernels kAttention_scalar;
const TileKernels kTile_scalar = tile_scalar::kTileKernels;
const AttentionKernels kAttention_scalar = tile_scalar::kAttentionKernels;
}  // namespace switchyard
