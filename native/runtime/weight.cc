#include "runtime/weight.h"

#include <algorithm>

#include "formats/format_table.h"
#include "runtime/device.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/mapped_file.h"
#include "runtime/memory.h"
#include "runtime/packed_memory.h"
#include "runtime/weight_plan.h"

namespace switchyard {

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

}  // namespace switchyard
