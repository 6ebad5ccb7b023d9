// Packed weights in other formats, and how far that takes them from where they were.
#include "runtime/weight_convert.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "formats/format_table.h"
#include "formats/quantize.h"
#include "runtime/error.h"
#include "runtime/mapped_file.h"
#include "runtime/weight_plan.h"

namespace switchyard {

void pack_converted(const WeightSource& source, int64_t row, const std::vector<float>& values, Format format,
                    const PanelLayout& layout, std::byte* panel, int lane) {
  if (is_float_format(format)) {
    pack_float_row(Format::kF32, format, reinterpret_cast<const std::byte*>(values.data()), sizeof(float), 0,
                   source.columns, panel, lane);
    return;
  }
  const int64_t wrong = quantize_row(format, layout, values.data(), panel, lane);
  if (wrong == source.columns) return;
  char text[160];
  std::snprintf(text, sizeof text, "got %g in expert %lld, row %lld, column %lld, expected finite values that %s can hold",
                static_cast<double>(values[wrong]), static_cast<long long>(row / source.rows),
                static_cast<long long>(row % source.rows), static_cast<long long>(wrong), format_info(format).name);
  refuse_weight(source.name, ErrorCode::kFormat, text);
}

std::shared_ptr<Weight> Weight::convert(const Weight& from, Format as, const std::vector<int64_t>& experts,
                                        ThreadPool& pool, int threads, const std::atomic<bool>* abort) {
  WeightSource source;  // for messages
  source.stored = from.format();
  source.experts = static_cast<int64_t>(experts.size());
  source.rows = from.rows();
  source.columns = from.columns();
  check_weight_sizes(source.name, as, source.experts, source.rows, source.columns);
  if (as != from.format() && !is_float_format(as) && !has_quantizer(as)) {
    refuse_weight(source.name, ErrorCode::kFormat, std::string("got ") + format_info(as).name + ", expected a format that values can be quantised to");
  }
  for (const int64_t expert : experts) {
    if (expert >= 0 && expert < from.experts()) continue;
    refuse_weight(source.name, ErrorCode::kShape,
           "got expert " + std::to_string(expert) + ", expected one of " + std::to_string(from.experts()));
  }
  std::shared_ptr<Weight> weight(new Weight(as, source.experts, source.rows, source.columns));
  std::byte* const packed = weight->allocate();
  const int width = std::max(1, std::min(threads, pool.threads()));
  std::vector<std::vector<float>> rows(width);
  pool.parallel_for(source.experts * from.panels(), width, [&](int64_t task, int worker) {
    if (abort != nullptr && abort->load(std::memory_order_relaxed)) fail(ErrorCode::kAborted, "[weight] aborted");
    const int64_t expert = task / from.panels(), number = task % from.panels();
    const std::byte* old = from.panel(experts[expert], number);
    std::byte* panel = packed + expert * weight->expert_stride_ + number * weight->layout_.bytes;
    if (as == from.format()) {
      std::memcpy(panel, old, static_cast<size_t>(weight->layout_.bytes));
      return;
    }
    std::vector<float>& values = rows[worker];
    values.resize(source.columns);
    for (int64_t row = number * kPanel; row < std::min(source.rows, (number + 1) * kPanel); row++) {
      const int lane = static_cast<int>(row % kPanel);
      decode_lane(from.format(), from.layout(), old, lane, 0, source.columns, values.data());
      pack_converted(source, expert * source.rows + row, values, as, weight->layout_, panel, lane);
    }
  });
  if (from.file()) from.file()->check();
  return weight;
}

WeightError weight_error(const Weight& weight, const Weight& reference, ThreadPool& pool, int threads,
                         const std::atomic<bool>* abort) {
  const int64_t columns = weight.columns(), rows = weight.rows();
  if (weight.experts() != reference.experts() || rows != reference.rows() || columns != reference.columns()) {
    fail(ErrorCode::kShape, "[weight] got %lld x [%lld, %lld] to compare with %lld x [%lld, %lld], expected equal sizes",
         static_cast<long long>(weight.experts()), static_cast<long long>(rows), static_cast<long long>(columns),
         static_cast<long long>(reference.experts()), static_cast<long long>(reference.rows()),
         static_cast<long long>(reference.columns()));
  }
  const int width = std::max(1, std::min(threads, pool.threads()));
  std::vector<std::vector<float>> buffers(width);
  std::vector<WeightError> panels(weight.experts() * weight.panels());
  pool.parallel_for(static_cast<int64_t>(panels.size()), width, [&](int64_t task, int worker) {
    if (abort != nullptr && abort->load(std::memory_order_relaxed)) fail(ErrorCode::kAborted, "[weight] aborted");
    std::vector<float>& buffer = buffers[worker];
    buffer.resize(2 * columns);
    float *a = buffer.data(), *b = a + columns;
    const int64_t expert = task / weight.panels(), first = task % weight.panels() * kPanel;
    WeightError sums;
    for (int64_t row = first; row < std::min(rows, first + kPanel); row++) {
      weight.read(expert, row, 1, a);
      reference.read(expert, row, 1, b);
      for (int64_t k = 0; k < columns; k++) {
        const double difference = static_cast<double>(a[k]) - b[k];
        sums.difference += difference * difference;
        sums.reference += static_cast<double>(b[k]) * b[k];
      }
    }
    panels[task] = sums;
  });
  WeightError all;
  for (const WeightError& panel : panels) {
    all.difference += panel.difference;
    all.reference += panel.reference;
  }
  return all;
}

}  // namespace switchyard
