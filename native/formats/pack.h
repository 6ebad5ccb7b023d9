// The packed layout, and the way into it and back out.
//
// A weight [N, K] is cut in ceil(N / 16) panels; lane j of panel p belongs to output 16·p + j, lanes past N are zero.
// Every panel has the same size, a multiple of 64 bytes, and starts on a 64-byte boundary.
//
// Float formats:
//   f32         [K][16]
//   f16, bf16   [ceil(K / 2)][16][2]: the two values of a pair lie side by side (the order of vdpbf16ps and of AMX)
//
// Block formats, three areas one after another, each starting on a 64-byte boundary:
//   codes   per chunk of 32 values: one or two planes. A code vector v (0…7) is 64 bytes that hold the values
//           k = 4v…4v+3 of all lanes, byte 4·lane + k % 4 (the order of vpdpbusd). Codes are unsigned.
//             8 bits   8 code vectors
//             4 bits   4 vectors; vector i holds code vector i in the low nibbles, i + 4 in the high ones
//             2 bits   2 vectors; vector i holds code vector 4i + j in bits 2j, 2j+1
//             1 bit    1 vector; bit v belongs to code vector v
//           3 bits = a 2-bit plane, then a 1-bit plane with bit 2; 5 = 4 + 1; 6 = 4-bit plane, then a 2-bit plane
//           with bits 4 and 5.
//   scales  per chunk of 32 values, or per group where that is larger:
//             kScale      f16 s[16]
//             kRow        f32 s[16], once per panel
//             kScaleMin   f16 s[16], f16 m[16]
//             kExponent   u8 e[16]
//             kSuper      i8 c[2][16] (groups of 16 values)
//             kFloat      f32 s[16], times 2^120 (float8.h)
//             kSuperMin   u8 c[16], u8 n[16]; q2_k, whose groups have 16 values: u8 (c | n << 4)[2][16]
//   f8_e4m3 admits any K: the last chunk and the last group may be part empty, codes past K are zero.
//   supers  per 256 values: kSuper f16 d[16]; kSuperMin f16 d[16], f16 dmin[16]; else absent
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats/format.h"

namespace switchyard {

// Files hold packed panels as they are: a change of the layout of any format is another version.
constexpr int kPackVersion = 1;

constexpr int kChunk = 32;         // values of K per chunk of codes
constexpr int kSuperChunks = 8;    // chunks that share a super-scale
constexpr int kPanelAlign = 64;

struct PanelLayout {
  int64_t columns = 0;    // K
  int64_t scales_at = 0;  // bytes from the panel's start
  int64_t supers_at = 0;
  int64_t bytes = 0;      // of a panel
};

// Bytes of codes per chunk (32 values × 16 lanes) and of one entry of the scales; block formats only.
constexpr int chunk_code_bytes(int code_bits) { return code_bits * 64; }
constexpr int scale_bytes(ScaleKind kind) {
  return kind == ScaleKind::kScaleMin || kind == ScaleKind::kRow || kind == ScaleKind::kFloat ? 64 : kind == ScaleKind::kExponent ? 16 : 32;
}
// Chunks that share an entry of the scales.
constexpr int64_t chunks_per_scale(const FormatInfo& info) {
  return info.group == 0 ? int64_t{1} << 40 : info.group > kChunk ? info.group / kChunk : 1;
}
constexpr int super_bytes(ScaleKind kind) {
  return kind == ScaleKind::kSuper ? 32 : kind == ScaleKind::kSuperMin ? 64 : 0;
}

// The largest K that panel_layout() takes; a panel then stays far below 2^63 bytes.
constexpr int64_t kMaxColumns = int64_t{1} << 40;

PanelLayout panel_layout(Format f, int64_t columns);

// Bytes of one stored row of K values (K a multiple of values_per_block); not for formats that exist packed only.
int64_t stored_row_bytes(Format f, int64_t columns);

// Packs one stored row of a block format into one lane of a panel that was zero before.
void pack_block_row(Format f, const PanelLayout& layout, const std::byte* row, std::byte* panel, int lane);

// One stored row of a block format in f32, as it would be decoded once packed.
void decode_block_row(Format f, const std::byte* row, int64_t columns, float* out);
// `count` values of a float format, `stride` bytes apart, in f32.
void decode_float_row(Format f, const std::byte* values, int64_t stride, int64_t count, float* out);

// Packs one row of f8_e4m3 into one lane of a panel that was zero before: codes `stride` bytes apart and a scale for
// every 128 values, as packed_scale() gives it.
void pack_float8_row(const PanelLayout& layout, const std::byte* codes, int64_t stride, const float* scales,
                     std::byte* panel, int lane);

// Packs the codes of chunk `chunk` (32 of them) into one lane of a panel that was zero before.
void pack_chunk(const FormatInfo& info, const uint8_t* codes, int64_t chunk, std::byte* panel, int lane);

// Packs `count` float values that stand for k = first, first + 1, … of one lane. `stride` in bytes between stored
// values; `stored` and `packed` are float formats.
void pack_float_row(Format stored, Format packed, const std::byte* values, int64_t stride, int64_t first,
                    int64_t count, std::byte* panel, int lane);

// The values k = first … first + count - 1 of one lane in f32: fma(s, q, m), exactly as every kernel sees them.
void decode_lane(Format f, const PanelLayout& layout, const std::byte* panel, int lane, int64_t first, int64_t count,
                 float* out);

// One lane as a stored row, stored_row_bytes() of them: the bytes that were packed. For formats with has_stored_rows().
void unpack_row(Format f, const PanelLayout& layout, const std::byte* panel, int lane, std::byte* row);

}  // namespace switchyard
