// The kernels of tile.h, attention_tile.h and route_tile.h for the avx2 tier.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/attention_tile.h"
#include "cpu/route_tile.h"
#include "cpu/tile.h"
#include "formats/half.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define SY_AVX2 1
namespace switchyard::tile_avx2 {
alignas(64) static const float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/tile.inl"
#include "cpu/isa/attention_tiles.inl"
#include "cpu/isa/attention.inl"
#include "cpu/isa/route.inl"
}  // namespace switchyard::tile_avx2

namespace switchyard {
extern const TileKernels kTile_avx2;
extern const AttentionKernels kAttention_avx2;
extern const RouteKernels kRoute_avx2;
const TileKernels kTile_avx2 = tile_avx2::kTileKernels;
const AttentionKernels kAttention_avx2 = tile_avx2::kAttentionKernels;
const RouteKernels kRoute_avx2 = tile_avx2::kRouteKernels;
}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif
