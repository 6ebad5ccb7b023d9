// Picks the tiles of a tier; tiers above avx512 add instructions that f32 has no use for.
#include "cpu/tile.h"

#include "cpu/attention_tile.h"
#include "cpu/route_tile.h"

namespace switchyard {

#define SWITCHYARD_TILES(tier)                    \
  extern const TileKernels kTile_##tier;           \
  extern const AttentionKernels kAttention_##tier; \
  extern const RouteKernels kRoute_##tier;
SWITCHYARD_TILES(scalar)
#if defined(__x86_64__) || defined(_M_X64)
SWITCHYARD_TILES(avx2)
SWITCHYARD_TILES(avx512)
#define SWITCHYARD_PICK(table, tier)                                       \
  if ((tier) >= Tier::kAvx512 && (tier) <= Tier::kAmx) return table##avx512; \
  if ((tier) == Tier::kAvx2) return table##avx2;
#elif defined(__aarch64__) || defined(_M_ARM64)
SWITCHYARD_TILES(neon)
#define SWITCHYARD_PICK(table, tier) \
  if ((tier) == Tier::kNeon) return table##neon;
#else
#define SWITCHYARD_PICK(table, tier) (void)(tier);
#endif

const TileKernels& tile_kernels(Tier tier) {
  SWITCHYARD_PICK(kTile_, tier)
  return kTile_scalar;
}

const AttentionKernels& attention_kernels(Tier tier) {
  SWITCHYARD_PICK(kAttention_, tier)
  return kAttention_scalar;
}

const RouteKernels& route_kernels(Tier tier) {
  SWITCHYARD_PICK(kRoute_, tier)
  return kRoute_scalar;
}

}  // namespace switchyard
