// What a query sees, and where the keys and values of a sequence lie.
#pragma once
#include <algorithm>
#include <bit>

#include "cpu/attention_tile.h"
#include "runtime/kernel.h"

namespace switchyard {

// Bits [from, to) of the block of keys that starts at `base`.
inline uint64_t bits_of(int64_t from, int64_t to, int64_t base) {
  from = std::clamp<int64_t>(from - base, 0, kKeyBlock);
  to = std::clamp<int64_t>(to - base, 0, kKeyBlock);
  if (from >= to) return 0;
  return (~uint64_t{0} << from) & (~uint64_t{0} >> (kKeyBlock - to));
}

// What the query at absolute position `at` sees: [0, prefix) and [low, high).
struct KeyRange {
  int64_t low, high, prefix;
  KeyRange(bool causal, int64_t window, int64_t prefix_length, int64_t length, int64_t at)
      : low(window > 0 ? std::max<int64_t>(0, at - window + 1) : 0),
        high(causal ? std::clamp<int64_t>(at + 1, 0, length) : length),
        prefix(std::min(prefix_length, length)) {}
  int64_t end() const { return std::max(high, prefix); }
  uint64_t bits(int64_t base) const { return bits_of(low, high, base) | bits_of(0, prefix, base); }
};

// A block of keys as it was found.
struct FoundBlock {
  KeyBlock at;
  const float* key_rows[kKeyBlock];  // of contiguous keys
};

inline bool sees_vector(uint64_t wanted, int vector) { return (wanted >> (vector * kLanes) & 0xffff) != 0; }

// The keys of a contiguous batch.
struct ContiguousKeys {
  const float *k, *v;  // [M, G, C], [M, G, Cv]
  const int32_t* key_offsets;
  const float* zeros;  // [C]
  int64_t G, C, Cv;
  static constexpr bool kRows = true;

  int64_t length(int64_t s) const { return key_offsets[s + 1] - key_offsets[s]; }
  int64_t k_distance() const { return 0; }
  int64_t v_distance() const { return G * Cv; }
  // Finds the keys from + j, for every bit j of `wanted`.
  void find(int64_t s, int64_t g, int64_t from, uint64_t wanted, FoundBlock* block) const {
    std::fill_n(block->key_rows, kKeyBlock, zeros);
    for (uint64_t rest = wanted; rest != 0; rest &= rest - 1) {
      const int j = std::countr_zero(rest);
      block->key_rows[j] = k + ((key_offsets[s] + from + j) * G + g) * C;
    }
    for (int i = 0; i < kKeyVectors; i++) {
      if (!sees_vector(wanted, i)) continue;
      block->at.v[i] = reinterpret_cast<const std::byte*>(v + ((key_offsets[s] + from + i * kLanes) * G + g) * Cv);
    }
  }
};

// The keys of a paged cache: position p of a sequence is place p % size of block table[p / size]. A block is for each
// head [C, size] keys and [size, Cv] values; with int8 the scales, f32 [size], follow the codes of each.
struct PagedKeys {
  const std::byte *k, *v;  // v nullptr: values are the first channels of the keys
  KvType type;
  const int32_t *lengths, *table;
  int64_t G, C, Cv, blocks, size, table_width, element;
  static constexpr bool kRows = false;

  int64_t length(int64_t s) const { return lengths[s]; }
  int64_t k_distance() const { return size; }
  int64_t v_distance() const { return Cv; }
  void find(int64_t s, int64_t g, int64_t from, uint64_t wanted, FoundBlock* found) const {
    const bool scaled = type == KvType::kInt8;
    const int64_t extra = scaled ? static_cast<int64_t>(sizeof(float)) : 0;
    KeyBlock& to = found->at;
    int good = -1;
    for (int i = 0; i < kKeyVectors; i++) {
      if (!sees_vector(wanted, i)) continue;
      const int64_t at = from + i * kLanes, entry = at / size, place = at % size;
      const int32_t block = table[s * table_width + entry];
      if (block < 0 || block >= blocks) {
        fail(ErrorCode::kOption, "[paged_attention] got block %d in place %lld of sequence %lld, expected 0 to %lld",
             block, static_cast<long long>(entry), static_cast<long long>(s), static_cast<long long>(blocks - 1));
      }
      const std::byte* keys = k + (block * G + g) * (C + extra) * size * element;
      to.k[i] = to.v[i] = keys + place * element;
      if (scaled) to.k_scale[i] = to.v_scale[i] = reinterpret_cast<const float*>(keys + C * size) + place;
      good = i;
      if (v == nullptr) continue;
      const std::byte* values = v + (block * G + g) * (Cv + extra) * size * element;
      to.v[i] = values + place * Cv * element;
      if (scaled) to.v_scale[i] = reinterpret_cast<const float*>(values + Cv * size) + place;
    }
    for (int i = 0; i < kKeyVectors && good >= 0; i++) {
      if (sees_vector(wanted, i)) continue;
      to.k[i] = to.k[good], to.v[i] = to.v[good], to.k_scale[i] = to.k_scale[good], to.v_scale[i] = to.v_scale[good];
    }
  }
};

}  // namespace switchyard
