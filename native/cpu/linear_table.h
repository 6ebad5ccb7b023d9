// What an instruction set gives to the linear kernels: one table of functions over panels. Plain data only, because
// every file of isa/ includes it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats/format_table.h"
#include "formats/pack.h"

namespace switchyard {

// A run of panels of one expert against a run of row blocks. The rows of an expert are cut evenly in `blocks` blocks:
// block i holds rows [i·rows / blocks, (i + 1)·rows / blocks).
struct PanelJob {
  const std::byte* panels = nullptr;  // the first panel
  int64_t panel_count = 0;
  PanelLayout layout;
  const std::byte* x = nullptr;       // row 0 of the expert, in the form that the function reads
  int64_t x_row_bytes = 0;            // block i starts at x + (its first row)·x_row_bytes
  int64_t rows = 0;
  int64_t blocks = 0;
  int64_t first_block = 0, last_block = 0;
  float* y = nullptr;                 // row 0 of the expert, at the first output of the job
  int64_t y_stride = 0;
  int64_t outputs = 0;                // valid outputs from there on; the last panel may hold fewer than 16
  int64_t first_column = 0;           // f32_transposed only: a multiple of 32
  int64_t transposed_rows = 0;        // f32_transposed only: N
  std::byte* scratch = nullptr;       // linear_worker_scratch() bytes, 64-byte aligned
  const std::byte* next = nullptr;    // what the thread reads after these panels; kernels may fetch it
  int64_t next_bytes = 0;

  int64_t block_row(int64_t i) const { return i * rows / blocks; }
};

using PanelFn = void (*)(const PanelJob&);
// Brings one block of rows, [rows, k] with `stride` floats between rows, into a form.
using PackFn = void (*)(const float* x, int64_t stride, int64_t rows, int64_t k, std::byte* out);

struct LinearTable {
  // Rows per block of each form, and the most rows that f32_direct takes.
  int f32_rows = 0, int8_rows = 0, wide_rows = 0, bf16_rows = 0, direct_rows = 0;
  // x: f32 [rows, K] as it is.
  PanelFn f32_direct[kFormatCount] = {};
  // x: f32 blocks [K][rows].
  PanelFn f32_blocks[kFormatCount] = {};
  // dx[r][k] = Σn dy[r][n]·w[n][k] for `outputs` columns from first_column (a multiple of 32) on; all panels of an
  // expert; x: f32 blocks [N][rows] of dy.
  PanelFn f32_transposed[kFormatCount] = {};
  // x: int8 blocks of the layout that int8_layout() gives the format; null for those that are no scaled integers.
  PanelFn int8[kFormatCount] = {};
  // After int8, on the same job: adds the products of the outliers.
  PanelFn int8_outliers[kFormatCount] = {};
  // x: bf16 blocks [ceil(K / 32)][rows][32]; null for scaled integers and where the tier has no bf16 arithmetic.
  PanelFn bf16[kFormatCount] = {};
  PackFn pack_f32 = nullptr, pack_int8 = nullptr, pack_g64 = nullptr, pack_g128 = nullptr, pack_bf16 = nullptr;
};

// int8 blocks of R rows: per group of values along K, i8 codes[R][unit or more], so that tiles of 64 values start on
// 64-byte boundaries whatever R is (a load across two lines costs double); behind those of all groups, per group, `words`
// times [R] of four bytes. Codes past the last value, up to a whole unit, are zero.
//   groups of 32       f32 scale[R]; i32 minus_sum[3][R]; f32 scaled_sum[3][R], over the first 16 codes, the last 16 and
//                      all 32; minus_sum = -Σ codes, scaled_sum = scale · Σ codes
//   64 and 128 (wide)  f32 scale[R]; i32 minus_sum[R]
// Behind them, the outliers, whose codes are zero: i32 count[R]; Outlier list[R][K / 32], by rising k.
struct Outlier {
  int32_t k;
  float x;
};
struct Int8Layout {
  int group, unit, words;
  // Bytes of a row's codes in a group that has `left` values of the row or more.
  constexpr int64_t codes(int64_t left) const {
    return left >= group ? group : (left + unit - 1) / unit * unit;
  }
  constexpr int64_t groups(int64_t k) const { return k / group + (k % group > 0 ? 1 : 0); }
  // Of a row's codes and words in all groups.
  constexpr int64_t code_bytes(int64_t k) const { return k / group * group + (k % group > 0 ? codes(k % group) : 0); }
  constexpr int64_t word_bytes(int64_t k) const { return groups(k) * 4 * words; }
  // The most outliers of a row.
  constexpr int64_t outliers(int64_t k) const { return k <= INT32_MAX ? k / kChunk : 0; }
  // From the start of a block of `rows` to the words of group 0, to the counts and to the list of row r.
  constexpr int64_t words_at(int64_t k, int64_t rows) const { return rows * code_bytes(k); }
  constexpr int64_t counts_at(int64_t k, int64_t rows) const { return rows * (code_bytes(k) + word_bytes(k)); }
  constexpr int64_t list_at(int64_t k, int64_t rows, int64_t r) const {
    return counts_at(k, rows) + rows * 4 + r * outliers(k) * static_cast<int64_t>(sizeof(Outlier));
  }
  // From row to row: whole lines.
  constexpr int64_t row_bytes(int64_t k) const { return (list_at(k, 1, 1) + 63) / 64 * 64; }
};
constexpr Int8Layout kInt8Groups{32, 32, 7};
constexpr Int8Layout kInt8G64{64, 64, 2}, kInt8G128{128, 64, 2};
constexpr int kInt8Words = 4 * kInt8Groups.words;  // bytes of a row in a group of 32

// The groups of the activations are those of the weight; a weight with one scale a row takes groups of 128.
constexpr Int8Layout int8_layout(const FormatInfo& info) {
  return info.group == 64 ? kInt8G64 : info.group == 128 || info.scales == ScaleKind::kRow ? kInt8G128 : kInt8Groups;
}

// Which int8 kernels a format has: those with a step in f32 every 16 or 32 values, or the wide ones.
constexpr bool any_format(Format) { return true; }
constexpr bool is_wide_int8(Format f) {
  const FormatInfo& info = kFormatTable[static_cast<int>(f)];
  return is_integer_format(f) && int8_layout(info).group != kInt8Groups.group;
}
constexpr bool is_narrow_int8(Format f) { return is_integer_format(f) && !is_wide_int8(f); }

// Bytes of one row of K values in each other form.
constexpr int64_t f32_row_bytes(int64_t k) { return 4 * k; }
constexpr int64_t bf16_row_bytes(int64_t k) { return (k + kChunk - 1) / kChunk * 2 * kChunk; }

// The most rows of a block of f32, on any tier.
constexpr int64_t kMostF32Rows = 16;

// Panels that kernels take at once, be it to stream them or as slabs of f32: kSlabPanels × kSlabColumns × 16 floats
// stay in a 256 KiB L2 beside a row block.
constexpr int kSlabPanels = 4;
constexpr int kSlabColumns = 512;
constexpr int64_t kSlabBytes = int64_t{4} * kSlabPanels * kSlabColumns * kPanel;
// Two whole panels as pairs of bf16, or a block of f32, which is no larger; the slabs and sums of int8 tiles are smaller than
// kSlabBytes.
constexpr int64_t linear_worker_scratch(int64_t k) {
  const int64_t panels = (k + kChunk - 1) / kChunk * 2048;
  static_assert(kMostF32Rows * f32_row_bytes(kChunk) <= 2048);
  return panels > kSlabBytes ? panels : kSlabBytes;
}

// Each fills in what its instruction set does better than the tiers below it.
void fill_linear_scalar(LinearTable*);
void fill_linear_avx2(LinearTable*);
void fill_linear_avx512(LinearTable*);
void fill_linear_avx512_vnni(LinearTable*);
void fill_linear_avx512_bf16(LinearTable*);
void fill_linear_amx(LinearTable*);
void fill_linear_neon(LinearTable*);

}  // namespace switchyard
