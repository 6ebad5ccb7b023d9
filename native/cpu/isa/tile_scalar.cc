// The kernels of tile.h, attention_tile.h and route_tile.h for the scalar tier.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/attention_tile.h"
#include "cpu/route_tile.h"
#include "cpu/tile.h"
#include "formats/half.h"

#define SY_SCALAR 1
namespace switchyard::tile_scalar {
alignas(64) static const float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/tile.inl"
#include "cpu/isa/attention_tiles.inl"
#include "cpu/isa/attention.inl"
#include "cpu/isa/route.inl"
}  // namespace switchyard::tile_scalar

namespace switchyard {
extern const TileKernels kTile_scalar;
extern const AttentionKernels kAttention_scalar;
extern const RouteKernels kRoute_scalar;
const TileKernels kTile_scalar = tile_scalar::kTileKernels;
const AttentionKernels kAttention_scalar = tile_scalar::kAttentionKernels;
const RouteKernels kRoute_scalar = tile_scalar::kRouteKernels;
}  // namespace switchyard
