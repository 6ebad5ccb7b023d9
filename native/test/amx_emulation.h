// The tile instructions of AMX in software, for machines without them. scripts/test-native.mjs puts this header before
// cpu/isa/linear_amx.cc, whose intrinsics it replaces; shapes that the processor would refuse end the program.
// Source: Intel's Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TDPBSSD and its kin, TDPBF16PS.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false for _mm512_undefined_ps: GCC bug 105593
#endif

namespace switchyard::amx {

struct Tile {
  int rows = 0, bytes = 0;  // a row's bytes; 0: not configured
  alignas(64) uint8_t data[16][64] = {};
};

struct Tiles {
  bool configured = false;
  Tile tile[8];
};

inline Tiles& tiles() {
  static thread_local Tiles all;
  return all;
}

[[noreturn]] inline void refuse(const char* what) {
  std::fprintf(stderr, "amx emulation: %s\n", what);
  std::abort();
}

inline Tile& at(int i) {
  Tile& t = tiles().tile[i];
  if (!tiles().configured || t.rows == 0 || t.bytes == 0) refuse("a tile that is not configured");
  return t;
}

inline void load_config(const void* memory) {
  uint8_t config[64];
  std::memcpy(config, memory, 64);
  if (config[0] != 1 || config[1] != 0) refuse("another palette than 1");
  Tiles& all = tiles();
  for (int i = 0; i < 8; i++) {
    uint16_t bytes;
    std::memcpy(&bytes, config + 16 + 2 * i, 2);
    const int rows = config[48 + i];
    if (bytes > 64 || rows > 16 || (rows == 0) != (bytes == 0)) refuse("a tile of impossible size");
    all.tile[i] = Tile{};
    all.tile[i].rows = rows;
    all.tile[i].bytes = bytes;
  }
  all.configured = true;
}

inline void release() { tiles() = Tiles{}; }

inline void zero(int i) { std::memset(at(i).data, 0, sizeof(Tile::data)); }

inline void load(int i, const void* base, int64_t stride) {
  Tile& t = at(i);
  zero(i);
  for (int r = 0; r < t.rows; r++) {
    std::memcpy(t.data[r], static_cast<const uint8_t*>(base) + r * stride, static_cast<size_t>(t.bytes));
  }
}

inline void store(int i, void* base, int64_t stride) {
  const Tile& t = at(i);
  for (int r = 0; r < t.rows; r++) {
    std::memcpy(static_cast<uint8_t*>(base) + r * stride, t.data[r], static_cast<size_t>(t.bytes));
  }
}

inline void check_product(const Tile& sum, const Tile& a, const Tile& b) {
  if (sum.rows != a.rows || sum.bytes != b.bytes || a.bytes != 4 * b.rows) refuse("a product of tiles that do not fit");
}

// sum[m][n] += Σ a[m][4k + i] · b[k][4n + i], 16 columns at a time: a plain loop would make the tests slow.
template <bool kSignedA, bool kSignedB>
__attribute__((target("avx512f"))) inline void dot_bytes(int sum_index, int a_index, int b_index) {
  Tile& sum = at(sum_index);
  const Tile &a = at(a_index), &b = at(b_index);
  check_product(sum, a, b);
  for (int m = 0; m < sum.rows; m++) {
    __m512i total = _mm512_load_si512(sum.data[m]);
    for (int k = 0; k < b.rows; k++) {
      const __m512i four = _mm512_load_si512(b.data[k]);
      for (int i = 0; i < 4; i++) {
        const uint8_t byte = a.data[m][4 * k + i];
        const int value = kSignedA ? static_cast<int8_t>(byte) : byte;
        const __m512i top = _mm512_sll_epi32(four, _mm_cvtsi32_si128(24 - 8 * i));
        const __m512i column = kSignedB ? _mm512_srai_epi32(top, 24) : _mm512_srli_epi32(top, 24);
        total = _mm512_add_epi32(total, _mm512_mullo_epi32(column, _mm512_set1_epi32(value)));
      }
    }
    _mm512_store_si512(sum.data[m], total);
  }
}

// sum[m][n] += Σ a[m][2k]·b[k][2n] + Σ a[m][2k + 1]·b[k][2n + 1], each of the two one chain of fused multiply-adds.
// Subnormals count as zero in the instruction; no test has any.
__attribute__((target("avx512f"))) inline void dot_bf16(int sum_index, int a_index, int b_index) {
  Tile& sum = at(sum_index);
  const Tile &a = at(a_index), &b = at(b_index);
  check_product(sum, a, b);
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  for (int m = 0; m < sum.rows; m++) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (int k = 0; k < b.rows; k++) {
      int pair;
      std::memcpy(&pair, a.data[m] + 4 * k, 4);
      const __m512i x = _mm512_set1_epi32(pair), w = _mm512_load_si512(b.data[k]);
      const __m512i low_x = _mm512_slli_epi32(x, 16), low_w = _mm512_slli_epi32(w, 16);
      const __m512i high_x = _mm512_and_si512(x, high), high_w = _mm512_and_si512(w, high);
      even = _mm512_fmadd_ps(_mm512_castsi512_ps(low_x), _mm512_castsi512_ps(low_w), even);
      odd = _mm512_fmadd_ps(_mm512_castsi512_ps(high_x), _mm512_castsi512_ps(high_w), odd);
    }
    _mm512_store_ps(sum.data[m], _mm512_add_ps(_mm512_load_ps(sum.data[m]), _mm512_add_ps(even, odd)));
  }
}

}  // namespace switchyard::amx

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) ::switchyard::amx::load_config(config)
#define _tile_release() ::switchyard::amx::release()
#define _tile_loadd(tile, base, stride) ::switchyard::amx::load(tile, base, stride)
#define _tile_stored(tile, base, stride) ::switchyard::amx::store(tile, base, stride)
#define _tile_zero(tile) ::switchyard::amx::zero(tile)
#define _tile_dpbssd(sum, a, b) ::switchyard::amx::dot_bytes<true, true>(sum, a, b)
#define _tile_dpbsud(sum, a, b) ::switchyard::amx::dot_bytes<true, false>(sum, a, b)
#define _tile_dpbf16ps(sum, a, b) ::switchyard::amx::dot_bf16(sum, a, b)
