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
enum Form { kFormF32, kFormRounded, kFormInt8, kFormBf16, kForms };

// Cost is counted in bytes of weights read; a multiply-add counts as the time of so many bytes.
constexpr double kMacCost[kForms] = {0.12, 0.12, 0.05, 0.05};
constexpr double kTasksPerThread = 8;
constexpr double kSmallestTask = 16 << 10;  // bytes: below, claiming costs more than balance gains
constexpr double kSerialCost = 48 << 10;    // a call below takes less time than waking the pool
constexpr int64_t kSplitRows = 64;          // fewer rows do not pay for expanding a slab again

// Formats whose products can take int8 activations.
constexpr bool admits_int8(Format f) { return !is_float_format(f) && !is_packed_only(f); }

inline Form form_of(const LinearTable& table, Format format, int compute) {
  const int f = static_cast<int>(format);
  if (compute == 2 && admits_int8(format)) return kFormInt8;
  if (compute == 1 && is_float_format(format)) return table.bf16[f] != nullptr ? kFormBf16 : kFormRounded;
  return kFormF32;
}

inline int64_t row_bytes(Form form, int64_t k) {
  return form == kFormInt8 ? int8_row_bytes(k) : form == kFormBf16 ? bf16_row_bytes(k) : f32_row_bytes(k);
}

inline int64_t block_rows(const LinearTable& table, Form form) {
  return form == kFormInt8 ? table.int8_rows : form == kFormBf16 ? table.bf16_rows : table.f32_rows;
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
  if (cut.form == kFormInt8) return table.int8[f](job);
  if (cut.form == kFormBf16) return table.bf16[f](job);
  if (cut.direct) return table.f32_direct[f](job);
  table.f32_blocks[f](job);
}

}  // namespace switchyard
