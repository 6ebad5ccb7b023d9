// What is read for a weight: its parts checked and cut in pieces of bounded size.
#pragma once
#include <string>
#include <vector>

#include "runtime/error.h"
#include "runtime/weight.h"

namespace switchyard {

class File;

constexpr int64_t kPieceBytes = int64_t{1} << 20;

// A span of one part that one task reads and packs: whole rows, or whole columns where the part is stored by columns.
struct Piece {
  int part = 0;
  bool by_columns = false;
  int64_t first = 0, count = 0;  // rows or columns of the part
  int64_t at = 0, bytes = 0;     // from the part's start; a gathered part: of its first column
};

struct PartPlan {
  int64_t first_row = 0;  // in the flattened weight
  int64_t row_step = 0;   // bytes
  int64_t column_step = 0;  // bytes; block formats: of gathered parts only
  // Stored by columns, but wanted by whole rows: a piece is a run of rows of every column, read one by one.
  bool gathered = false;
  const File* file = nullptr;
  int64_t scale_step = 0;  // bytes from row to row of scales that lie apart
  const File* scale_file = nullptr;
};

// Quantisers see whole rows, and blocks are decoded by rows.
bool by_whole_rows(const WeightSource& source);

[[noreturn]] void refuse_weight(const std::string& name, ErrorCode code, const std::string& text);

// Throw kShape, kFormat.
void check_weight_sizes(const std::string& name, Format format, int64_t experts, int64_t rows, int64_t columns);
void check_weight_source(const WeightSource& source);
// Checks one part and appends its pieces.
PartPlan plan_part(const WeightSource& source, int index, int64_t first_row, std::vector<Piece>* pieces);

}  // namespace switchyard
