// Which tiles a product of plain tensors is made of; by shapes alone, so that results repeat. Nothing of a kernel is in here.
#pragma once
#include "cuda/kernel.h"

namespace switchyard::cuda {

// What a block is: tiles of kRows × kColumns by 256 threads, kStages steps of kDepth in shared memory, at least kBlocks of them on
// a multiprocessor. kPad…: floats between lines that keep a warp's reads in different banks. Tensor cores: kWarpsDown ×
// kWarpsAcross warps.
struct MultiplyAdd64 {
  static constexpr bool kTensor = false;
  static constexpr int kRows = 64, kColumns = 64, kDepth = 16, kStages = 4, kBlocks = 2, kPadAlong = 4, kPadAcross = 4;
};
struct Tensor64 {
  static constexpr bool kTensor = true;
  static constexpr int kRows = 64, kColumns = 128, kDepth = 32, kStages = 3, kBlocks = 2, kPadAlong = 8, kPadAcross = 4;
  static constexpr int kWarpsDown = 2, kWarpsAcross = 4;
};
struct Tensor128 {
  static constexpr bool kTensor = true;
  static constexpr int kRows = 128, kColumns = 128, kDepth = 32, kStages = 3, kBlocks = 1, kPadAlong = 8, kPadAcross = 4;
  static constexpr int kWarpsDown = 2, kWarpsAcross = 4;
};
constexpr int kTileThreads = 256;

enum class TileKind { kMultiplyAdd64, kTensor64, kTensor128 };

// Below this inner size reading the operands takes longer than multiplying them by multiply-adds.
constexpr int64_t kTensorDepth = 64;

// For `groups` products [m, n] over k (m: an average, where the groups' sizes are known on the device only). Tensor cores take
// the largest tiles that are at least half full and give half of the multiprocessors something to do.
inline TileKind choose_tile(int64_t m, int64_t n, int64_t k, int64_t groups, const DeviceLimits& device) {
  const auto fits = [&](int64_t rows, int64_t columns) {
    const int64_t tiles = ((m + rows - 1) / rows) * ((n + columns - 1) / columns);
    return tiles * rows * columns <= 2 * m * n && 2 * groups * tiles >= device.multiprocessors;
  };
  if (k < kTensorDepth) return TileKind::kMultiplyAdd64;
  if (fits(Tensor128::kRows, Tensor128::kColumns)) return TileKind::kTensor128;
  return fits(Tensor64::kRows, Tensor64::kColumns) ? TileKind::kTensor64 : TileKind::kMultiplyAdd64;
}

// f(Tile{}) of a kind.
template <class F>
void with_tile(TileKind kind, const F& f) {
  switch (kind) {
    case TileKind::kMultiplyAdd64: return f(MultiplyAdd64{});
    case TileKind::kTensor64: return f(Tensor64{});
    case TileKind::kTensor128: return f(Tensor128{});
  }
}

inline dim3 tile_grid(int64_t tiles) { return dim3(static_cast<unsigned>(tiles)); }

}  // namespace switchyard::cuda
