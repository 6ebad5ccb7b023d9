#include "cuda/linear/exact.h"

namespace switchyard::cuda {
namespace {

ExactArguments arguments_of(const Product& p, int64_t width, const RowTiles& tiles, uint32_t instruction, const Launch& on) {
  const DeviceWeight& w = *p.weight;
  ExactArguments a{};
  a.panels = w.data, a.expert_stride = w.expert_stride;
  a.at = Places::of(w.format, w.layout);
  a.outputs = w.rows;
  a.x = p.x, a.width = width, a.tokens = p.row_token != nullptr ? p.tokens : p.rows;
  a.row_token = p.row_token, a.y = p.y;
  a.tiles = tiles;
  a.instruction = instruction, a.error = on.error;
  a.whole_vectors = width % 4 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
  return a;
}

// Large tiles where experts fill most of one.
int many_tile_rows(int64_t rows, int64_t experts) { return rows > kLargeTile / 2 * experts ? kLargeTile : kSmallTile; }

}  // namespace

// A group of rows has a tile to itself where it can. Experts are guessed to share rows evenly: routing of few tokens meets most
// experts once, so tiles are a size larger than the mean.
int exact_tile_rows(int64_t rows, int64_t experts) {
  const double mean = static_cast<double>(rows) / static_cast<double>(experts);
  if (mean > kFewExactRows) return many_tile_rows(rows, experts);
  if (experts == 1) return mean <= 1 ? 1 : mean <= 2 ? 2 : mean <= 4 ? 4 : kFewExactRows;
  return mean <= 0.1 ? 1 : mean <= 0.7 ? 2 : mean <= 2 ? 4 : kFewExactRows;
}

void launch_exact(const Product& p, const RowTiles& tiles, uint32_t instruction, const Launch& on) {
  const ExactArguments a = arguments_of(p, p.weight->columns, tiles, instruction, on);
  if (tiles.per_tile <= kFewExactRows) launch_exact_rows(p.weight->format, a, on);
  else launch_exact_tiles(p.weight->format, a, false, on);
}

int64_t exact_scratch(const Product& p, const DeviceLimits&) {
  return p.offsets == nullptr ? 0 : tiles_scratch(p.rows, p.experts, exact_tile_rows(p.rows, p.experts));
}

void launch_exact(const Product& p, uint32_t instruction, const Launch& on, std::byte* scratch) {
  const int per_tile = exact_tile_rows(p.rows, p.experts);
  launch_exact(p, launch_tiles(p.offsets, p.rows, p.experts, per_tile, instruction, on, scratch), instruction, on);
}

int transposed_tile_rows(int64_t rows, int64_t experts) { return many_tile_rows(rows, experts); }

void launch_exact_transposed(const Product& p, const RowTiles& tiles, uint32_t instruction, const Launch& on) {
  launch_exact_tiles(p.weight->format, arguments_of(p, p.weight->rows, tiles, instruction, on), true, on);
}

}  // namespace switchyard::cuda
