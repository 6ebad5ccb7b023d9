// Products of many rows: tiles of rows of one expert against groups of eight panels, on tensor cores with bf16 operands and f32
// sums. A block is one warpgroup that fetches and two that multiply:
//   1. The fetching threads walk over the block's tiles and, 64 values of k at a time, copy the eight panels' share and the
//      tile's rows of x, found by row_token, to one of kStages places in shared memory.
//   2. Each multiplying warp takes 16 outputs: their weights go from shared memory to registers as they lie in panels, the rows
//      of x are read by the tensor cores (wgmma; mma.sync where kWarpgroup is false). The sums of a tile stay in registers.
//   3. An Epilogue makes of the sums what is stored.
// Weights are the left factor, so that outputs are the 64 rows of an instruction and the tile's rows its columns.
#pragma once
#include "cuda/device/mma.h"
#include "cuda/device/report.h"
#include "cuda/device/wgmma.h"
#include "cuda/linear/many_way.h"
#include "cuda/linear/many_tiles.h"

namespace switchyard::cuda::many {

constexpr int kDepth = 64;  // values of k in a stage
constexpr int kGroupPanels = 8;
constexpr int kPanelStage = kDepth * kPanel * 2, kWeightStage = kGroupPanels * kPanelStage;  // bytes
constexpr int kFetching = 128, kMultiplying = 256, kThreads = kFetching + kMultiplying;

// What is tuned. kLag: a stage is announced by the fetching threads once as many others have been asked for after it, at most
// kStages - 2; kAsync: its copies announce it themselves when they are done.
constexpr int kAsync = -1;
template <int kRows_, int kStages_, int kLag_, bool kWarpgroup_>
struct Shape {
  static constexpr int kRows = kRows_, kStages = kStages_, kLag = kLag_;
  static constexpr bool kWarpgroup = kWarpgroup_;
  static constexpr int kStageBytes = kWeightStage + kRows * kOperandRowBytes;
  static_assert(kLag <= kStages - 2 && kStageBytes % 1024 == 0 && kStages * 32 + 16 <= 256);
};
using ShapeWgmma = Shape<256, 4, kAsync, true>;  // 3 % before copies that the fetching threads tell of (H200)
using ShapeMma = Shape<128, 2, 0, false>;
// fn.template operator()<Shape of a way>().
template <class Fn>
void with_shape(Way way, const Fn& fn) {
  switch (way) {
    case Way::kWgmma256: return fn.template operator()<ShapeWgmma>();
    case Way::kMma128: return fn.template operator()<ShapeMma>();
  }
}

// The panels of bf16 weights.
struct Panels {
  const std::byte* data = nullptr;
  int64_t expert_stride = 0, bytes = 0;  // bytes: of a panel
  int count = 0;                         // panels of an expert
};

struct Work {
  Panels first, second;        // of first_expert on; second: up beside gate; else the panels that follow in a group are the first's own
  int64_t columns = 0;         // K
  const Bf16* x = nullptr;     // [tokens, padded_columns(K)]
  const int32_t* row_token = nullptr;  // nullptr: row r reads x[r]
  int64_t tokens = 0;
  TileList tiles;
  int first_expert = 0, experts = 1;   // those of the list that have a turn
  int groups = 0;
  uint32_t instruction = 0;
  ErrorWord* error = nullptr;
};

// The tiles and groups of a block of the grid, one after another. Groups go around the tiles of a block of tiles, so that what is
// multiplied at the same time reads few weights and few rows.
struct Walk {
  const Tile* tiles;
  int64_t item, end;
  int groups;

  __device__ explicit Walk(const Work& work) : groups(work.groups) {
    const int32_t first = work.tiles.starts[work.first_expert];
    tiles = work.tiles.tiles + first;
    item = blockIdx.x, end = int64_t{work.tiles.starts[work.first_expert + work.experts] - first} * groups;
  }
  __device__ bool more() const { return item < end; }
  __device__ void skip() { item += gridDim.x; }
  __device__ Tile take(int& group) {
    const int at = static_cast<int>(item / groups);
    const Tile any = tiles[at];
    const int begin = at - any.place, within = static_cast<int>(item - int64_t{begin} * groups);
    group = within / any.block;
    skip();
    return tiles[begin + within % any.block];
  }
};

// The place that comes next in the ring of stages, and the parity of its barriers.
template <int kStages>
struct Ring {
  int at = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++at == kStages) at = 0, parity ^= 1;
  }
};

// What the multiplying warps are told of a tile.
struct alignas(16) Begun {
  int expert, first, rows, group;
};

template <class S>
struct Shared {
  std::byte* stages;
  Barrier *full, *empty;
  Begun* begun;        // of the tile whose first stage lies in a place
  std::byte* staging;  // of epilogues

  __device__ explicit Shared(std::byte* base)
      : stages(base),
        full(reinterpret_cast<Barrier*>(base + S::kStages * S::kStageBytes)),
        empty(full + S::kStages),
        begun(reinterpret_cast<Begun*>(empty + S::kStages)),
        staging(base + S::kStages * S::kStageBytes + 256) {}
  static constexpr int64_t bytes(int64_t staging) { return S::kStages * S::kStageBytes + 256 + staging; }
  __device__ std::byte* weights(int stage) const { return stages + stage * S::kStageBytes; }
  __device__ std::byte* rows(int stage) const { return stages + stage * S::kStageBytes + kWeightStage; }
};

// Columns of the products that a tile of `rows` rows runs through: 64, 128 or all.
template <class S>
__device__ inline int tile_columns(int rows) {
  return rows <= 64 ? 64 : rows <= 128 ? 128 : S::kRows;
}

// A panel's 128 bytes (two pairs of k) in a stage: every second row of them has the halves of its halves exchanged, so that a
// warp that reads four pairs of eight lanes meets every bank once.
__device__ inline int panel_row_16(int row, int c) { return row * 128 + (c ^ (row & 1) * 2) * 16; }

// Places of a tile past its rows read its last row; what comes of them is not stored.
__device__ inline int row_of(const Tile& tile, int row) { return tile.first + min(row, tile.rows - 1); }

__device__ inline void report_tokens(const Work& work, const Tile& tile) {
  for (int row = tile.first; row < tile.first + tile.rows; row++) {
    if (!in_range(work.error, work.instruction, row, work.row_token[row], work.tokens)) return;
  }
}

template <class S, bool kGated>
__device__ void fetch(const Work& work, const Shared<S>& shared) {
  const int thread = static_cast<int>(threadIdx.x), c = thread % 8, r = thread / 8;
  const int depth = static_cast<int>((work.columns + kDepth - 1) / kDepth);
  const int pairs = static_cast<int>((work.columns + 1) / 2);
  const auto units = static_cast<uint32_t>(padded_columns(work.columns) / 8);  // of 16 bytes, in a row
  constexpr int kPasses = S::kRows / 16;  // a pass copies 16 rows
  Ring<S::kStages> ring;
  int ahead = 0, announced = 0;  // stages asked for and not announced; the next to be
  for (Walk walk(work); walk.more();) {
    int group;
    const Tile tile = walk.take(group);
    const int expert = tile.expert - work.first_expert, passes = tile_columns<S>(tile.rows) / 16;
    uint32_t row_at[kPasses];  // in units of 16 bytes
    if (work.row_token != nullptr) {
      int32_t token[kPasses];  // all are asked for before any is looked at
#pragma unroll
      for (int i = 0; i < kPasses; i++) token[i] = work.row_token[row_of(tile, r + 16 * i)];
      bool wrong = false;
#pragma unroll
      for (int i = 0; i < kPasses; i++) {
        const bool good = static_cast<uint32_t>(token[i]) < static_cast<uint32_t>(work.tokens);
        wrong = wrong || !good;
        row_at[i] = (good ? static_cast<uint32_t>(token[i]) : 0) * units + static_cast<uint32_t>(c);
      }
      if (wrong) report_tokens(work, tile);
    } else {
#pragma unroll
      for (int i = 0; i < kPasses; i++) {
        row_at[i] = static_cast<uint32_t>(row_of(tile, r + 16 * i)) * units + static_cast<uint32_t>(c);
      }
    }
    const std::byte* panels[2] = {work.first.data + expert * work.first.expert_stride + thread * 16,
                                  kGated ? work.second.data + expert * work.second.expert_stride + thread * 16 : nullptr};
    for (int k = 0; k < depth; k++) {
      wait(shared.empty[ring.at], ring.parity ^ 1);
      if (k == 0 && thread == 0) shared.begun[ring.at] = {tile.expert, tile.first, tile.rows, group};
      std::byte* to = shared.weights(ring.at) + panel_row_16(r, c);
      const bool inside = k * (kDepth / 2) + thread / 4 < pairs;
#pragma unroll
      for (int i = 0; i < kGroupPanels; i++) {
        const int half = kGated ? i / 4 : 0;
        const Panels& p = half ? work.second : work.first;
        const int panel = kGated ? group * 4 + i % 4 : group * kGroupPanels + i;
        const bool there = inside && panel < p.count;
        copy_16(to + i * kPanelStage, there ? panels[half] + panel * p.bytes + k * kPanelStage : p.data, there ? 16 : 0);
      }
      to = shared.rows(ring.at) + swizzled_16(r, c);
      const Bf16* from = work.x + k * kDepth;
#pragma unroll
      for (int i = 0; i < kPasses; i++) {
        if (i < passes) copy_16(to + i * 16 * kOperandRowBytes, from + size_t{row_at[i]} * 8);
      }
      if constexpr (S::kLag == kAsync) {
        arrive_when_copied(shared.full[ring.at]);
      } else {
        copy_commit();
        if (++ahead > S::kLag) {
          copy_wait<S::kLag>();
          fence_async();
          arrive(shared.full[announced]);
          announced = announced + 1 == S::kStages ? 0 : announced + 1;
          ahead--;
        }
      }
      ring.next();
    }
  }
  copy_wait<0>();
  fence_async();
  for (; ahead > 0; ahead--) {
    arrive(shared.full[announced]);
    announced = announced + 1 == S::kStages ? 0 : announced + 1;
  }
}

// Waits for a stage, as a thread whose warp multiplies from it.
template <class S>
__device__ __forceinline__ void wait_for_stage(const Shared<S>& shared, const Ring<S::kStages>& ring) {
  wait(shared.full[ring.at], ring.parity);
  if constexpr (S::kLag == kAsync) fence_async();
}

// A multiplying warp's place in a group of panels, and what its lane 4g + t does there. Gated: rows 0-7 of the warp are eight
// outputs of gate, rows 8-15 the same of up. Else rows g and g + 8 are the neighbours 2g and 2g + 1 of one panel.
template <bool kGated>
struct Place {
  int warp, lane, g, t;
  int output;           // of the group; of row g
  int word, other;      // bytes from a stage's weights to row g's and row g + 8's first pair of k

  __device__ Place() {
    warp = (static_cast<int>(threadIdx.x) - kFetching) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    g = lane / 4, t = lane % 4;
    const int panel = kGated ? warp / 2 : warp, in_panel = kGated ? warp % 2 * 8 + g : 2 * g;
    output = panel * kPanel + in_panel;
    word = panel * kPanelStage + panel_row_16(t / 2, t % 2 * 4 + in_panel / 4) + in_panel % 4 * 4;
    other = kGated ? word + 4 * kPanelStage : word + 4;
  }
};

// The fragments of 16 values of k: pairs t and t + 4, which lie 256 bytes apart.
template <bool kGated>
__device__ __forceinline__ void load_weights(const Place<kGated>& place, const std::byte* stage, int slice, uint32_t (&a)[4]) {
  const std::byte* at = stage + place.word + slice * 512;
  if constexpr (kGated) {
    const std::byte* up = stage + place.other + slice * 512;
    a[0] = *reinterpret_cast<const uint32_t*>(at), a[2] = *reinterpret_cast<const uint32_t*>(at + 256);
    a[1] = *reinterpret_cast<const uint32_t*>(up), a[3] = *reinterpret_cast<const uint32_t*>(up + 256);
  } else {
    const uint2 low = *reinterpret_cast<const uint2*>(at), high = *reinterpret_cast<const uint2*>(at + 256);
    a[0] = low.x, a[1] = low.y, a[2] = high.x, a[3] = high.y;
  }
}

constexpr int kSlices = kDepth / 16;

template <bool kGated>
__device__ __forceinline__ void arrive_as_warp(const Place<kGated>& place, Barrier& barrier) {
  if (place.lane == 0) arrive(barrier);
}

// sums = W·xᵀ over all of k, by warpgroups. Where the sums are many, the weights of a stage are loaded while the products of the
// one before run; with fewer the other warpgroup's products fill the gap.
template <class S, int kN, bool kGated>
__device__ __forceinline__ void multiply_warpgroup(const Place<kGated>& place, const Shared<S>& shared, int depth,
                                                   Ring<S::kStages>& ring, float (&sums)[kN / 2]) {
  constexpr bool kAhead = kN == 256;
  uint32_t a[kAhead ? 2 : 1][kSlices][4];
  int last = 0;
  const auto step = [&](uint32_t (&words)[kSlices][4], int k) {
    wait_for_stage<S>(shared, ring);
    const std::byte* weights = shared.weights(ring.at);
#pragma unroll
    for (int i = 0; i < kSlices; i++) load_weights(place, weights, i, words[i]);
    const uint64_t rows = operand(shared.rows(ring.at));
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kSlices; i++) wgmma<kN>(sums, words[i], rows + static_cast<uint64_t>(i) * kNextK);
    wgmma_commit();
    if constexpr (kAhead) {
      if (k > 0) {
        wgmma_wait<1>();
        arrive_as_warp(place, shared.empty[last]);
      }
      last = ring.at;
    } else {
      wgmma_wait<0>();
      arrive_as_warp(place, shared.empty[ring.at]);
    }
    ring.next();
  };
  int k = 0;
  if constexpr (kAhead) {
    for (; k + 1 < depth; k += 2) {
      step(a[0], k);
      step(a[1], k + 1);
    }
    if (k < depth) step(a[0], k);
    wgmma_wait<0>();
    arrive_as_warp(place, shared.empty[last]);
  } else {
    for (; k < depth; k++) step(a[0], k);
  }
}

// The same by single warps.
template <class S, int kN, bool kGated>
__device__ __forceinline__ void multiply_warp(const Place<kGated>& place, const Shared<S>& shared, int depth,
                                              Ring<S::kStages>& ring, float (&sums)[kN / 2]) {
  const int matrix = place.lane / 8, row = matrix / 2 * 8 + place.lane % 8;
  for (int k = 0; k < depth; k++) {
    wait_for_stage<S>(shared, ring);
    for (int i = 0; i < kSlices; i++) {
      uint32_t a[4];
      load_weights(place, shared.weights(ring.at), i, a);
#pragma unroll
      for (int j = 0; j < kN / 8; j += 2) {
        uint32_t b[4];
        ldmatrix(b, shared.rows(ring.at) + swizzled_16(8 * j + row, 2 * i + matrix % 2));
#pragma unroll
        for (int n = 0; n < 2; n++) {
          float* d = sums + 4 * (j + n);
          float part[4] = {d[0], d[1], d[2], d[3]};
          mma_bf16(part, a, {b[2 * n], b[2 * n + 1]});
          d[0] = part[0], d[1] = part[1], d[2] = part[2], d[3] = part[3];
        }
      }
    }
    __syncwarp();
    arrive_as_warp(place, shared.empty[ring.at]);
    ring.next();
  }
}

template <class S, int kN, class Epilogue>
__device__ __forceinline__ void multiply(const Work& work, const Epilogue& epilogue, const Place<Epilogue::kGated>& place,
                                         const Shared<S>& shared, Ring<S::kStages>& ring, const Begun& tile) {
  const int depth = static_cast<int>((work.columns + kDepth - 1) / kDepth);
  float sums[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; i++) sums[i] = 0;
  if constexpr (S::kWarpgroup) {
    multiply_warpgroup<S, kN>(place, shared, depth, ring, sums);
  } else {
    multiply_warp<S, kN>(place, shared, depth, ring, sums);
  }
  epilogue.template store<kN>(sums, place, tile, shared.staging + (place.warp / 4) * (Epilogue::staging(S::kRows) / 2));
}

template <class S, class Epilogue>
__global__ void __launch_bounds__(kThreads, 1) product_kernel(Work work, Epilogue epilogue) {
  SWITCHYARD_SHARED(base);
  const Shared<S> shared(base);
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; i++) init(shared.full[i], kFetching), init(shared.empty[i], kMultiplying / 32);
    fence_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kFetching) {
    if constexpr (S::kWarpgroup) give_registers<40>();
    fetch<S, Epilogue::kGated>(work, shared);
  } else {
    if constexpr (S::kWarpgroup) take_registers<232>();
    const Place<Epilogue::kGated> place;
    Ring<S::kStages> ring;
    for (Walk walk(work); walk.more(); walk.skip()) {
      wait(shared.full[ring.at], ring.parity);
      const Begun tile = shared.begun[ring.at];
      const int columns = tile_columns<S>(tile.rows);
      if (columns == 64) {
        multiply<S, 64>(work, epilogue, place, shared, ring, tile);
      } else if (columns == 128) {
        multiply<S, 128>(work, epilogue, place, shared, ring, tile);
      } else if constexpr (S::kRows > 128) {
        multiply<S, 256>(work, epilogue, place, shared, ring, tile);
      }
    }
  }
}

template <class S, class Epilogue>
void launch_product(const Work& work, const Epilogue& epilogue, const Launch& on) {
  constexpr int64_t kBytes = Shared<S>::bytes(Epilogue::staging(S::kRows));
  launch(product_kernel<S, Epilogue>, static_cast<unsigned>(on.device->multiprocessors), kThreads, kBytes, on, work, epilogue);
}

}  // namespace switchyard::cuda::many
