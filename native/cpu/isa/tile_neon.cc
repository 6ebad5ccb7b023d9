// The kernels of tile.h, attention_tile.h and route_tile.h for the neon tier.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/attention_tile.h"
#include "cpu/route_tile.h"
#include "cpu/tile.h"
#include "formats/half.h"

#if defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>

#define SY_NEON 1
namespace switchyard::tile_neon {
alignas(64) static const float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/tile.inl"
#include "cpu/isa/attention_tiles.inl"
#include "cpu/isa/attention.inl"
#include "cpu/isa/route.inl"
}  // namespace switchyard::tile_neon

namespace switchyard {
extern const TileKernels kTile_neon;
extern const AttentionKernels kAttention_neon;
extern const RouteKernels kRoute_neon;
const TileKernels kTile_neon = tile_neon::kTileKernels;
const AttentionKernels kAttention_neon = tile_neon::kAttentionKernels;
const RouteKernels kRoute_neon = tile_neon::kRouteKernels;
}  // namespace switchyard
#endif
