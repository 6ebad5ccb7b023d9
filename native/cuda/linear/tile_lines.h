// The operands of tiles of products of plain f32 tensors: from lines of floats, as they lie in memory, to shared memory.
//
// A product of a tile, c [rows, columns] = Σ over its parts of a·b, walks over the inner dimension in steps of kDepth. Lines of
// an operand lie *along* the inner dimension (a [m, k], b [n, k]) or *across* it (a [k, m], b [k, n]); both may be picked by row
// ids. Threads copy 16 bytes at a time where lines are aligned to that, else 4, several steps ahead of what is multiplied.
// Whatever lies outside is zeros in shared memory and never read.
#pragma once
#include "cuda/device/async.h"
#include "cuda/device/report.h"
#include "cuda/linear/tile_choice.h"

namespace switchyard::cuda {

struct Lines {
  const float* data = nullptr;
  int64_t stride = 0;              // floats from one line to the next
  const int32_t* ids = nullptr;    // line i is data + ids[i]·stride; nullptr: data + i·stride
  int64_t count = 0;               // ids lie in [0, count)
  int64_t place = 0;               // of ids[0] in its operand
};

struct TilePart {
  Lines a, b;     // from the tile's first row and column on
  int64_t k = 0;
};

struct TileProduct {
  TilePart parts[2];
  int count = 0;                // of parts; 0 gives zeros
  int rows = 0, columns = 0;    // of the tile that exist
  float* c = nullptr;
  int64_t stride = 0;
  ErrorWord* error = nullptr;
  uint32_t instruction = 0;
};

// Of one operand, kTile rows (columns) wide.
template <class C, bool kAlong, int kTile>
class LineLoader {
 public:
  static constexpr int kLines = kAlong ? kTile : C::kDepth, kFloats = kAlong ? C::kDepth : kTile;  // of a step
  static constexpr int kStride = kFloats + (kAlong ? C::kPadAlong : C::kPadAcross);
  static constexpr int kSize = kLines * kStride;

  // Lines along: `extent` of them exist. Lines across: `extent` floats of each.
  __device__ void start(const Lines& lines, int64_t k, int extent, const TileProduct& p) {
    lines_ = lines, k_ = k, extent_ = extent;
    vectors_ = (reinterpret_cast<uintptr_t>(lines.data) | static_cast<uint64_t>(lines.stride) * 4) % 16 == 0;
#pragma unroll
    for (int i = 0; i < kEach; i++) from_[i] = kAlong ? begin(line(i), extent, id(line(i), extent), p) : nullptr;
    look_up(0);
  }

  // Asks for the step at `k`; steps are asked for in their order.
  __device__ void load(int64_t k, float* shared, const TileProduct& p) {
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      if (!kAlong) from_[i] = begin(k + line(i), k_, ids_[i], p);
      const int64_t left = kAlong ? k_ - k - column() : int64_t{extent_} - column();
      const int floats = from_[i] == nullptr ? 0 : static_cast<int>(max(int64_t{0}, min(int64_t{4}, left)));
      const float* from = floats == 0 ? lines_.data : from_[i] + (kAlong ? k : 0);
      float* to = shared + line(i) * kStride + column();
      if (vectors_) {
        copy_16(to, from, 4 * floats);
      } else {
#pragma unroll
        for (int j = 0; j < 4; j++) copy_4(to + j, j < floats ? from + j : lines_.data, j < floats ? 4 : 0);
      }
    }
    look_up(k + C::kDepth);
  }

 private:
  static constexpr int kPerLine = kFloats / 4, kApart = kTileThreads / kPerLine, kEach = kLines / kApart;
  static_assert(kTileThreads % kPerLine == 0 && kLines % kApart == 0);

  __device__ static int line(int i) { return static_cast<int>(threadIdx.x) / kPerLine + i * kApart; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) % kPerLine * 4; }

  __device__ int32_t id(int64_t at, int64_t end) const { return lines_.ids != nullptr && at < end ? lines_.ids[at] : 0; }
  // The ids of lines across are read a step before they are used.
  __device__ void look_up(int64_t k) {
#pragma unroll
    for (int i = 0; i < kEach && !kAlong; i++) ids_[i] = id(k + line(i), k_);
  }
  // Where line `at` of `end` begins for this thread; nullptr: there is none.
  __device__ const float* begin(int64_t at, int64_t end, int32_t id, const TileProduct& p) const {
    if (at >= end) return nullptr;
    if (lines_.ids != nullptr) {
      if (!in_range(p.error, p.instruction, lines_.place + at, id, lines_.count)) return nullptr;
      at = id;
    }
    return lines_.data + at * lines_.stride + column();
  }

  Lines lines_;
  const float* from_[kEach];
  int32_t ids_[kEach];
  int64_t k_ = 0;
  int extent_ = 0;
  bool vectors_ = false;
};

// Both operands of a tile: step(a, b) is called for each step's piece of them, [lines][stride] each, in order.
template <class C, bool kAlongA, bool kAlongB>
class TileSteps {
 public:
  using A = LineLoader<C, kAlongA, C::kRows>;
  using B = LineLoader<C, kAlongB, C::kColumns>;
  static constexpr int kStage = A::kSize + B::kSize;
  static constexpr int64_t kShared = int64_t{C::kStages} * kStage * 4;

  template <class Step>
  __device__ static void run(const TileProduct& p, float* shared, const Step& step) {
    A a;
    B b;
    int64_t total = 0;
    for (int i = 0; i < p.count; i++) total += (p.parts[i].k + C::kDepth - 1) / C::kDepth;
    int part = -1;
    int64_t k = 0, end = 0;
    const auto ask = [&](int64_t i) {
      if (i < total) {
        while (k >= end) {
          const TilePart& next = ++part == 0 ? p.parts[0] : p.parts[1];
          k = 0, end = next.k;
          a.start(next.a, end, p.rows, p);
          b.start(next.b, end, p.columns, p);
        }
        float* to = shared + i % C::kStages * kStage;
        a.load(k, to, p);
        b.load(k, to + A::kSize, p);
        k += C::kDepth;
      }
      copy_commit();
    };
    for (int i = 0; i < C::kStages - 1; i++) ask(i);
    for (int64_t i = 0; i < total; i++) {
      copy_wait<C::kStages - 2>();
      __syncthreads();  // all copies of step i are seen, and all threads are done with step i - 1, whose place is next
      ask(i + C::kStages - 1);
      const float* now = shared + i % C::kStages * kStage;
      step(now, now + A::kSize);
    }
    copy_wait<0>();
    __syncthreads();
  }
};

}  // namespace switchyard::cuda
