// Where keys and values lie, and how a block of threads brings them as f32 into shared memory.
#pragma once
#include "cuda/attention/problem.h"
#include "cuda/device/float16.h"
#include "cuda/device/vector.h"

namespace switchyard::cuda {

// An int8 of a cache of codes.
struct Code {
  int8_t code;
};
__device__ inline float to_float(Code x) { return x.code; }

// The keys of a contiguous batch: k [M, G, C], v [M, G, Cv].
struct ContiguousKeys {
  using Element = float;
  static constexpr bool kPaged = false, kScaled = false;
  const float *k, *v;
  static constexpr const int32_t* lengths = nullptr;  // they are differences
  const int32_t* offsets;  // [S + 1]
  int64_t M;
  bool wide_k, wide_v;  // whether rows can be read by 16 bytes

  __device__ int length(const AttentionProblem& p, const AttentionTile& tile) const {
    const int s = tile.sequence;
    if (s >= p.S) return 0;
    const int begin = offsets[s], end = offsets[s + 1];
    if (s == 0 && begin != 0) {
      report(p.error, p.instruction, ErrorKind::kIndex, 0, begin, 0, 0);
      return 0;
    }
    if (begin < 0 || begin > M) return 0;  // reported as the end of the sequence before
    if (end >= begin && end <= M) return end - begin;
    report(p.error, p.instruction, ErrorKind::kIndex, s + 1, end, begin, M);
    return 0;
  }
};

// A paged cache: position p of a sequence is place p % size of block table[p / size]. A block is for each head [C, size] keys
// and [size, Cv] values; codes have their scales, f32 [size], behind them.
template <class T>
struct PagedKeys {
  using Element = T;
  static constexpr bool kPaged = true, kScaled = sizeof(T) == 1;
  const std::byte *k, *v;  // v nullptr: values are the first channels of the keys
  const int32_t *lengths, *table;
  int64_t blocks;
  Divisor<int32_t> page;  // its size
  int width;
  bool wide_k, wide_v;

  __device__ int length(const AttentionProblem& p, const AttentionTile& tile) const {
    const int s = tile.sequence, length = tile.length, least = p.causal ? tile.queries : 0;
    if (s >= p.S) return 0;
    const int64_t most = int64_t{width} * page.size;
    if (length >= least && length <= most) return length;
    report(p.error, p.instruction, ErrorKind::kIndex, s, length, least, most);
    return 0;
  }
};

// 16 keys of a head; nullptr: none of them is seen, or their block is not.
struct FoundVector {
  const std::byte *k, *v;
  const std::byte *k_scale, *v_scale;
};

// Vector `i` of the block of keys at `base`.
__device__ inline FoundVector find_vector(const ContiguousKeys& keys, const AttentionProblem& p, int s, int g,
                                          const SeenKeys&, int base, int i) {
  const int64_t row = (int64_t{keys.offsets[s]} + base + 16 * i) * p.G + g;
  return {reinterpret_cast<const std::byte*>(keys.k + row * p.C), reinterpret_cast<const std::byte*>(keys.v + row * p.Cv),
          nullptr, nullptr};
}

// Of a paged cache in two steps, so that the table can be read ahead: what the table says, or kUnseen.
constexpr int64_t kUnseen = int64_t{-1} << 62;

template <class T>
__device__ int64_t entry_of(const PagedKeys<T>& keys, int s, const SeenKeys& seen, int base, int i) {
  const int from = base + 16 * i, to = from + 16;
  if (from >= seen.prefix && (from >= seen.high || to <= seen.low)) return kUnseen;
  return keys.table[int64_t{s} * keys.width + keys.page.quotient(from)];
}

template <class T>
__device__ FoundVector vector_of(const PagedKeys<T>& keys, const AttentionProblem& p, int s, int g, int base, int i,
                                 int64_t block) {
  if (block == kUnseen) return {};
  const int from = base + 16 * i, page = keys.page.quotient(from), place = from - page * keys.page.size;
  if (!in_range(p.error, p.instruction, int64_t{s} * keys.width + page, block, keys.blocks)) return {};
  constexpr int64_t element = sizeof(T), extra = PagedKeys<T>::kScaled ? 4 : 0;
  FoundVector f{};
  const std::byte* k = keys.k + (block * p.G + g) * (p.C + extra) * keys.page.size * element;
  f.k = f.v = k + place * element;
  if (extra != 0) f.k_scale = f.v_scale = k + int64_t{p.C} * keys.page.size + place * 4;
  if (keys.v == nullptr) return f;
  const std::byte* v = keys.v + (block * p.G + g) * (p.Cv + extra) * keys.page.size * element;
  f.v = v + int64_t{place} * p.Cv * element;
  if (extra != 0) f.v_scale = v + int64_t{p.Cv} * keys.page.size + place * 4;
  return f;
}

template <class T>
__device__ FoundVector find_vector(const PagedKeys<T>& keys, const AttentionProblem& p, int s, int g, const SeenKeys& seen,
                                   int base, int i) {
  return vector_of(keys, p, s, g, base, i, entry_of(keys, s, seen, base, i));
}

// A scale may lie at any byte: an input is aligned to its elements, and those of codes are bytes.
__device__ inline float scale_at(const std::byte* at) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; i++) bits |= static_cast<uint32_t>(at[i]) << 8 * i;
  return __uint_as_float(bits);
}

// kCount elements as they lie, one or 16 bytes of them: loaded first and made f32 later, so that several are on their way.
template <int kCount, class T>
struct Elements {
  static_assert(kCount == 1 || kCount * sizeof(T) == 16);
  using Raw = std::conditional_t<kCount == 1, T, uint4>;
  Raw raw;

  __device__ void load(const T* from) { raw = from != nullptr ? *reinterpret_cast<const Raw*>(from) : Raw{}; }
  // to: 16-byte aligned where they are several.
  __device__ void store(float* to) const {
    if constexpr (kCount == 1) {
      *to = to_float(raw);
    } else {
      const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
      float x[kCount];
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        const uint32_t word = words[i * sizeof(T) / 4], bits = word >> (8 * sizeof(T) * i % 32);
        if constexpr (sizeof(T) == 4) x[i] = __uint_as_float(word);
        if constexpr (sizeof(T) == 2) x[i] = to_float(T{static_cast<uint16_t>(bits)});
        if constexpr (sizeof(T) == 1) x[i] = to_float(T{static_cast<int8_t>(bits)});
      }
#pragma unroll
      for (int i = 0; i < kCount; i += 4) *reinterpret_cast<float4*>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    }
  }
};

constexpr int kKeyStride = kKeyBlock + 4;  // floats from channel to channel of a staged block of keys
constexpr int kAttentionThreads = 256;

// Pieces of kCount elements → shared memory by all threads, four of a thread at once. from(i): where piece i lies, nullptr: zeros;
// to(i): where it goes.
template <int kCount, class T, class From, class To>
__device__ inline void stage_pieces(int pieces, const From& from, const To& to) {
  constexpr int kAhead = 4;
  for (int first = static_cast<int>(threadIdx.x); first < pieces; first += kAhead * kAttentionThreads) {
    Elements<kCount, T> x[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      const int i = first + a * kAttentionThreads;
      x[a].load(i < pieces ? from(i) : nullptr);
    }
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      const int i = first + a * kAttentionThreads;
      if (i < pieces) x[a].store(to(i));
    }
  }
}

// Channels [first, first + count) of a block of keys → to [count, 64]; zeros for keys that are not there. kCount: elements read
// at once.
template <int kCount, class Keys>
__device__ void stage_keys(const Keys& keys, const AttentionProblem& p, const FoundVector* found, const SeenKeys& seen,
                           int base, int first, int count, float* to) {
  using T = typename Keys::Element;
  if constexpr (Keys::kPaged) {
    constexpr int kPieces = kKeyBlock / kCount;
    stage_pieces<kCount, T>(
        count * kPieces,
        [&](int i) {
          const int c = i / kPieces, key = i % kPieces * kCount;
          const T* from = reinterpret_cast<const T*>(found[key / 16].k);
          return from != nullptr ? from + int64_t{first + c} * keys.page.size + key % 16 : nullptr;
        },
        [&](int i) { return to + i / kPieces * kKeyStride + i % kPieces * kCount; });
  } else {
    // Eight keys and four pieces of each a warp: few threads write to the same bank.
    const int pieces = (count + kCount - 1) / kCount, quads = (pieces + 3) / 4;
    for (int i = static_cast<int>(threadIdx.x); i < quads * 4 * kKeyBlock; i += kAttentionThreads) {
      const int piece = i / (32 * (kKeyBlock / 8)) * 4 + i / 8 % 4, key = i / 32 % (kKeyBlock / 8) * 8 + i % 8;
      if (piece >= pieces) continue;
      const int c = piece * kCount;
      float x[kCount] = {};
      if (seen.sees(base + key)) {
        const T* from = reinterpret_cast<const T*>(found[key / 16].k) + int64_t{key % 16} * p.G * p.C;
        const auto pack = load_pack<kCount>(from + first + c);
#pragma unroll
        for (int j = 0; j < kCount; j++) x[j] = pack.v[j];
      }
#pragma unroll
      for (int j = 0; j < kCount; j++) to[(c + j) * kKeyStride + key] = x[j];
    }
  }
}

// Values of keys [first, first + count) of a block, columns [column, column + kWidth) → to [count, kWidth]; zeros for what is
// not seen or not there: a masked value is never multiplied, 0·inf would not be 0.
template <int kCount, int kWidth, class Keys>
__device__ void stage_values(const Keys& keys, const AttentionProblem& p, const FoundVector* found, const SeenKeys& seen,
                             int base, int first, int count, int column, float* to) {
  using T = typename Keys::Element;
  constexpr int kPieces = kWidth / kCount;
  const int64_t distance = Keys::kPaged ? p.Cv : int64_t{p.G} * p.Cv;
  stage_pieces<kCount, T>(
      count * kPieces,
      [&](int i) {
        const int c = i % kPieces * kCount, key = first + i / kPieces;
        const T* from = reinterpret_cast<const T*>(found[key / 16].v);
        const bool there = from != nullptr && column + c < p.Cv && seen.sees(base + key);
        return there ? from + key % 16 * distance + column + c : nullptr;
      },
      [&](int i) { return to + i * kCount; });
}

// The same where values are the first channels of their keys.
template <int kWidth, class T>
__device__ void stage_values_of_keys(const PagedKeys<T>& keys, const AttentionProblem& p, const FoundVector* found,
                                     const SeenKeys& seen, int base, int first, int count, int column, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < count * kWidth; i += kAttentionThreads) {
    const int j = i % count, c = i / count, key = first + j;
    const T* from = reinterpret_cast<const T*>(found[key / 16].k);
    const bool there = from != nullptr && column + c < p.Cv && seen.sees(base + key);
    to[j * kWidth + c] = there ? to_float(from[int64_t{column + c} * keys.page.size + key % 16]) : 0.0f;
  }
}

}  // namespace switchyard::cuda
