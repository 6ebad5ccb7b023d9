// How products with packed weights are cut in tasks: what linear.cc and the fused experts of native/moe share.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/linear_table.h"

namespace switchyard {

constexpr int64_t kAlign = 64;
inline int64_t aligned(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// The forms that activations are read in.
enum Form { kFormF32, kFormRounded, kFormInt8, kFormG64, kFormG128, kFormBf16, kForms };

// Cost is counted in bytes of weights read; a multiply-add counts as the time of so many bytes.
constexpr double kMacCost[kForms] = {0.12, 0.12, 0.05, 0.04, 0.04, 0.05};
constexpr double kTasksPerThread = 8;
constexpr double kSmallestTask = 16 << 10;  // bytes: below, claiming costs more than balance gains
// A call below runs on one thread, which takes no longer than two that are awake (3 µs here, two cores; from 160 KiB on
// two are faster by a quarter) and spares waking one that is parked (45 µs).
constexpr double kSerialCost = 144 << 10;
constexpr int64_t kSplitRows = 64;          // fewer rows do not pay for expanding a slab again

constexpr bool is_int8(Form form) { return form == kFormInt8 || form == kFormG64 || form == kFormG128; }
constexpr Int8Layout layout_of(Form form) {
  return form == kFormG64 ? kInt8G64 : form == kFormG128 ? kInt8G128 : kInt8Groups;
}
// The form of int8 activations for a block format.
constexpr Form int8_form(Format format) {
  const int group = int8_layout(kFormatTable[static_cast<int>(format)]).group;
  return group == 128 ? kFormG128 : group == 64 ? kFormG64 : kFormInt8;
}

inline Form form_of(const LinearTable& table, Format format, int compute) {
  if (compute == 2 && is_integer_format(format)) return int8_form(format);
  if (compute == 1 && !is_integer_format(format)) {
    return table.bf16[static_cast<int>(format)] != nullptr ? kFormBf16 : kFormRounded;
  }
  return kFormF32;
}

inline int64_t row_bytes(Form form, int64_t k) {
  return is_int8(form) ? layout_of(form).row_bytes(k) : form == kFormBf16 ? bf16_row_bytes(k) : f32_row_bytes(k);
}

inline int64_t block_rows(const LinearTable& table, Form form) {
  if (form == kFormInt8) return table.int8_rows;
  return is_int8(form) ? table.wide_rows : form == kFormBf16 ? table.bf16_rows : table.f32_rows;
}

inline PackFn pack_of(const LinearTable& table, Form form) {
  if (is_int8(form)) return form == kFormG64 ? table.pack_g64 : form == kFormG128 ? table.pack_g128 : table.pack_int8;
  return form == kFormBf16 ? table.pack_bf16 : table.pack_f32;
}

// The most bytes that a row of K values takes for a weight of this format on any tier: one without bf16 arithmetic
// keeps rounded rows of f32.
constexpr int64_t most_row_bytes(Format format, int compute, int64_t k) {
  if (compute == 2 && is_integer_format(format)) return layout_of(int8_form(format)).row_bytes(k);
  return compute == 1 && bf16_row_bytes(k) > f32_row_bytes(k) ? bf16_row_bytes(k) : f32_row_bytes(k);
}

struct Segment {
  int64_t first, rows;
};

inline Segment segment_of(const int32_t* offsets, int64_t all_rows, int64_t expert) {
  if (offsets == nullptr) return {0, all_rows};
  return {offsets[expert], int64_t{offsets[expert + 1]} - offsets[expert]};
}

inline int64_t blocks_of(int64_t rows, int64_t per_block) { return (rows + per_block - 1) / per_block; }

// How the product of one segment with one weight is cut in tasks.
struct Cut {
  Form form = kFormF32;
  bool direct = false;
  int64_t blocks = 1;
  int64_t panels_per_task = 1, groups = 0, splits = 1;
  int64_t tasks() const { return groups * splits; }
};

inline double panel_cost(Form form, const PanelLayout& layout, int64_t rows) {
  return static_cast<double>(layout.bytes) + kMacCost[form] * static_cast<double>(layout.columns * kPanel * rows);
}

// Panels of `cost` each in tasks of about `target`; blocked kernels want whole slabs.
inline void cut_panels(Cut* cut, int64_t panels, double cost, int64_t unit, int64_t rows, double target) {
  const int64_t per_task = std::clamp<int64_t>(static_cast<int64_t>(target / cost), 1, panels);
  cut->panels_per_task = std::min(panels, (per_task + unit - 1) / unit * unit);
  cut->groups = (panels + cut->panels_per_task - 1) / cut->panels_per_task;
  const double task = cost * static_cast<double>(cut->panels_per_task);
  const int64_t most = std::max<int64_t>(1, std::min(cut->blocks, rows / kSplitRows));
  cut->splits = std::clamp<int64_t>(static_cast<int64_t>(task / target), 1, most);
}

// The shared scratch of one call, taken in the order in which prepare() counted it.
struct ScratchCursor {
  std::byte* at;
  std::byte* take(int64_t bytes) {
    std::byte* p = at;
    at += aligned(bytes);
    return p;
  }
};

inline void run_job(const LinearTable& table, const Cut& cut, Format format, const PanelJob& job) {
  const int f = static_cast<int>(format);
  if (is_int8(cut.form)) {
    table.int8[f](job);
    return table.int8_outliers[f](job);
  }
  if (cut.form == kFormBf16) return table.bf16[f](job);
  if (cut.direct) return table.f32_direct[f](job);
  table.f32_blocks[f](job);
}

}  // namespace switchyard
