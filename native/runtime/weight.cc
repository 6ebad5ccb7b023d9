#include "runtime/weight.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "formats/format_table.h"
#include "formats/quantize.h"
#include "formats/stored_blocks.h"
#include "runtime/device.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/mapped_file.h"
#include "runtime/memory.h"
#include "runtime/packed_memory.h"
#include "runtime/scale_grid.h"
#include "runtime/weight_plan.h"

namespace switchyard {

namespace {

void refuse(const WeightSource& source, ErrorCode code, const std::string& text) {
  refuse_weight(source.name, code, text);
}

// From the first value of a part to its last, in values of what is stored.
int64_t last_value(const WeightSource& source, const WeightPart& part) {
  const int64_t row = part.row_stride == 0 ? source.columns : part.row_stride;
  const int64_t column = part.column_stride == 0 ? 1 : part.column_stride;
  return checked_add(checked_mul(part.rows - 1, row, "weight"), checked_mul(source.columns - 1, column, "weight"), "weight");
}

// A row of f32 into one lane of a panel; `row` counts the rows of all experts.
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
  refuse(source, ErrorCode::kFormat, text);
}

}  // namespace

std::shared_ptr<Weight> Weight::pack(const WeightSource& source, ThreadPool& pool, int threads,
                                     const std::atomic<bool>* abort) {
  check_weight_source(source);
  const bool floats = is_float_format(source.stored), float8 = source.stored == Format::kF8E4M3;
  std::vector<Piece> pieces;
  std::vector<PartPlan> plans;
  std::map<std::string, std::unique_ptr<File>> files;
  const auto open = [&](const WeightBytes& range) -> const File* {
    if (range.path.empty()) return nullptr;
    std::unique_ptr<File>& file = files[range.path];
    try {
      if (!file) file = std::make_unique<File>(range.path);
    } catch (const Error& e) {
      refuse(source, e.code(), e.what());
    }
    return file.get();
  };
  const int64_t all_rows = checked_mul(source.experts, source.rows, "weight");
  int64_t covered = 0;
  std::vector<ScaleValues> grids(source.parts.size());
  for (size_t i = 0; i < source.parts.size(); i++) {
    const WeightPart& part = source.parts[i];
    plans.push_back(plan_part(source, static_cast<int>(i), covered, &pieces));
    covered = checked_add(covered, part.rows, "weight");
    plans.back().file = open(part);
    if (part.scales) plans.back().scale_file = open(*part.scales);
    if (part.grid) grids[i] = ScaleValues(source.name, *part.grid, open(*part.grid), last_value(source, part));
  }
  if (covered != all_rows) {
    refuse(source, ErrorCode::kShape,
           "got parts of " + std::to_string(covered) + " rows, expected " + std::to_string(all_rows));
  }

  std::shared_ptr<Weight> weight(
      new Weight(source.as.value_or(source.stored), source.experts, source.rows, source.columns));
  std::byte* const packed = weight->allocate();

  // Values that change their format pass through a row of f32, unless one float format becomes another.
  const bool convert = weight->format_ != source.stored && by_whole_rows(source);
  int64_t buffer_bytes = 0;
  for (const Piece& piece : pieces) {
    const PartPlan& plan = plans[piece.part];
    if (plan.file == nullptr) continue;
    const int64_t spans = plan.gathered ? source.columns : 1;
    buffer_bytes = std::max(buffer_bytes, checked_mul(piece.bytes, spans, "weight"));
  }
  const int width = std::max(1, std::min(threads, pool.threads()));
  std::vector<std::unique_ptr<std::byte[]>> buffers(width);
  std::vector<std::vector<float>> rows(width);
  std::vector<std::vector<float>> turned(width), groups(width);
  std::vector<std::vector<std::byte>> scales(width), joined(width);  // of parts whose scales lie apart

  pool.parallel_for(static_cast<int64_t>(pieces.size()), width, [&](int64_t task, int worker) {
    const auto check_abort = [&] {
      if (abort == nullptr || !abort->load(std::memory_order_relaxed)) return;
      fail(ErrorCode::kAborted, "[weight] '%s': aborted", source.name.c_str());
    };
    check_abort();
    const Piece& piece = pieces[task];
    const PartPlan& plan = plans[piece.part];
    const WeightPart& part = source.parts[piece.part];
    const std::byte* from = part.memory == nullptr ? nullptr : part.memory + piece.at;
    int64_t column_step = plan.column_step;
    if (plan.file != nullptr) {
      std::unique_ptr<std::byte[]>& buffer = buffers[worker];
      if (!buffer) buffer.reset(new std::byte[buffer_bytes]);
      try {
        for (int64_t c = 0; c < (plan.gathered ? source.columns : 1); c++) {
          plan.file->read(part.offset + piece.at + c * plan.column_step, piece.bytes, buffer.get() + c * piece.bytes);
        }
      } catch (const Error& e) {
        refuse(source, e.code(), e.what());
      }
      from = buffer.get();
      if (plan.gathered) column_step = piece.bytes;
    }
    const std::byte* apart = nullptr;
    if (part.scales) {
      const int64_t at = piece.first * plan.scale_step;
      if (plan.scale_file == nullptr) {
        apart = part.scales->memory + at;
      } else {
        scales[worker].resize((piece.count - 1) * plan.scale_step + source.columns / kChunk);
        apart = scales[worker].data();
        try {
          plan.scale_file->read(part.scales->offset + at, static_cast<int64_t>(scales[worker].size()), scales[worker].data());
        } catch (const Error& e) {
          refuse(source, e.code(), e.what());
        }
      }
      joined[worker].resize(stored_row_bytes(source.stored, source.columns));
    }
    std::vector<float>& values = rows[worker];
    if (convert) values.resize(source.columns);
    const int64_t first = piece.by_columns ? 0 : piece.first, count = piece.by_columns ? part.rows : piece.count;
    int64_t row_step = plan.row_step;
    Format decoded = source.stored;
    if (plan.gathered && !floats && !float8) {  // blocks of every column, decoded side by side
      std::vector<float>& columns = turned[worker];
      columns.resize(checked_mul(source.columns, count, "weight"));
      for (int64_t c = 0; c < source.columns; c++) {
        decode_block_row(source.stored, from + c * column_step, count, columns.data() + c * count);
      }
      from = reinterpret_cast<const std::byte*>(columns.data());
      decoded = Format::kF32;
      row_step = sizeof(float);
      column_step = count * row_step;
    }
    // Of f8_e4m3: from the part's first value, and from column to column.
    const int64_t value_step = part.row_stride == 0 ? source.columns : part.row_stride;
    const int64_t value_column = part.column_stride == 0 ? 1 : part.column_stride;
    for (int64_t i = 0; i < count; i++) {
      const int64_t row = plan.first_row + first + i, expert = row / source.rows, n = row % source.rows;
      std::byte* panel = packed + expert * weight->expert_stride_ + n / kPanel * weight->layout_.bytes;
      const std::byte* stored = from + i * row_step;
      const int lane = static_cast<int>(n % kPanel);
      if (part.scales) {
        join_mxfp4(stored, apart + i * plan.scale_step, source.columns / kChunk, joined[worker].data());
        stored = joined[worker].data();
      }
      const int64_t value = (first + i) * value_step;
      const ScaleValues& grid = grids[piece.part];
      if (convert) {
        check_abort();
        if (float8) decode_float8_row(source, grid, stored, column_step, value, value_column, values.data());
        else if (is_float_format(decoded)) decode_float_row(decoded, stored, column_step, source.columns, values.data());
        else decode_block_row(source.stored, stored, source.columns, values.data());
        pack_converted(source, row, values, weight->format_, weight->layout_, panel, lane);
      } else if (float8) {
        pack_scaled_row(source, grid, stored, column_step, value, value_column, weight->layout_, &groups[worker], panel, lane);
      } else if (!floats) {
        pack_block_row(source.stored, weight->layout_, stored, panel, lane);
      } else {
        pack_float_row(source.stored, weight->format_, stored, column_step, piece.by_columns ? piece.first : 0,
                       piece.by_columns ? piece.count : source.columns, panel, lane);
      }
    }
  });
  return weight;
}

int64_t packed_weight_bytes(Format format, int64_t experts, int64_t rows, int64_t columns) {
  check_weight_sizes("weight", format, experts, rows, columns);
  const int64_t panels = (checked_add(rows, kPanel - 1, "weight")) / kPanel;
  return checked_mul(checked_mul(panels, panel_layout(format, columns).bytes, "weight"), experts, "weight");
}

Weight::Weight(Format format, int64_t experts, int64_t rows, int64_t columns)
    : format_(format), experts_(experts), rows_(rows) {
  // A panel of kMaxColumns has at most 2^46 bytes; the products are checked.
  bytes_ = packed_weight_bytes(format, experts, rows, columns);
  expert_stride_ = bytes_ / experts;
  layout_ = panel_layout(format, columns);
}

std::byte* Weight::allocate() {
  memory_ = std::make_shared<PackedMemory>(bytes_);
  data_ = memory_->data();
  return memory_->data();
}

std::shared_ptr<Weight> Weight::of_range(const PackedRange& range, int64_t file_bytes) {
  check_weight_sizes(range.name, range.format, range.experts, range.rows, range.columns);
  std::shared_ptr<Weight> weight(new Weight(range.format, range.experts, range.rows, range.columns));
  if (range.offset < 0 || range.offset % kPanelAlign != 0 || range.offset > file_bytes ||
      weight->bytes_ > file_bytes - range.offset) {
    refuse_weight(range.name, ErrorCode::kFormat,
           "got " + std::to_string(weight->bytes_) + " bytes at byte " + std::to_string(range.offset) +
               ", expected a multiple of " + std::to_string(kPanelAlign) + " and an end within " +
               std::to_string(file_bytes) + " bytes");
  }
  return weight;
}

std::shared_ptr<Weight> Weight::map(const PackedRange& range, std::shared_ptr<const MappedFile> file) {
  std::shared_ptr<Weight> weight = of_range(range, file->bytes());
  weight->data_ = file->data() + range.offset;
  weight->file_ = std::move(file);
  return weight;
}

std::shared_ptr<Weight> Weight::read(const PackedRange& range, const File& file, const std::atomic<bool>* abort) {
  std::shared_ptr<Weight> weight = of_range(range, INT64_MAX);
  std::byte* const packed = weight->allocate();
  for (int64_t at = 0; at < weight->bytes_; at += kPieceBytes) {
    if (abort != nullptr && abort->load(std::memory_order_relaxed)) {
      fail(ErrorCode::kAborted, "[weight] '%s': aborted", range.name.c_str());
    }
    file.read(range.offset + at, std::min(kPieceBytes, weight->bytes_ - at), packed + at);
  }
  return weight;
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
    refuse(source, ErrorCode::kFormat, std::string("got ") + format_info(as).name + ", expected a format that values can be quantised to");
  }
  for (const int64_t expert : experts) {
    if (expert >= 0 && expert < from.experts()) continue;
    refuse(source, ErrorCode::kShape,
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

const Device* Weight::device() const { return block_ ? block_->device().get() : nullptr; }

std::shared_ptr<Weight> Weight::on(std::shared_ptr<const Device> device) const {
  std::shared_ptr<Weight> weight(new Weight(*this));
  weight->memory_.reset();
  weight->file_.reset();
  const auto block = std::make_shared<Block>(bytes_, std::move(device));
  block->device()->upload(block->data(), data_, bytes_);
  if (file_) file_->check();
  weight->data_ = block->data();
  weight->block_ = block;
  return weight;
}

std::shared_ptr<const Weight> Weight::on_host(std::shared_ptr<const Weight> weight) {
  if (weight->device() == nullptr) return weight;
  std::shared_ptr<Weight> copy(new Weight(*weight));
  copy->block_.reset();
  std::byte* const packed = copy->allocate();
  weight->device()->download(packed, weight->data_, weight->bytes_);
  return copy;
}

void Weight::replace(int64_t slot, const Weight& from, int64_t expert) const {
  if (device() == nullptr || from.device() != nullptr || repeats()) {
    fail(ErrorCode::kOption, "[weight] got an expert to replace between other places, expected one of a device by one of the host");
  }
  if (from.format_ != format_ || from.rows_ != rows_ || from.columns() != columns()) {
    fail(ErrorCode::kShape, "[weight] got an expert of %s [%lld, %lld], expected %s [%lld, %lld]", format_info(from.format_).name,
         static_cast<long long>(from.rows_), static_cast<long long>(from.columns()), format_info(format_).name,
         static_cast<long long>(rows_), static_cast<long long>(columns()));
  }
  const int64_t bytes = panels() * layout_.bytes;
  device()->upload(block_->data() + slot * bytes, from.panel(expert, 0), bytes);
  if (from.file_) from.file_->check();
}

std::shared_ptr<Weight> Weight::repeated(int64_t experts) const {
  if (experts_ != 1 || experts < 1) {
    fail(ErrorCode::kShape, "[weight] got %lld experts to repeat %lld times, expected one expert, at least once",
         static_cast<long long>(experts_), static_cast<long long>(experts));
  }
  std::shared_ptr<Weight> weight(new Weight(*this));
  weight->experts_ = experts;
  weight->expert_stride_ = 0;
  return weight;
}

void Weight::check_rows(int64_t expert, int64_t row, int64_t rows) const {
  if (expert >= 0 && expert < experts_ && row >= 0 && rows >= 0 && row <= rows_ - rows) return;
  fail(ErrorCode::kShape, "[weight] got rows %lld to %lld of expert %lld, expected them within %lld x [%lld, %lld]",
       static_cast<long long>(row), static_cast<long long>(row) + static_cast<long long>(rows),
       static_cast<long long>(expert), static_cast<long long>(experts_), static_cast<long long>(rows_),
       static_cast<long long>(columns()));
}

void Weight::read(int64_t expert, int64_t row, int64_t rows, float* out) const {
  check_rows(expert, row, rows);
  for (int64_t i = 0; i < rows; i++) {
    decode_lane(format_, layout_, panel(expert, (row + i) / kPanel), static_cast<int>((row + i) % kPanel), 0,
                columns(), out + i * columns());
  }
}

void Weight::store(int64_t expert, int64_t row, int64_t rows, std::byte* out) const {
  check_rows(expert, row, rows);
  if (!has_stored_rows(format_)) {
    fail(ErrorCode::kUnsupported, "[weight] got format %s, expected one whose rows files store by themselves", format_info(format_).name);
  }
  const int64_t bytes = stored_row_bytes(format_, columns());
  for (int64_t i = 0; i < rows; i++) {
    unpack_row(format_, layout_, panel(expert, (row + i) / kPanel), static_cast<int>((row + i) % kPanel),
               out + i * bytes);
  }
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
