#include "runtime/weight_plan.h"

#include <algorithm>

#include "formats/format_table.h"
#include "formats/quantize.h"

namespace switchyard {

namespace {

constexpr int64_t kMxfp4CodeBytes = 16;  // of 32 values

[[noreturn]] void refuse(const WeightSource& source, ErrorCode code, const std::string& text) {
  refuse_weight(source.name, code, text);
}

// Whether values lie one by one, so that they may be stored with any strides.
bool has_single_values(Format f) { return format_info(f).values_per_block == 1; }

// Rows of mxfp4 whose scales lie apart.
PartPlan plan_split_part(const WeightSource& source, int index, int64_t first_row, std::vector<Piece>* pieces) {
  const WeightPart& part = source.parts[index];
  if (source.stored != Format::kMXFP4) {
    refuse(source, ErrorCode::kFormat, std::string("got scales apart for ") + format_info(source.stored).name + ", expected mxfp4");
  }
  const int64_t stride = part.row_stride == 0 ? source.columns : part.row_stride;
  if (part.column_stride > 1 || stride % kChunk != 0) {
    refuse(source, ErrorCode::kFormat, "got strides that part blocks, expected rows a multiple of 32 values from each other");
  }
  const int64_t blocks = source.columns / kChunk, row = blocks * kMxfp4CodeBytes;
  PartPlan plan;
  plan.first_row = first_row;
  plan.scale_step = stride / kChunk;
  plan.row_step = checked_mul(plan.scale_step, kMxfp4CodeBytes, "weight");
  const auto check = [&](const char* what, const WeightBytes& range, int64_t step, int64_t one) {
    if (range.path.empty() && range.memory == nullptr) {
      refuse(source, ErrorCode::kShape, std::string("got ") + what + " in no file and no memory, expected one of them");
    }
    const int64_t span = checked_add(checked_mul(part.rows - 1, step, "weight"), one, "weight");
    checked_add(range.offset, range.bytes, "weight");
    if (range.bytes == span || (part.row_stride != 0 && range.bytes > span)) return;
    refuse(source, ErrorCode::kShape,
           "got " + std::to_string(range.bytes) + " bytes of " + what + " for " + std::to_string(part.rows) +
               " rows, expected " + (part.row_stride != 0 ? "at least " : "") + std::to_string(span));
  };
  check("codes", part, plan.row_step, row);
  check("scales", *part.scales, plan.scale_step, blocks);
  const int64_t per_piece = std::max<int64_t>(1, (kPieceBytes - row) / plan.row_step + 1);
  for (int64_t first = 0; first < part.rows; first += per_piece) {
    const int64_t n = std::min(per_piece, part.rows - first);
    pieces->push_back({index, false, first, n, first * plan.row_step, (n - 1) * plan.row_step + row});
  }
  return plan;
}

// A part in blocks that lies transposed: a piece is a run of blocks of every column, which are decoded side by side.
PartPlan plan_turned_blocks(const WeightSource& source, int index, int64_t first_row, std::vector<Piece>* pieces) {
  const WeightPart& part = source.parts[index];
  const FormatInfo& info = format_info(source.stored);
  const int64_t block = info.values_per_block;
  if (part.row_stride != 1 || part.column_stride % block != 0 || part.rows % block != 0) {
    refuse(source, ErrorCode::kFormat,
           std::string("got strides that part blocks of ") + info.name + ", expected dense rows or whole blocks of columns");
  }
  if (!source.as || *source.as == source.stored) {
    refuse(source, ErrorCode::kFormat,
           std::string("got ") + info.name + " that lies transposed, expected it to be packed in another format");
  }
  PartPlan plan;
  plan.first_row = first_row;
  plan.gathered = true;
  plan.column_step = part.column_stride / block * info.bytes_per_block;
  const int64_t column = part.rows / block * info.bytes_per_block;
  const int64_t span = checked_add(checked_mul(source.columns - 1, plan.column_step, "weight"), column, "weight");
  if (part.bytes < span) {
    refuse(source, ErrorCode::kShape,
           "got " + std::to_string(part.bytes) + " bytes for " + std::to_string(source.columns) + " columns, expected at least " +
               std::to_string(span));
  }
  const int64_t decoded = static_cast<int64_t>(sizeof(float)) * block * source.columns;  // of a block of each column
  const int64_t per_piece = std::max<int64_t>(1, kPieceBytes / decoded) * block;
  for (int64_t first = 0; first < part.rows; first += per_piece) {
    const int64_t n = std::min(per_piece, part.rows - first);
    pieces->push_back({index, false, first, n, first / block * info.bytes_per_block, n / block * info.bytes_per_block});
  }
  return plan;
}

}  // namespace

bool by_whole_rows(const WeightSource& source) {
  return !is_float_format(source.stored) || (source.as && !is_float_format(*source.as));
}

void refuse_weight(const std::string& name, ErrorCode code, const std::string& text) {
  throw Error(code, "[weight] '" + name + "': " + text);
}

void check_weight_sizes(const std::string& name, Format format, int64_t experts, int64_t rows, int64_t columns) {
  const FormatInfo& info = format_info(format);
  if (experts < 1 || rows < 1 || columns < 1 || columns > kMaxColumns) {
    refuse_weight(name, ErrorCode::kShape,
                  "got " + std::to_string(experts) + " experts of [" + std::to_string(rows) + ", " + std::to_string(columns) +
                      "], expected positive sizes");
  }
  if (columns % info.values_per_block != 0) {
    refuse_weight(name, ErrorCode::kShape,
                  "got " + std::to_string(columns) + " columns, expected a multiple of " +
                      std::to_string(info.values_per_block) + " for " + info.name);
  }
}

void check_weight_source(const WeightSource& source) {
  const FormatInfo& info = format_info(source.stored);
  if (is_packed_only(source.stored)) {
    refuse(source, ErrorCode::kFormat,
           std::string("got ") + info.name + " as the stored format, expected one that files have");
  }
  if (source.as && *source.as != source.stored && !is_float_format(*source.as) && !has_quantizer(*source.as)) {
    refuse(source, ErrorCode::kFormat,
           std::string("got ") + info.name + " to be packed as " + format_info(*source.as).name +
               ", expected a float format or one that values can be quantised to");
  }
  check_weight_sizes(source.name, source.as.value_or(source.stored), source.experts, source.rows, source.columns);
}

PartPlan plan_part(const WeightSource& source, int index, int64_t first_row, std::vector<Piece>* pieces) {
  const WeightPart& part = source.parts[index];
  const bool single = has_single_values(source.stored);
  const auto negative = [](const WeightBytes& range) { return range.offset < 0 || range.bytes < 0; };
  const int64_t size = single ? format_info(source.stored).bytes_per_block : 0;
  const bool strided = part.row_stride != 0 || part.column_stride != 0;
  PartPlan plan;
  plan.first_row = first_row;
  if (part.rows < 1 || negative(part) || part.row_stride < 0 || part.column_stride < 0 ||
      (part.scales && negative(*part.scales))) {
    refuse(source, ErrorCode::kShape, "got a part of negative size, expected rows, offset, bytes and strides >= 0");
  }
  if (part.grid && source.stored != Format::kF8E4M3) {
    refuse(source, ErrorCode::kFormat,
           std::string("got a grid of scales for ") + format_info(source.stored).name + ", expected f8_e4m3");
  }
  const bool turned = strided && !single && !part.scales;
  if (!turned) check_weight_sizes(source.name, source.stored, source.experts, source.rows, source.columns);
  if (part.scales) return plan_split_part(source, index, first_row, pieces);
  if (part.path.empty() && part.memory == nullptr) {
    refuse(source, ErrorCode::kShape, "got a part of no file and no memory, expected one of them");
  }
  if (strided && (part.row_stride == 0 || part.column_stride == 0)) {
    refuse(source, ErrorCode::kShape, "got one stride of 0, expected both or none");
  }
  checked_add(part.offset, part.bytes, "weight");
  if (turned) return plan_turned_blocks(source, index, first_row, pieces);
  const int64_t row_bytes = stored_row_bytes(source.stored, source.columns);
  plan.row_step = strided ? checked_mul(part.row_stride, size, "weight") : row_bytes;
  plan.column_step = strided ? checked_mul(part.column_stride, size, "weight") : size;
  plan.gathered = strided && part.column_stride > part.row_stride && by_whole_rows(source);
  const bool by_columns = strided && part.column_stride > part.row_stride;
  const int64_t count = by_columns ? source.columns : part.rows;
  const int64_t step = by_columns ? plan.column_step : plan.row_step;
  const int64_t one = !single ? row_bytes
                      : by_columns ? checked_add(checked_mul(part.rows - 1, plan.row_step, "weight"), size, "weight")
                                   : checked_add(checked_mul(source.columns - 1, plan.column_step, "weight"), size,
                                                 "weight");
  const int64_t span = checked_add(checked_mul(count - 1, step, "weight"), one, "weight");
  if (strided ? part.bytes < span : part.bytes != span) {
    refuse(source, ErrorCode::kShape,
           "got " + std::to_string(part.bytes) + " bytes for " + std::to_string(part.rows) + " rows, expected " +
               (strided ? "at least " : "") + std::to_string(span));
  }
  if (plan.gathered) {
    const int64_t rows = std::max<int64_t>(1, (kPieceBytes / source.columns - size) / plan.row_step + 1);
    for (int64_t first = 0; first < part.rows; first += rows) {
      const int64_t n = std::min(rows, part.rows - first);
      pieces->push_back({index, false, first, n, first * plan.row_step, (n - 1) * plan.row_step + size});
    }
    return plan;
  }
  const int64_t per_piece = std::max<int64_t>(1, (kPieceBytes - one) / step + 1);
  for (int64_t first = 0; first < count; first += per_piece) {
    const int64_t n = std::min(per_piece, count - first);
    pieces->push_back({index, by_columns, first, n, first * step, (n - 1) * step + one});
  }
  return plan;
}

}  // namespace switchyard
