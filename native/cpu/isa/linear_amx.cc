// The linear kernels with AMX tiles: bf16 for all row counts, int8 from a few rows on.
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#include <initializer_list>

#include "cpu/linear_table.h"

// The target holds to the end of the file, because templates are compiled there. No function of a library header is
// used below: a copy of it with wide instructions could be linked into code that runs on every machine.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,amx-tile,amx-int8,amx-bf16"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false for _mm512_undefined_ps: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,amx-tile,amx-int8,amx-bf16,prefer-vector-width=512")
#endif

namespace switchyard {
namespace linear_amx {

#include "cpu/isa/unroll.inl"

constexpr int kTileRows = 16;
// Of the VNNI kernel for few rows.
constexpr int kInt8Rows = 6, kInt8Panels = 2, kInt8MostRows = 8, kInt8StreamPanels = 4;
constexpr int kPrefetch = 4096, kNearPanels = 24 << 10, kStreamRows = 4;

#include "cpu/isa/simd_avx512.inl"
#include "cpu/isa/dot_vnni.inl"
#include "cpu/isa/codes.inl"
#include "cpu/isa/outliers.inl"
#include "cpu/isa/linear_int8.inl"
#include "cpu/isa/tiles.inl"
#include "cpu/isa/bf16_pairs.inl"
#include "cpu/isa/amx_bf16.inl"
#include "cpu/isa/amx_int8.inl"
#include "cpu/isa/wide_tiles.inl"
#include "cpu/isa/wide_amx.inl"

inline void fill_tiles(LinearTable* table) {
  for_formats<is_narrow_int8>([&]<Format f>() { table->int8[static_cast<int>(f)] = int8_tile_panels<f>; });
}

}  // namespace linear_amx

void fill_linear_amx(LinearTable* table) {
  using namespace linear_amx;
  fill_tiles(table);
  fill_wide_tiles(table);
  table->int8_rows = kTileRows;
  table->bf16_rows = 2 * kTileRows;
  table->bf16[static_cast<int>(Format::kF32)] = bf16_tile_panels<Format::kF32>;
  table->bf16[static_cast<int>(Format::kF16)] = bf16_tile_panels<Format::kF16>;
  table->bf16[static_cast<int>(Format::kBF16)] = bf16_tile_panels<Format::kBF16>;
  table->bf16[static_cast<int>(Format::kF8E4M3)] = bf16_tile_panels<Format::kF8E4M3>;
}

}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
