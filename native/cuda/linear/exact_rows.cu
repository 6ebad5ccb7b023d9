// f32 products of few rows: a block takes one panel (16 outputs) of one tile of rows and reads its weights once. Warps take
// runs of units in turn; in a warp four threads share a unit, and eight units lie side by side in memory. The sums of threads
// are folded over units by shuffles and over warps in shared memory, in a fixed order.
#include <algorithm>

#include "cuda/device/reduce.h"
#include "cuda/linear/exact.h"

namespace switchyard::cuda {
namespace {

constexpr int kMostWarps = 8;
constexpr int kUnitsPerWarp = 8;

// Units of a thread whose loads are under way together: 64 bytes of codes. With more rows sums take the registers, and products
// the time; all the more where codes are small.
template <Format f, int R>
constexpr int kInFlight = R <= 2 ? 4 : (R == 4 ? 4 : 2) / (Codec<f>::kBits < 8 ? 2 : 1);

template <Format f, int R>
struct RowSums {
  const std::byte* panel;
  const float* x[R];
  float at[R][4] = {};  // of this thread's units, for lanes 4·quad …

  // kWhole: vectors of x are aligned; else it is read value by value.
  template <int U, bool kWhole>
  __device__ __forceinline__ void add_all(const ExactArguments& a) {
    using C = Codec<f>;
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, quad = thread % 4, slot = thread % 32 / 4;
    const int64_t units = units_of<f>(a.at.columns), stride = static_cast<int64_t>(blockDim.x) / 32 * U * kUnitsPerWarp;
    for (int64_t base = warp * U * kUnitsPerWarp; base < units; base += stride) {
      Unit<f> u[U];
      ScaleWords<f> scales[U];
#pragma unroll
      for (int i = 0; i < U; i++) {
        const int64_t unit = base + kUnitsPerWarp * i + slot, chunk = unit / C::kUnits;
        if (unit >= units) continue;
        u[i] = load_unit<f>(panel + chunk * C::kChunkBytes, static_cast<int>(unit % C::kUnits), quad);
        scales[i] = load_scales<f>(panel, a.at, chunk, quad);
      }
#pragma unroll
      for (int i = 0; i < U; i++) {
        const int64_t unit = base + kUnitsPerWarp * i + slot;
        if (unit < units) add<kWhole>(a, u[i], scales[i], unit / C::kUnits, static_cast<int>(unit % C::kUnits));
      }
    }
  }

 private:
  template <bool kWhole>
  __device__ __forceinline__ void add(const ExactArguments& a, const Unit<f>& u, const ScaleWords<f>& scales, int64_t chunk,
                                      int unit) {
    using C = Codec<f>;
#pragma unroll
    for (int run = 0; run < C::kRuns; run++) {
      float w[4][C::kRun];
      decode<f>(u, scales, unit, run, w);
#pragma unroll
      for (int r = 0; r < R; r++) {
        float values[C::kRun];
        a.load_x<kWhole>(x[r], chunk * kChunk + first_k<f>(unit, run), values);
#pragma unroll
        for (int k = 0; k < C::kRun; k++) {
#pragma unroll
          for (int lane = 0; lane < 4; lane++) at[r][lane] = __fmaf_rn(values[k], w[lane][k], at[r][lane]);
        }
      }
    }
  }
};

template <Format f, int R>
__global__ void __launch_bounds__(32 * kMostWarps, 2) rows_kernel(ExactArguments a) {
  const int64_t panels = (a.outputs + kPanel - 1) / kPanel, panel = blockIdx.x % panels;
  const RowTile tile = a.tiles.at(blockIdx.x / panels);
  if (tile.rows == 0) return;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, quad = thread % 4, slot = thread % 32 / 4;
  RowSums<f, R> sums;
#pragma unroll
  for (int r = 0; r < R; r++) {
    const float* row = tile.expert >= 0 && r < tile.rows ? a.x_row(tile.first + r) : nullptr;
    sums.x[r] = row != nullptr ? row : a.x;  // of rows that are not stored, or of a run that fails
  }
  if (tile.expert >= 0 && a.tokens > 0) {
    sums.panel = a.panels + tile.expert * a.expert_stride + panel * a.at.bytes;
    if (a.whole_vectors) sums.template add_all<kInFlight<f, R>, true>(a);
    else sums.template add_all<1, false>(a);
  }

  __shared__ float parts[kMostWarps][R][kPanel];
#pragma unroll
  for (int r = 0; r < R; r++) {
#pragma unroll
    for (int lane = 0; lane < 4; lane++) {
      float s = sums.at[r][lane];
#pragma unroll
      for (int with = 16; with >= 4; with /= 2) s += __shfl_xor_sync(kAllLanes, s, with);
      if (slot == 0) parts[warp][r][4 * quad + lane] = s;
    }
  }
  __syncthreads();
  for (int i = thread; i < R * kPanel; i += static_cast<int>(blockDim.x)) {
    const int r = i / kPanel, output = i % kPanel;
    if (r >= tile.rows || panel * kPanel + output >= a.outputs) continue;
    float s = parts[0][r][output];
    for (int w = 1; w < static_cast<int>(blockDim.x) / 32; w++) s += parts[w][r][output];
    a.y[(tile.first + r) * a.outputs + panel * kPanel + output] = s;
  }
}

template <Format f, int R>
void launch_rows(const ExactArguments& a, const Launch& on) {
  const int64_t panels = (a.outputs + kPanel - 1) / kPanel, run = kInFlight<f, R> * kUnitsPerWarp;
  const int64_t warps = std::clamp<int64_t>((units_of<f>(a.at.columns) + run - 1) / run, 1, kMostWarps);
  const dim3 grid(static_cast<unsigned>(panels * a.tiles.bound)), block(static_cast<unsigned>(32 * warps));
  launch(rows_kernel<f, R>, grid, block, 0, on, a);
}

}  // namespace

void launch_exact_rows(Format format, const ExactArguments& a, const Launch& on) {
  with_codec(format, [&]<Format f>() {
    switch (a.tiles.per_tile) {
      case 1: return launch_rows<f, 1>(a, on);
      case 2: return launch_rows<f, 2>(a, on);
      case 4: return launch_rows<f, 4>(a, on);
      default: return launch_rows<f, kFewExactRows>(a, on);
    }
  });
}

}  // namespace switchyard::cuda
