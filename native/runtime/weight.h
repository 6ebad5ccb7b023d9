// A packed weight: E experts of [rows, columns], read by the kernels of native/cpu. Immutable once packed.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/format.h"
#include "formats/pack.h"
#include "runtime/thread_pool.h"

namespace switchyard {

// A range of a file, or memory.
struct WeightBytes {
  std::string path;                   // empty: `memory` counts
  int64_t offset = 0;                 // in the file
  const std::byte* memory = nullptr;  // must outlive pack()
  int64_t bytes = 0;                  // of the range; dense parts must match it exactly
};

// The scales of a stack of matrices of f8_e4m3: one for each block of block_rows × block_columns values of each matrix
// [rows, columns], the last blocks of a matrix may be smaller. Scales lie as [matrices, ceil(rows / block_rows),
// ceil(columns / block_columns)] in a float format.
struct ScaleGrid : WeightBytes {
  Format format = Format::kF32;
  int64_t block_rows = 0, block_columns = 0;
  int64_t rows = 0, columns = 0;
  int64_t first = 0;  // where in the stack the part begins, in values
};

// Consecutive rows of the flattened [experts · rows] of a weight: either a range of a file or memory.
struct WeightPart : WeightBytes {
  int64_t rows = 0;
  // Float formats and f8_e4m3: elements from one row (column) to the next, so that transposed and interleaved storage can
  // be read. Both 0: dense rows. Block formats may lie transposed (row_stride 1, whole blocks of rows) where `as` is
  // another format.
  int64_t row_stride = 0;
  int64_t column_stride = 0;
  // mxfp4 only: the scales lie apart, a byte for every 32 values, and the bytes of the part are codes (join_mxfp4). Rows may
  // then have a row_stride, a multiple of 32 values.
  std::optional<WeightBytes> scales;
  // f8_e4m3 only; without them values are what their codes stand for. Packed as they are, scales must not change within a
  // group of 128 values of a row.
  std::optional<ScaleGrid> grid;
};

struct WeightSource {
  std::string name;  // of the tensor, for messages
  Format stored = Format::kF32;
  // Convert while packing: to a float format, or to one that has a quantiser (formats/quantize.h).
  std::optional<Format> as;
  int64_t experts = 1;
  int64_t rows = 0;     // N, per expert
  int64_t columns = 0;  // K; block formats: a multiple of the block
  std::vector<WeightPart> parts;
};

// Where the packed bytes of a weight lie in a file, as they do in memory.
struct PackedRange {
  std::string name;  // of the tensor, for messages
  Format format = Format::kF32;
  int64_t experts = 1;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t offset = 0;  // a multiple of kPanelAlign
};

// Bytes of a packed weight. Throws kShape for sizes that no weight can have.
int64_t packed_weight_bytes(Format format, int64_t experts, int64_t rows, int64_t columns);

class Block;
class Device;
class File;
class MappedFile;
class PackedMemory;

class Weight {
 public:
  // Reads the parts in bounded pieces and packs them on `threads` threads. Memory beyond the packed size: at most one
  // piece (1 MiB, or one stored row) per thread, and a row of f32 where values change their format. Throws kShape,
  // kFormat (also for values that a quantiser cannot take), kIo (names the tensor and the file), kOutOfMemory, or
  // kAborted soon after *abort becomes true.
  static std::shared_ptr<Weight> pack(const WeightSource& source, ThreadPool& pool, int threads,
                                      const std::atomic<bool>* abort = nullptr);

  // A weight whose bytes stay in a mapped file. Throws kShape and kFormat for a range that no weight can have.
  static std::shared_ptr<Weight> map(const PackedRange& range, std::shared_ptr<const MappedFile> file);
  // The same, read into memory, where files cannot be mapped. Throws kIo, kOutOfMemory and kAborted too.
  static std::shared_ptr<Weight> read(const PackedRange& range, const File& file,
                                      const std::atomic<bool>* abort = nullptr);

  // Some experts of a weight, in the order given, as another format: through f32 where the format changes. Throws kFormat
  // for a format without a quantiser and values that it cannot hold, kShape, kOutOfMemory, kAborted.
  static std::shared_ptr<Weight> convert(const Weight& from, Format as, const std::vector<int64_t>& experts,
                                         ThreadPool& pool, int threads, const std::atomic<bool>* abort = nullptr);

  // The same weight in the memory of a device, or back in that of the host (itself where it lies there). Throw what the
  // device tells.
  std::shared_ptr<Weight> on(std::shared_ptr<const Device> device) const;
  static std::shared_ptr<const Weight> on_host(std::shared_ptr<const Weight> weight);

  // Puts an expert of another weight, in the host's memory, in the place of one of this weight, in that of a device: after the
  // runs that have begun. Throws kShape for weights of other forms.
  void replace(int64_t slot, const Weight& from, int64_t expert) const;

  // The same bytes seen as `experts` equal experts. This weight must have one expert.
  std::shared_ptr<Weight> repeated(int64_t experts) const;

  Format format() const { return format_; }
  int64_t experts() const { return experts_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return layout_.columns; }
  int64_t panels() const { return (rows_ + kPanel - 1) / kPanel; }
  bool repeats() const { return experts_ > 1 && expert_stride_ == 0; }  // all experts are the same bytes
  int64_t bytes() const { return bytes_; }  // of the packed memory, shared by repeated()
  const std::byte* data() const { return data_; }
  const Device* device() const;  // whose memory the bytes lie in; null: the host's
  int64_t expert_stride() const { return expert_stride_; }  // bytes; 0 where experts repeat
  // The file that the bytes lie in; null where they are in memory. Who has read them asks it for check().
  const std::shared_ptr<const MappedFile>& file() const { return file_; }
  const PanelLayout& layout() const { return layout_; }
  const std::byte* panel(int64_t expert, int64_t panel) const {
    return data_ + expert * expert_stride_ + panel * layout_.bytes;
  }

  // Dequantises rows [row, row + rows) of one expert to out [rows, columns]. Throws kShape outside the weight.
  void read(int64_t expert, int64_t row, int64_t rows, float* out) const;
  // The same rows as files store them, stored_row_bytes() each: the bytes that were packed. Throws kUnsupported for formats
  // that exist packed only, and for f8_e4m3.
  void store(int64_t expert, int64_t row, int64_t rows, std::byte* out) const;

 private:
  void check_rows(int64_t expert, int64_t row, int64_t rows) const;
  Weight() = default;
  Weight(Format format, int64_t experts, int64_t rows, int64_t columns);  // without data
  static std::shared_ptr<Weight> of_range(const PackedRange& range, int64_t file_bytes);
  std::byte* allocate();

  Format format_ = Format::kF32;
  int64_t experts_ = 1;
  int64_t rows_ = 0;
  PanelLayout layout_;
  int64_t expert_stride_ = 0;  // bytes; 0 where the experts are equal
  int64_t bytes_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<PackedMemory> memory_;      // one of the three holds the bytes
  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const Block> block_;        // of a device
};

// How far a weight lies from the values it stands for, in sums over all elements.
struct WeightError {
  double difference = 0;  // Σ (weight - reference)²
  double reference = 0;   // Σ reference²
};
// Decodes both row by row, on `threads` threads; the sums do not depend on their number. Throws kShape for other sizes,
// kAborted.
WeightError weight_error(const Weight& weight, const Weight& reference, ThreadPool& pool, int threads,
                         const std::atomic<bool>* abort = nullptr);

}  // namespace switchyard
