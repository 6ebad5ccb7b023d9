// Products of few rows: each weight is read once, at the speed of the memory. A panel of 16 outputs is the 16-row operand of the
// tensor cores' products, 8 rows of activations are their columns, up to 4 such tiles at once.
//
// A task is a group of kPanels panels of one expert against at most 16 or 32 of its rows. The blocks that the device holds at once share
// the tasks of the experts that have rows evenly, in order. In a block a few lanes are the producers: they bring the panels, and
// the tiles of activations beside them, through a ring of slots in shared memory by bulk copies, as far ahead as the ring is long and
// across tasks. kWarps warps take turns at the slots of a task, each with a share of k; their sums are folded in shared memory in
// the order of the warps. Which block has a task changes nothing in its result.
//
// Weights do not depend on the grid before: the producer fills the ring with them before it waits for that grid.
#pragma once
#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>

#include "cuda/device/async.h"
#include "cuda/device/report.h"
#include "cuda/linear/product.h"
#include "cuda/linear/stream_source.h"

namespace switchyard::cuda {

// Of a task. Block formats have half as many: their sums need more registers, and reading codes again from the L2 cache is cheap.
template <Format f>
constexpr int kMostTiles = Codec<f>::kFloats ? 4 : 2;
constexpr int kMostStreamed = 4;

struct StreamOperands {
  // Weights of the same format and columns: one after another, or with kParts = 2 beside each other (gate and up).
  const std::byte* panels[kMostStreamed] = {};
  int64_t expert_stride[kMostStreamed] = {};
  int count[kMostStreamed] = {};               // panels of an expert
  int first_group[kMostStreamed + 1] = {};     // groups of panels before a weight's
  int weights = 0;
  Places places;
  int64_t units = 0;     // of a panel, see StreamSource; the last one of float formats may be cut short
  int64_t tile_bytes = 0;
  PlanRows plan;
  const std::byte* tiles = nullptr;
  int task_rows = kTileRows;  // at most
  int slot_bytes = 0, slots = 0;
  ErrorWord* error = nullptr;
  uint32_t instruction = 0;
};

struct StreamTask {
  int64_t expert;
  int weight, group;    // group: of the weight; with kParts = 2 of both, and weight is 0
  int64_t row, rows;    // of the task
  int64_t tile;
  int tiles;            // of 8 rows
};

// begins[e]: blocks of task_rows rows that the experts before e have, [experts + 1]; by all threads. All zero where offsets are wrong.
__device__ inline void list_row_blocks(const PlanRows& plan, int task_rows, int32_t* begins, ErrorWord* error, uint32_t instruction) {
  const int experts = static_cast<int>(plan.experts), thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e <= experts; e += static_cast<int>(blockDim.x)) {
    const int64_t begin = plan.offset(e), low = e == 0 ? 0 : plan.offset(e - 1), high = e == 0 ? 0 : plan.rows;
    const bool right = begin >= low && begin <= high;
    if (!right) report(error, instruction, ErrorKind::kIndex, e, begin, low, high);
    begins[e] = !right ? -1 : e == 0 ? 0 : (static_cast<int32_t>(begin - low) + task_rows - 1) / task_rows;
  }
  __syncthreads();
  if (thread < 32) {
    int32_t sum = 0;
    bool right = true;
    for (int first = 0; first <= experts; first += 32) {
      const int e = first + thread;
      const int32_t mine = e <= experts ? begins[e] : 0;
      right = __all_sync(0xffffffffu, mine >= 0) && right;
      int32_t scan = mine;
      for (int by = 1; by < 32; by *= 2) {
        const int32_t other = __shfl_up_sync(0xffffffffu, scan, static_cast<unsigned>(by));
        if (thread >= by) scan += other;
      }
      if (e <= experts) begins[e] = sum + scan;
      sum += __shfl_sync(0xffffffffu, scan, 31);
    }
    for (int e = thread; !right && e <= experts; e += 32) begins[e] = 0;
  }
  __syncthreads();
}

// The tasks of a block, one after another: all groups of panels of an expert, then those of the next that has rows. Row blocks are
// innermost, so that panels that are read again come from the L2 cache.
class TaskWalk {
 public:
  __device__ TaskWalk(const StreamOperands& s, const int32_t* begins) : s_(s), begins_(begins) {
    const int64_t all = int64_t{begins[s.plan.experts]} * groups();
    const int64_t from = all * blockIdx.x / gridDim.x;
    left_ = static_cast<int>(all * (blockIdx.x + 1) / gridDim.x - from);
    if (done()) return;
    int low = 0, high = static_cast<int>(s.plan.experts);  // begins[low]·groups() <= from < begins[high]·groups()
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (int64_t{begins[middle]} * groups() <= from ? low : high) = middle;
    }
    enter(low, static_cast<int>(from - int64_t{begins[low]} * groups()));
  }
  __device__ bool done() const { return left_ <= 0; }
  __device__ void next() {
    if (--left_ <= 0 || ++local_ < blocks_ * groups()) return;
    int e = expert_ + 1;
    while (begins_[e + 1] == begins_[e]) e++;
    enter(e, 0);
  }
  __device__ StreamTask task() const {
    int group = local_, block = 0, weight = 0;
    if (blocks_ > 1) group = local_ / blocks_, block = local_ % blocks_;
    while (weight + 1 < s_.weights && group >= s_.first_group[weight + 1]) weight++;
    const int64_t done = block * s_.task_rows, rows = min(rows_ - done, int64_t{s_.task_rows});
    return {expert_, weight, group - s_.first_group[weight], row_ + done, rows, tile_begin(expert_, row_) + done / kTileRows,
            static_cast<int>((rows + kTileRows - 1) / kTileRows)};
  }

 private:
  __device__ int groups() const { return s_.first_group[s_.weights]; }
  __device__ void enter(int expert, int local) {
    expert_ = expert, local_ = local, blocks_ = begins_[expert + 1] - begins_[expert];
    row_ = s_.plan.offset(expert), rows_ = s_.plan.offset(expert + 1) - row_;
  }

  const StreamOperands& s_;
  const int32_t* begins_;
  int left_ = 0, expert_ = 0, local_ = 0, blocks_ = 1;
  int64_t row_ = 0, rows_ = 0;  // of the expert
};

// Panel p of a task; nullptr past the weight's last one.
template <int kPanels, int kParts>
__device__ const std::byte* panel_of(const StreamOperands& s, const StreamTask& task, int p) {
  constexpr int kOwn = kPanels / kParts;
  const int weight = kParts == 1 ? task.weight : p / kOwn, panel = task.group * kOwn + p % kOwn;
  return panel < s.count[weight] ? s.panels[weight] + task.expert * s.expert_stride[weight] + panel * s.places.bytes : nullptr;
}

// Bytes of a slot that brings `units` units beside so many tiles, and how many units fit in one.
template <Format f, int kPanels>
__host__ __device__ int slot_room(const Places& at, int units, int tiles) {
  return kPanels * StreamSource<f>::panel_room(at, units) + tiles * units * StreamSource<f>::kUnitSteps * kTileStepBytes;
}
template <Format f, int kPanels>
__device__ int units_per_slot(const StreamOperands& s, int tiles) {
  int units = s.slot_bytes / (kPanels * StreamSource<f>::kUnitBytes + tiles * StreamSource<f>::kUnitSteps * kTileStepBytes);
  while (units > 1 && slot_room<f, kPanels>(s.places, units, tiles) > s.slot_bytes) units--;
  return units;
}

// What the producer puts in the slots, one after another.
template <Format f, int kPanels, int kParts>
class SlotWalk {
 public:
  using S = StreamSource<f>;
  __device__ SlotWalk(const StreamOperands& s, const int32_t* begins) : s_(s), tasks_(s, begins) { enter(); }
  __device__ bool done() const { return tasks_.done(); }
  __device__ void next() {
    first_ += per_;
    if (first_ < s_.units) return;
    tasks_.next();
    enter();
  }
  __device__ void ask_panels(std::byte* slot, Barrier& full) const {
    constexpr bool kScales = S::kScaleBytes > 0, kSupers = S::C::kSuperBytes > 0;
    Area codes = area_of(0, S::kUnitBytes, first_, count(), 0);
    codes.bytes = static_cast<uint32_t>(min(int64_t{codes.bytes}, s_.places.bytes - codes.from));
    const Area scales = area_of(s_.places.scales_at, S::kScaleBytes, first_, count(), kScales ? s_.places.scale_shift : 0);
    const Area supers = area_of(s_.places.supers_at, S::C::kSuperBytes, first_, count(), 3);  // kSuperChunks
    uint32_t panels = 0, tiles = 0;
    for (int p = 0; p < kPanels; p++) panels += panel_of<kPanels, kParts>(s_, task_, p) != nullptr ? 1 : 0;
    for (int i = 0; i < task_.tiles; i++) tiles += tile_bytes(i);
    arrive_expecting(full, panels * (codes.bytes + (kScales ? scales.bytes : 0) + (kSupers ? supers.bytes : 0)) + tiles);
    for (int p = 0; p < kPanels; p++) {
      const std::byte* from = panel_of<kPanels, kParts>(s_, task_, p);
      if (from == nullptr) continue;
      std::byte* to = slot + p * S::panel_room(s_.places, per_);
      copy_bulk(to, from + codes.from, codes.bytes, full);
      to += per_ * S::kUnitBytes;
      if constexpr (kScales) copy_bulk(to, from + scales.from, scales.bytes, full);
      if constexpr (kSupers) copy_bulk(to + S::scales_room(s_.places, per_), from + supers.from, supers.bytes, full);
    }
  }
  __device__ void ask_tiles(std::byte* slot, Barrier& full) const {
    std::byte* to = slot + kPanels * S::panel_room(s_.places, per_);
    for (int i = 0; i < task_.tiles; i++) {
      const std::byte* from = s_.tiles + (task_.tile + i) * s_.tile_bytes + first_ * S::kUnitSteps * places(i) * kRowStepBytes;
      copy_bulk(to + i * per_ * S::kUnitSteps * kTileStepBytes, from, tile_bytes(i), full);
    }
  }

 private:
  __device__ int count() const { return static_cast<int>(min(int64_t{per_}, s_.units - first_)); }
  __device__ int places(int tile) const { return tile_places(task_.rows - tile * kTileRows); }
  __device__ uint32_t tile_bytes(int tile) const { return static_cast<uint32_t>(count() * S::kUnitSteps * places(tile) * kRowStepBytes); }
  __device__ void enter() {
    first_ = 0;
    if (tasks_.done()) return;
    task_ = tasks_.task();
    per_ = units_per_slot<f, kPanels>(s_, task_.tiles);
  }

  const StreamOperands& s_;
  TaskWalk tasks_;
  StreamTask task_{};
  int first_ = 0, per_ = 1;
};

struct Ring {
  std::byte* slots;
  Barrier *full, *empty;
  int slot_bytes, count;
  int slot = 0;
  uint32_t parity = 0;  // of the round

  __device__ std::byte* bytes() const { return slots + int64_t{slot} * slot_bytes; }
  __device__ void next() {
    if (++slot == count) slot = 0, parity ^= 1;
  }
};

// Producing lanes take turns at the slots, whose number they divide. One thread alone needs longer to ask for a slot than memory
// needs to fill it.
constexpr int kProducers = 4;

template <Format f, int kPanels, int kParts>
__device__ void produce(const StreamOperands& s, const int32_t* begins, Ring ring, int lane) {
  SlotWalk<f, kPanels, kParts> walk(s, begins);
  const auto advance = [&](SlotWalk<f, kPanels, kParts>& at, Ring& place, int slots) {
    for (int i = 0; i < slots; i++) {
      if (!at.done()) at.next();
      place.next();
    }
  };
  advance(walk, ring, lane);
  SlotWalk<f, kPanels, kParts> behind = walk;
  Ring ring_behind = ring;
  int ahead = 0;
  for (; ahead < ring.count / kProducers && !walk.done(); ahead++, advance(walk, ring, kProducers)) {
    walk.ask_panels(ring.bytes(), ring.full[ring.slot]);
  }
  wait_for_previous_grid();
  fence_async_global();
  for (; ahead > 0; ahead--, advance(behind, ring_behind, kProducers)) behind.ask_tiles(ring_behind.bytes(), ring_behind.full[ring_behind.slot]);
  for (; !walk.done(); advance(walk, ring, kProducers)) {
    wait(ring.empty[ring.slot], ring.parity ^ 1);
    walk.ask_panels(ring.bytes(), ring.full[ring.slot]);
    walk.ask_tiles(ring.bytes(), ring.full[ring.slot]);
  }
}

// Scales that are the same for all of K.
template <Format f, int kPanels, int kParts, int kTiles>
__device__ void scale_rows(const StreamOperands& s, const StreamTask& task, int g, float (&sums)[kPanels][kTiles][4]) {
#pragma unroll
  for (int p = 0; p < kPanels; p++) {
    const std::byte* from = panel_of<kPanels, kParts>(s, task, p);
    if (from == nullptr) continue;
    const float2 scale = *reinterpret_cast<const float2*>(from + s.places.scales_at + 8 * g);
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      sums[p][n][0] *= scale.x, sums[p][n][1] *= scale.x, sums[p][n][2] *= scale.y, sums[p][n][3] *= scale.y;
    }
  }
}

// The slots of one task that are this warp's, and the fold of all warps' sums.
template <Format f, int kPanels, int kParts, int kWarps, int kTiles, class Epilogue>
__device__ void consume_task(const StreamOperands& s, const StreamTask& task, Ring& ring, float4* fold, const Epilogue& epilogue) {
  using S = StreamSource<f>;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32, g = lane / 4, t = lane % 4;
  const int units = static_cast<int>(s.units), per = units_per_slot<f, kPanels>(s, kTiles);
  const int room = S::panel_room(s.places, per), scales_room = S::scales_room(s.places, per);
  // Only the last tile may have fewer than 8 places; lanes past them read the last one's row for nothing.
  const int last = tile_places(task.rows - (kTiles - 1) * kTileRows), last_step = last * kRowStepBytes;
  const int x_at = kPanels * room + g * kRowStepBytes + 8 * t;
  const int last_at = kPanels * room + (kTiles - 1) * per * S::kUnitSteps * kTileStepBytes + min(g, last - 1) * kRowStepBytes + 8 * t;
  float sums[kPanels][kTiles][4] = {};
  for (int first = 0, turn = 0; first < units; first += per, turn = turn + 1 == kWarps ? 0 : turn + 1, ring.next()) {
    if (turn != warp) continue;
    wait(ring.full[ring.slot], ring.parity);
    const int count = min(per, units - first);
    const std::byte* slot = ring.bytes();
    const auto load_x = [&](int step, uint32_t (&x)[kTiles][2]) {
#pragma unroll
      for (int n = 0; n < kTiles; n++) {
        const std::byte* from = slot + (n == kTiles - 1 ? last_at + step * last_step : x_at + (n * per * S::kUnitSteps + step) * kTileStepBytes);
        const uint2 words = *reinterpret_cast<const uint2*>(from);
        x[n][0] = words.x, x[n][1] = words.y;
      }
    };
    if constexpr (S::C::kFloats) {
      const auto step = [&](int i, int pairs) {
        uint32_t x[kTiles][2];
        load_x(i, x);
#pragma unroll
        for (int p = 0; p < kPanels; p++) add_step<f, kTiles>(slot + p * room + i * S::kUnitBytes, pairs, g, t, x, sums[p]);
      };
      // Past K a panel ends, and the slot holds what was there before.
      const int64_t pairs = (s.places.bytes - int64_t{first + count - 1} * S::kUnitBytes) / 64;
      const int whole = pairs < 8 ? count - 1 : count;
#pragma unroll 4
      for (int i = 0; i < whole; i++) step(i, 8);
      if (whole < count) step(whole, static_cast<int>(pairs));
    } else {
#pragma unroll 2
      for (int i = 0; i < count; i++) {
        uint32_t x[2][kTiles][2];
        load_x(2 * i, x[0]), load_x(2 * i + 1, x[1]);
        float ones[2][kTiles][4] = {};
        if constexpr (S::C::kHasMin) {
          const uint32_t one[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
#pragma unroll
          for (int n = 0; n < kTiles; n++) mma_bf16(ones[0][n], one, x[0][n]), mma_bf16(ones[1][n], one, x[1][n]);
        }
#pragma unroll
        for (int p = 0; p < kPanels; p++) {
          const std::byte *codes = slot + p * room, *scales = codes + per * S::kUnitBytes;
          add_chunk<f, kTiles>(s.places, codes, scales, scales + scales_room, first, i, g, t, x, ones, sums[p]);
        }
      }
    }
    __syncwarp();
    if (lane == 0) arrive(ring.empty[ring.slot]);
  }
  if constexpr (S::kRowScale) scale_rows<f, kPanels, kParts, kTiles>(s, task, g, sums);
#pragma unroll
  for (int p = 0; p < kPanels; p++) {
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      fold[((warp * kPanels + p) * kTiles + n) * 32 + lane] = make_float4(sums[p][n][0], sums[p][n][1], sums[p][n][2], sums[p][n][3]);
    }
  }
  block_barrier(1, 32 * kWarps);
  constexpr int kOwn = kPanels / kParts;
  for (int i = warp; i < kOwn * kTiles; i += kWarps) {
    const int p = i / kTiles, n = i % kTiles;
    float4 parts[kParts];
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      const float4* from = fold + ((part * kOwn + p) * kTiles + n) * 32 + lane;
      float4 sum = from[0];
#pragma unroll
      for (int w = 1; w < kWarps; w++) {
        const float4 other = from[w * kPanels * kTiles * 32];
        sum = make_float4(sum.x + other.x, sum.y + other.y, sum.z + other.z, sum.w + other.w);
      }
      parts[part] = sum;
    }
    const int panel = task.group * kOwn + p;
    if (panel < s.count[task.weight]) epilogue(task, panel, n, g, t, parts);
  }
  block_barrier(1, 32 * kWarps);
}

// An epilogue is called for kParts folded panels (of gate and of up where it has two) by each lane 4g + t of a warp, with sums x of
// output 16·panel + 2g and row 2t of the tile, y the same of row 2t + 1, z and w of output 16·panel + 2g + 1.
template <Format f, int kPanels, int kParts, int kWarps, class Epilogue>
__global__ void __launch_bounds__(32 * kWarps + 32, 3) stream_kernel(const __grid_constant__ StreamOperands s,
                                                                   const __grid_constant__ Epilogue epilogue) {
  start_next_grid();
  SWITCHYARD_SHARED(shared);
  auto* fold = reinterpret_cast<float4*>(shared + int64_t{s.slots} * s.slot_bytes);
  auto* full = reinterpret_cast<Barrier*>(fold + kWarps * kPanels * kMostTiles<f> * 32);
  auto* begins = reinterpret_cast<int32_t*>(full + 2 * s.slots);
  const Ring start{shared, full, full + s.slots, s.slot_bytes, s.slots};
  if (threadIdx.x == 0) {
    for (int i = 0; i < s.slots; i++) init(start.full[i], 1), init(start.empty[i], 1);
    fence_barriers();
  }
  list_row_blocks(s.plan, s.task_rows, begins, s.error, s.instruction);
  if (threadIdx.x >= 32 * kWarps) {
    const int lane = static_cast<int>(threadIdx.x) - 32 * kWarps;
    if (lane < kProducers) produce<f, kPanels, kParts>(s, begins, start, lane);
    return;
  }
  Ring ring = start;
  for (TaskWalk walk(s, begins); !walk.done(); walk.next()) {
    const StreamTask task = walk.task();
    if (task.tiles == 1) consume_task<f, kPanels, kParts, kWarps, 1>(s, task, ring, fold, epilogue);
    if (task.tiles == 2) consume_task<f, kPanels, kParts, kWarps, 2>(s, task, ring, fold, epilogue);
    if constexpr (kMostTiles<f> == 4) {
      if (task.tiles == 3) consume_task<f, kPanels, kParts, kWarps, 3>(s, task, ring, fold, epilogue);
      if (task.tiles == 4) consume_task<f, kPanels, kParts, kWarps, 4>(s, task, ring, fold, epilogue);
    }
  }
}

// The codecs of packed weights that are products of bf16.
template <class Fn>
void with_stream_codec(Format format, const Fn& fn) {
  with_codec(format, [&]<Format f>() {
    if constexpr (f != Format::kF32) fn.template operator()<f>();
  });
}
inline TileOrder order_of(Format f) { return is_float_format(f) ? TileOrder::kNatural : TileOrder::kByFours; }

// What a run may choose.
struct StreamTuning {
  int shared_bytes = 100 << 10;  // of a block
  int slot_bytes = 12 << 10;     // about
  int blocks = 2;                // of a multiprocessor
};

// Measured on an H200: four warps a block and two panels a task are fastest for every number of tokens; eight warps wait longer for
// each other, four panels leave multiprocessors idle.
constexpr int kStreamWarps = 4, kStreamPanels = 2;

template <Format f, int kParts, class Epilogue>
void launch_stream(StreamOperands s, const StreamTuning& tuning, const Epilogue& epilogue, uint32_t instruction, const Launch& on) {
  constexpr int kPanels = kStreamPanels, kWarps = kStreamWarps;
  constexpr int kFoldBytes = kWarps * kPanels * kMostTiles<f> * 512, kBarriers = 2 * sizeof(Barrier);
  const int64_t table = 4 * (s.plan.experts + 1), most = std::min<int64_t>(tuning.shared_bytes, on.device->shared_per_block);
  const int room = static_cast<int>(most - kFoldBytes - table);
  const int wanted = std::max(tuning.slot_bytes, slot_room<f, kPanels>(s.places, 1, kMostTiles<f>) + 128);
  for (int i = 0; i < s.weights; i++) {
    s.first_group[i + 1] = s.first_group[i] + (s.count[i] + kPanels / kParts - 1) / (kPanels / kParts);
  }
  // A warp that waits for a slot has used it in the round before (consume_task), so it cannot take one round for another.
  s.slots = std::max(1, room / (wanted * kWarps)) * kWarps;
  s.slot_bytes = (room / s.slots - kBarriers) / 128 * 128;
  s.task_rows = kMostTiles<f> * kTileRows;
  s.error = on.error, s.instruction = instruction;
  launch(Start::kEarly, stream_kernel<f, kPanels, kParts, kWarps, Epilogue>,
         dim3(static_cast<unsigned>(on.device->multiprocessors * tuning.blocks)), dim3(32 * kWarps + 32),
         s.slots * (s.slot_bytes + kBarriers) + kFoldBytes + table, on, s, epilogue);
}

// Weights of one format against row tiles that launch_row_tiles() or another product wrote in the order of order_of(format): at
// most kMostStreamed one after another, or two beside each other. Throws length_error for more than kFewExperts experts.
template <int kParts, class Epilogue>
void launch_stream(std::span<const DeviceWeight* const> weights, const PlanRows& plan, const std::byte* tiles,
                   const StreamTuning& tuning, const Epilogue& epilogue, uint32_t instruction, const Launch& on) {
  if (plan.experts > kFewExperts) {
    throw std::length_error("[stream] got " + std::to_string(plan.experts) + " experts, expected at most " +
                            std::to_string(kFewExperts) + " for a product of few rows");
  }
  const DeviceWeight& first = *weights[0];
  StreamOperands s;
  for (size_t i = 0; i < weights.size(); i++) {
    s.panels[i] = weights[i]->data, s.expert_stride[i] = weights[i]->expert_stride;
    s.count[i] = static_cast<int>(weights[i]->panels());
  }
  s.weights = kParts == 1 ? static_cast<int>(weights.size()) : 1;
  s.places = Places::of(first.format, first.layout);
  s.plan = plan, s.tiles = tiles, s.tile_bytes = tile_steps(first.columns) * kTileStepBytes;
  with_stream_codec(first.format, [&]<Format f>() {
    s.units = (first.columns + 16 * StreamSource<f>::kUnitSteps - 1) / (16 * StreamSource<f>::kUnitSteps);
    launch_stream<f, kParts>(s, tuning, epilogue, instruction, on);
  });
}

}  // namespace switchyard::cuda
