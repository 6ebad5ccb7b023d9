// Weight::pack: the parts of a source are read in bounded pieces, and their rows packed into panels.
#include <algorithm>
#include <map>

#include "formats/format_table.h"
#include "formats/stored_blocks.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/scale_grid.h"
#include "runtime/weight.h"
#include "runtime/weight_convert.h"
#include "runtime/weight_plan.h"

namespace switchyard {

namespace {

// What `use` of a file returns; what it throws names the tensor.
template <class Use>
auto named(const WeightSource& source, Use use) {
  try {
    return use();
  } catch (const Error& e) {
    refuse_weight(source.name, e.code(), e.what());
  }
}

// From the first value of a part to its last, in values of what is stored.
int64_t last_value(const WeightSource& source, const WeightPart& part) {
  const int64_t row = part.row_stride == 0 ? source.columns : part.row_stride;
  const int64_t column = part.column_stride == 0 ? 1 : part.column_stride;
  return checked_add(checked_mul(part.rows - 1, row, "weight"), checked_mul(source.columns - 1, column, "weight"), "weight");
}

// Where the rows go.
struct Panels {
  Format format;
  const PanelLayout& layout;
  std::byte* data;
  int64_t expert_stride;
};

// Memory of one thread, which serves piece after piece.
struct Scratch {
  std::unique_ptr<std::byte[]> piece;
  std::vector<std::byte> scales, joined;  // of parts whose scales lie apart; a row of whole blocks
  std::vector<float> row;                 // of values that change their format
  std::vector<float> turned;              // blocks of every column, decoded side by side
  std::vector<float> groups;
};

// A piece in memory.
struct Stored {
  const std::byte* values;
  const std::byte* scales;  // those that lie apart, else null
  Format format;
  int64_t row_step, column_step;  // bytes
};

class Packer {
 public:
  // Plans what is read and opens its files. Throws what is wrong with the source.
  Packer(const WeightSource& source, const std::atomic<bool>* abort) : source_(source), abort_(abort) {
    check_weight_source(source);
    const int64_t all_rows = checked_mul(source.experts, source.rows, "weight");
    int64_t covered = 0;
    grids_.resize(source.parts.size());
    for (size_t i = 0; i < source.parts.size(); i++) {
      const WeightPart& part = source.parts[i];
      plans_.push_back(plan_part(source, static_cast<int>(i), covered, &pieces_));
      covered = checked_add(covered, part.rows, "weight");
      plans_.back().file = open(part);
      if (part.scales) plans_.back().scale_file = open(*part.scales);
      if (part.grid) grids_[i] = ScaleValues(source.name, *part.grid, open(*part.grid), last_value(source, part));
    }
    if (covered != all_rows) {
      refuse_weight(source.name, ErrorCode::kShape,
                    "got parts of " + std::to_string(covered) + " rows, expected " + std::to_string(all_rows));
    }
    for (const Piece& piece : pieces_) {
      const PartPlan& plan = plans_[piece.part];
      if (plan.file == nullptr) continue;
      const int64_t spans = plan.gathered ? source.columns : 1;
      buffer_bytes_ = std::max(buffer_bytes_, checked_mul(piece.bytes, spans, "weight"));
    }
  }

  int64_t pieces() const { return static_cast<int64_t>(pieces_.size()); }

  // Reads a piece and packs its rows.
  void pack(int64_t number, const Panels& to, Scratch& scratch) const {
    check_abort();
    const Piece& piece = pieces_[number];
    const WeightPart& part = source_.parts[piece.part];
    Stored stored = read(piece, scratch);
    const int64_t count = piece.by_columns ? part.rows : piece.count;
    if (plans_[piece.part].gathered && !floats_ && !float8_) turn(&stored, count, scratch);
    for (int64_t i = 0; i < count; i++) pack_row(piece, i, stored, to, scratch);
  }

 private:
  const File* open(const WeightBytes& range) {
    if (range.path.empty()) return nullptr;
    std::unique_ptr<File>& file = files_[range.path];
    if (!file) named(source_, [&] { file = std::make_unique<File>(range.path); });
    return file.get();
  }

  void check_abort() const {
    if (abort_ == nullptr || !abort_->load(std::memory_order_relaxed)) return;
    fail(ErrorCode::kAborted, "[weight] '%s': aborted", source_.name.c_str());
  }

  Stored read(const Piece& piece, Scratch& scratch) const {
    const PartPlan& plan = plans_[piece.part];
    const WeightPart& part = source_.parts[piece.part];
    Stored stored{nullptr, nullptr, source_.stored, plan.row_step, plan.column_step};
    if (plan.file == nullptr) {
      stored.values = part.memory == nullptr ? nullptr : part.memory + piece.at;
    } else {
      if (!scratch.piece) scratch.piece.reset(new std::byte[buffer_bytes_]);
      std::byte* const buffer = scratch.piece.get();
      named(source_, [&] {
        for (int64_t c = 0; c < (plan.gathered ? source_.columns : 1); c++) {
          plan.file->read(part.offset + piece.at + c * plan.column_step, piece.bytes, buffer + c * piece.bytes);
        }
      });
      stored.values = buffer;
      if (plan.gathered) stored.column_step = piece.bytes;
    }
    if (part.scales) stored.scales = read_scales(piece, scratch);
    return stored;
  }

  const std::byte* read_scales(const Piece& piece, Scratch& scratch) const {
    const PartPlan& plan = plans_[piece.part];
    const WeightBytes& scales = *source_.parts[piece.part].scales;
    const int64_t at = piece.first * plan.scale_step;
    if (plan.scale_file == nullptr) return scales.memory + at;
    scratch.scales.resize((piece.count - 1) * plan.scale_step + source_.columns / kChunk);
    named(source_, [&] {
      plan.scale_file->read(scales.offset + at, static_cast<int64_t>(scratch.scales.size()), scratch.scales.data());
    });
    return scratch.scales.data();
  }

  // Blocks of every column become f32, decoded side by side.
  void turn(Stored* stored, int64_t count, Scratch& scratch) const {
    std::vector<float>& columns = scratch.turned;
    columns.resize(checked_mul(source_.columns, count, "weight"));
    for (int64_t c = 0; c < source_.columns; c++) {
      decode_block_row(source_.stored, stored->values + c * stored->column_step, count, columns.data() + c * count);
    }
    stored->values = reinterpret_cast<const std::byte*>(columns.data());
    stored->format = Format::kF32;
    stored->row_step = sizeof(float);
    stored->column_step = count * stored->row_step;
  }

  // Row i of a piece; of one that is whole columns, its part of every row.
  void pack_row(const Piece& piece, int64_t i, const Stored& stored, const Panels& to, Scratch& scratch) const {
    const PartPlan& plan = plans_[piece.part];
    const WeightPart& part = source_.parts[piece.part];
    const ScaleValues& grid = grids_[piece.part];
    const int64_t columns = source_.columns, in_part = (piece.by_columns ? 0 : piece.first) + i;
    const int64_t row = plan.first_row + in_part, expert = row / source_.rows, n = row % source_.rows;
    std::byte* const panel = to.data + expert * to.expert_stride + n / kPanel * to.layout.bytes;
    const int lane = static_cast<int>(n % kPanel);
    const std::byte* values = stored.values + i * stored.row_step;
    if (part.scales) {
      scratch.joined.resize(stored_row_bytes(source_.stored, columns));
      join_mxfp4(values, stored.scales + i * plan.scale_step, columns / kChunk, scratch.joined.data());
      values = scratch.joined.data();
    }
    // Of f8_e4m3: from the part's first value, and from column to column.
    const int64_t value = in_part * (part.row_stride == 0 ? columns : part.row_stride);
    const int64_t value_step = part.column_stride == 0 ? 1 : part.column_stride;
    // Values that change their format pass through a row of f32, unless one float format becomes another.
    if (to.format != source_.stored && by_whole_rows_) {
      check_abort();
      scratch.row.resize(columns);
      float* const out = scratch.row.data();
      if (float8_) decode_float8_row(source_, grid, values, stored.column_step, value, value_step, out);
      else if (is_float_format(stored.format)) decode_float_row(stored.format, values, stored.column_step, columns, out);
      else decode_block_row(source_.stored, values, columns, out);
      pack_converted(source_, row, scratch.row, to.format, to.layout, panel, lane);
    } else if (float8_) {
      pack_scaled_row(source_, grid, values, stored.column_step, value, value_step, to.layout, &scratch.groups, panel, lane);
    } else if (!floats_) {
      pack_block_row(source_.stored, to.layout, values, panel, lane);
    } else {
      pack_float_row(source_.stored, to.format, values, stored.column_step, piece.by_columns ? piece.first : 0,
                     piece.by_columns ? piece.count : columns, panel, lane);
    }
  }

  const WeightSource& source_;
  const std::atomic<bool>* const abort_;
  const bool floats_ = is_float_format(source_.stored), float8_ = source_.stored == Format::kF8E4M3;
  const bool by_whole_rows_ = by_whole_rows(source_);
  std::map<std::string, std::unique_ptr<File>> files_;
  std::vector<Piece> pieces_;
  std::vector<PartPlan> plans_;      // of the parts
  std::vector<ScaleValues> grids_;   // of the parts
  int64_t buffer_bytes_ = 0;         // of the largest piece
};

}  // namespace

std::shared_ptr<Weight> Weight::pack(const WeightSource& source, ThreadPool& pool, int threads,
                                     const std::atomic<bool>* abort) {
  const Packer packer(source, abort);
  std::shared_ptr<Weight> weight(
      new Weight(source.as.value_or(source.stored), source.experts, source.rows, source.columns));
  const Panels panels{weight->format_, weight->layout_, weight->allocate(), weight->expert_stride_};
  const int width = std::max(1, std::min(threads, pool.threads()));
  std::vector<Scratch> scratch(width);
  pool.parallel_for(packer.pieces(), width,
                    [&](int64_t task, int worker) { packer.pack(task, panels, scratch[worker]); });
  return weight;
}

}  // namespace switchyard
