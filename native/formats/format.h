// Formats of stored and packed weights: one table.
//
// A value of a block format is  s·q + m  with an unsigned code q of `code_bits` bits and s, m constant over
// `group` consecutive values along K (the last group may be shorter). What differs is how s and m are stored
// (ScaleKind). Formats with a table have s·values[q] instead, f8_e4m3 has s·q of a float q. Float formats have no groups. int8 with groups of 32 is
// q8_0, int4 with groups of 32 q4_0.
//
// Packed layout, the same for every instruction-set tier: a weight [N, K] is cut in panels of kPanel = 16 output rows
// (the last one padded with zeros). Lane j of a vector always belongs to output 16·panel + j, so no kernel needs a
// horizontal sum. pack.h describes the bytes inside a panel.
#pragma once
#include <cstdint>
#include <string_view>

namespace switchyard {

constexpr int kPanel = 16;

// The numbers are part of the Node-API surface (src/core/format.ts holds the same names).
enum class Format : uint8_t {
  kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K,
  kIQ4_NL, kIQ4_XS, kMXFP4, kTQ1_0, kTQ2_0,
  kF8E4M3,  // files hold its scales apart
  kInt8, kInt8G64, kInt8G128, kInt4G64, kInt4G128,  // exist packed only
  kCount
};

enum class ScaleKind : uint8_t {
  kNone,        // float formats
  kScale,       // f16 s per group; m = -zero·s
  kRow,         // f32 s per output, for all of K; m = -zero·s
  kScaleMin,    // f16 s and f16 m per group
  kSuper,       // f16 d per 256 values, signed 8-bit c per group: s = d·c, m = -zero·s
  kExponent,    // 8-bit e per group: s = 2^(e - 128), for values that are twice those of the paper; m = 0
  kSuperMin,    // f16 d and f16 dmin per 256 values, 8-bit c and n per group: s = d·c, m = -dmin·n
  kFloat,       // f32 s per group, for codes that are floats themselves (float8.h); m = 0
};

struct FormatInfo {
  const char* name;          // "q4_1"
  int values_per_block;      // of the file's layout; K is a multiple of it
  int bytes_per_block;       // of the file's layout; 0: the format exists packed only
  int code_bits;             // 2, 3, 4, 5, 6, 8; 16 and 32 for floats
  int group;                 // values that share s and m: 16 to 128, 0: all of K (kRow); 1 for floats
  ScaleKind scales;
  int zero;                  // the code that means 0 where m = -zero·s
  // 16 values that the codes stand for; then values + zero are the unsigned codes of integer products.
  const int8_t* values = nullptr;
};

const FormatInfo& format_info(Format f);
bool parse_format(std::string_view name, Format* out);

}  // namespace switchyard
