// The kernels of tile.h, attention_tile.h and route_tile.h for the avx512 tier.
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#if defined(__GNUC__) && !defined(__clang__)
// False alarms inside GCC 12's own AVX-512 header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define SY_AVX512 1
namespace switchyard::tile_avx512 {
alignas(64) static const float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/tile.inl"
#include "cpu/isa/attention_tiles.inl"
#include "cpu/isa/attention.inl"
#include "cpu/isa/route.inl"
}  // namespace switchyard::tile_avx512

namespace switchyard {
extern const TileKernels kTile_avx512;
extern const AttentionKernels kAttention_avx512;
extern const RouteKernels kRoute_avx512;
const TileKernels kTile_avx512 = tile_avx512::kTileKernels;
const AttentionKernels kAttention_avx512 = tile_avx512::kAttentionKernels;
const RouteKernels kRoute_avx512 = tile_avx512::kRouteKernels;
}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif
