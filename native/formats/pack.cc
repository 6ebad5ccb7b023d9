#include "formats/pack.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "formats/float8.h"
#include "formats/format_table.h"
#include "formats/half.h"
#include "formats/stored_blocks.h"

namespace switchyard {
namespace {

int64_t align_up(int64_t n) { return (n + kPanelAlign - 1) / kPanelAlign * kPanelAlign; }

uint16_t half_at(const std::byte* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

float float_at(Format f, const std::byte* p) {
  if (f == Format::kF16) return f16_to_f32(half_at(p));
  if (f == Format::kBF16) return bf16_to_f32(half_at(p));
  float v;
  std::memcpy(&v, p, 4);
  return v;
}

// Four codes of one lane in the bytes of a word, shifted to the plane's place.
uint32_t spread(const uint8_t* codes, int from_bit, uint32_t mask, int to_bit) {
  uint32_t word = 0;
  for (int i = 0; i < 4; i++) word |= ((codes[i] >> from_bit & mask) << to_bit) << (8 * i);
  return word;
}

void merge(std::byte* vector, int lane, uint32_t bits) {
  uint32_t word;
  std::memcpy(&word, vector + 4 * lane, 4);
  word |= bits;
  std::memcpy(vector + 4 * lane, &word, 4);
}

// One plane of `bits` bits (1, 2, 4, 8) of the codes, starting at bit `from`.
std::byte* pack_plane(const uint8_t* codes, int bits, int from, std::byte* plane, int lane) {
  const int vectors = bits;                // of 64 bytes for 8 code vectors
  const uint32_t mask = (1u << bits) - 1;
  for (int v = 0; v < 8; v++) {
    // 4 bits: code vectors v and v + 4 share a vector; 2 bits: four neighbours do; 1 bit: all eight.
    const int vector = bits == 4 ? v % 4 : v * vectors / 8;
    const int to = bits == 4 ? v / 4 * 4 : bits == 2 ? v % 4 * 2 : bits == 1 ? v : 0;
    merge(plane + 64 * vector, lane, spread(codes + 4 * v, from, mask, to));
  }
  return plane + 64 * vectors;
}

void pack_codes(const uint8_t* codes, int code_bits, std::byte* chunk, int lane) {
  const int low = code_bits == 3 ? 2 : code_bits == 5 || code_bits == 6 ? 4 : code_bits;
  std::byte* rest = pack_plane(codes, low, 0, chunk, lane);
  if (code_bits > low) pack_plane(codes, code_bits - low, low, rest, lane);
}

int code_at(const std::byte* chunk, int code_bits, int lane, int k) {
  const int v = k / 4;
  const int low = code_bits == 3 ? 2 : code_bits == 5 || code_bits == 6 ? 4 : code_bits;
  const auto plane = [&](const std::byte* base, int bits) {
    const int vector = bits == 4 ? v % 4 : v * bits / 8;
    const int shift = bits == 4 ? v / 4 * 4 : bits == 2 ? v % 4 * 2 : bits == 1 ? v : 0;
    return (std::to_integer<int>(base[64 * vector + 4 * lane + k % 4]) >> shift) & ((1 << bits) - 1);
  };
  int code = plane(chunk, low);
  if (code_bits > low) code |= plane(chunk + 64 * low, code_bits - low) << low;
  return code;
}

void put_half(std::byte* at, int lane, uint16_t bits) { std::memcpy(at + 2 * lane, &bits, 2); }

void pack_scales(const FormatInfo& info, const StoredBlock& b, int chunk_in_block, std::byte* scales, int lane) {
  switch (info.scales) {
    case ScaleKind::kScaleMin: put_half(scales + 32, lane, b.m); [[fallthrough]];
    case ScaleKind::kScale: put_half(scales, lane, b.d); break;
    case ScaleKind::kExponent: scales[lane] = static_cast<std::byte>(b.e); break;
    case ScaleKind::kSuper:
      for (int h = 0; h < 2; h++) scales[16 * h + lane] = static_cast<std::byte>(b.c[2 * chunk_in_block + h]);
      break;
    case ScaleKind::kSuperMin:
      if (info.group == 16) {
        for (int h = 0; h < 2; h++) {
          const int g = 2 * chunk_in_block + h;
          scales[16 * h + lane] = static_cast<std::byte>(b.c[g] | b.n[g] << 4);
        }
      } else {
        scales[lane] = static_cast<std::byte>(b.c[chunk_in_block]);
        scales[16 + lane] = static_cast<std::byte>(b.n[chunk_in_block]);
      }
      break;
    case ScaleKind::kRow:
    case ScaleKind::kFloat:
    case ScaleKind::kNone: break;
  }
}

// The inverse of pack_scales.
void unpack_scales(const FormatInfo& info, const std::byte* scales, int lane, int chunk_in_block, StoredBlock* b) {
  const auto u8 = [&](int at) { return std::to_integer<uint8_t>(scales[at + lane]); };
  switch (info.scales) {
    case ScaleKind::kScaleMin: b->m = half_at(scales + 32 + 2 * lane); [[fallthrough]];
    case ScaleKind::kScale: b->d = half_at(scales + 2 * lane); break;
    case ScaleKind::kExponent: b->e = u8(0); break;
    case ScaleKind::kSuper:
      for (int h = 0; h < 2; h++) b->c[2 * chunk_in_block + h] = static_cast<int8_t>(u8(16 * h));
      break;
    case ScaleKind::kSuperMin:
      if (info.group == 16) {
        for (int h = 0; h < 2; h++) {
          b->c[2 * chunk_in_block + h] = static_cast<int8_t>(u8(16 * h) & 15);
          b->n[2 * chunk_in_block + h] = u8(16 * h) >> 4;
        }
      } else {
        b->c[chunk_in_block] = static_cast<int8_t>(u8(0));
        b->n[chunk_in_block] = u8(16);
      }
      break;
    case ScaleKind::kRow:
    case ScaleKind::kFloat:
    case ScaleKind::kNone: break;
  }
}

struct Scale {
  float s, m;
};

// 2^(e - 128); e = 0 and 1 give subnormal numbers.
float power_of(uint8_t e) { return std::bit_cast<float>(e < 2 ? (e + 1) << 21 : (e - 1) << 23); }

// What a code stands for before scaling.
float value_of(const FormatInfo& info, int code) {
  if (info.scales == ScaleKind::kFloat) return float8_times_2_120th(static_cast<uint8_t>(code));
  return static_cast<float>(info.values != nullptr ? info.values[code] : code);
}

// The one formula of s and m; the vector kernels compute the same operations in the same order.
Scale scale_of(const FormatInfo& info, float d, float dmin, int c, int n) {
  const float zero = info.values != nullptr ? -0.0f : static_cast<float>(-info.zero);
  switch (info.scales) {
    case ScaleKind::kSuperMin: return {d * static_cast<float>(c), -(dmin * static_cast<float>(n))};
    case ScaleKind::kScaleMin: return {d, dmin};
    case ScaleKind::kSuper: d *= static_cast<float>(c); [[fallthrough]];
    default: return {d, d * zero};
  }
}

Scale scale_at(const FormatInfo& info, const PanelLayout& layout, const std::byte* panel, int lane, int64_t k) {
  const int64_t chunk = k / kChunk;
  const int half = info.group == 16 ? static_cast<int>(k / 16 % 2) : 0;
  const std::byte* scales = panel + layout.scales_at + chunk / chunks_per_scale(info) * scale_bytes(info.scales);
  const std::byte* supers = panel + layout.supers_at + chunk / kSuperChunks * super_bytes(info.scales);
  const auto f16 = [lane](const std::byte* at) { return f16_to_f32(half_at(at + 2 * lane)); };
  const auto u8 = [&](int at) { return std::to_integer<int>(scales[at + lane]); };
  switch (info.scales) {
    case ScaleKind::kScale: return scale_of(info, f16(scales), 0, 0, 0);
    case ScaleKind::kFloat:
    case ScaleKind::kRow: return scale_of(info, float_at(Format::kF32, scales + 4 * lane), 0, 0, 0);
    case ScaleKind::kScaleMin: return scale_of(info, f16(scales), f16(scales + 32), 0, 0);
    case ScaleKind::kSuper: return scale_of(info, f16(supers), 0, static_cast<int8_t>(u8(16 * half)), 0);
    case ScaleKind::kExponent: return scale_of(info, power_of(static_cast<uint8_t>(u8(0))), 0, 0, 0);
    default: {
      const int c = u8(16 * half);
      if (info.group == 16) return scale_of(info, f16(supers), f16(supers + 32), c & 15, c >> 4);
      return scale_of(info, f16(supers), f16(supers + 32), c, u8(16));
    }
  }
}

}  // namespace

PanelLayout panel_layout(Format f, int64_t columns) {
  const FormatInfo& info = format_info(f);
  PanelLayout layout;
  layout.columns = columns;
  if (info.scales == ScaleKind::kNone) {
    const int64_t bytes = f == Format::kF32 ? columns * 64 : (columns + 1) / 2 * 64;
    layout.scales_at = layout.supers_at = layout.bytes = bytes;
    return layout;
  }
  const int64_t chunks = (columns + kChunk - 1) / kChunk;
  layout.scales_at = chunks * chunk_code_bytes(info.code_bits);
  const int64_t per_scale = chunks_per_scale(info), scales = (chunks + per_scale - 1) / per_scale;
  layout.supers_at = align_up(layout.scales_at + scales * scale_bytes(info.scales));
  layout.bytes = align_up(layout.supers_at + (chunks + kSuperChunks - 1) / kSuperChunks * super_bytes(info.scales));
  return layout;
}

int64_t stored_row_bytes(Format f, int64_t columns) {
  const FormatInfo& info = format_info(f);
  return columns / info.values_per_block * info.bytes_per_block;
}

void pack_chunk(const FormatInfo& info, const uint8_t* codes, int64_t chunk, std::byte* panel, int lane) {
  pack_codes(codes, info.code_bits, panel + chunk * chunk_code_bytes(info.code_bits), lane);
}

void pack_block_row(Format f, const PanelLayout& layout, const std::byte* row, std::byte* panel, int lane) {
  const FormatInfo& info = format_info(f);
  const int chunks_per_block = info.values_per_block / kChunk;
  StoredBlock block;
  for (int64_t b = 0; b < layout.columns / info.values_per_block; b++) {
    read_stored_block(f, row + b * info.bytes_per_block, &block);
    for (int i = 0; i < chunks_per_block; i++) {
      const int64_t chunk = b * chunks_per_block + i;
      pack_chunk(info, block.codes + i * kChunk, chunk, panel, lane);
      pack_scales(info, block, i, panel + layout.scales_at + chunk * scale_bytes(info.scales), lane);
    }
    std::byte* supers = panel + layout.supers_at + b * super_bytes(info.scales);
    if (info.scales == ScaleKind::kSuper || info.scales == ScaleKind::kSuperMin) put_half(supers, lane, block.d);
    if (info.scales == ScaleKind::kSuperMin) put_half(supers + 32, lane, block.m);
  }
}

void pack_float8_row(const PanelLayout& layout, const std::byte* codes, int64_t stride, const float* scales,
                     std::byte* panel, int lane) {
  constexpr int kGroup = kFormatTable[static_cast<int>(Format::kF8E4M3)].group;
  for (int64_t k = 0; k < layout.columns; k++) panel[k / 4 * 64 + 4 * lane + k % 4] = codes[k * stride];
  for (int64_t g = 0; g * kGroup < layout.columns; g++) {
    std::memcpy(panel + layout.scales_at + g * scale_bytes(ScaleKind::kFloat) + 4 * lane, &scales[g], 4);
  }
}

void decode_block_row(Format f, const std::byte* row, int64_t columns, float* out) {
  const FormatInfo& info = format_info(f);
  StoredBlock block{};
  for (int64_t b = 0; b < columns / info.values_per_block; b++, out += info.values_per_block) {
    read_stored_block(f, row + b * info.bytes_per_block, &block);
    const float d = info.scales == ScaleKind::kExponent ? power_of(block.e) : f16_to_f32(block.d);
    const float m = f16_to_f32(block.m);
    for (int g = 0; g < info.values_per_block / info.group; g++) {
      const Scale scale = scale_of(info, d, m, block.c[g % 16], block.n[g % 16]);
      for (int i = g * info.group; i < (g + 1) * info.group; i++) {
        out[i] = std::fma(scale.s, value_of(info, block.codes[i]), scale.m);
      }
    }
  }
}

void decode_float_row(Format f, const std::byte* values, int64_t stride, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i++) out[i] = float_at(f, values + i * stride);
}

void pack_float_row(Format stored, Format packed, const std::byte* values, int64_t stride, int64_t first,
                    int64_t count, std::byte* panel, int lane) {
  for (int64_t i = 0; i < count; i++) {
    const std::byte* from = values + i * stride;
    const int64_t k = first + i;
    if (packed == Format::kF32) {
      const float v = float_at(stored, from);
      std::memcpy(panel + k * 64 + 4 * lane, &v, 4);
      continue;
    }
    uint16_t h;
    if (stored == packed) {
      h = half_at(from);
    } else {
      const float v = float_at(stored, from);
      h = packed == Format::kF16 ? f32_to_f16(v) : f32_to_bf16(v);
    }
    std::memcpy(panel + k / 2 * 64 + 4 * lane + k % 2 * 2, &h, 2);
  }
}

void decode_lane(Format f, const PanelLayout& layout, const std::byte* panel, int lane, int64_t first, int64_t count,
                 float* out) {
  const FormatInfo& info = format_info(f);
  if (info.scales == ScaleKind::kNone) {
    for (int64_t i = 0; i < count; i++) {
      const int64_t k = first + i;
      out[i] = f == Format::kF32 ? float_at(f, panel + k * 64 + 4 * lane)
                                 : float_at(f, panel + k / 2 * 64 + 4 * lane + k % 2 * 2);
    }
    return;
  }
  for (int64_t i = 0; i < count;) {
    const Scale scale = scale_at(info, layout, panel, lane, first + i);
    const int64_t group_end = info.group == 0 ? count : ((first + i) / info.group + 1) * info.group - first;
    for (; i < count && i < group_end; i++) {
      const int64_t k = first + i;
      const std::byte* chunk = panel + k / kChunk * chunk_code_bytes(info.code_bits);
      const int code = code_at(chunk, info.code_bits, lane, static_cast<int>(k % kChunk));
      out[i] = std::fma(scale.s, value_of(info, code), scale.m);
    }
  }
}

void unpack_row(Format f, const PanelLayout& layout, const std::byte* panel, int lane, std::byte* row) {
  const FormatInfo& info = format_info(f);
  if (info.scales == ScaleKind::kNone) {
    for (int64_t k = 0; k < layout.columns; k++) {
      if (f == Format::kF32) std::memcpy(row + 4 * k, panel + k * 64 + 4 * lane, 4);
      else std::memcpy(row + 2 * k, panel + k / 2 * 64 + 4 * lane + k % 2 * 2, 2);
    }
    return;
  }
  const int chunks_per_block = info.values_per_block / kChunk;
  StoredBlock block{};
  for (int64_t b = 0; b < layout.columns / info.values_per_block; b++) {
    for (int i = 0; i < chunks_per_block; i++) {
      const int64_t chunk = b * chunks_per_block + i;
      const std::byte* codes = panel + chunk * chunk_code_bytes(info.code_bits);
      for (int k = 0; k < kChunk; k++) {
        block.codes[i * kChunk + k] = static_cast<uint8_t>(code_at(codes, info.code_bits, lane, k));
      }
      unpack_scales(info, panel + layout.scales_at + chunk * scale_bytes(info.scales), lane, i, &block);
    }
    const std::byte* supers = panel + layout.supers_at + b * super_bytes(info.scales);
    if (info.scales == ScaleKind::kSuper || info.scales == ScaleKind::kSuperMin) block.d = half_at(supers + 2 * lane);
    if (info.scales == ScaleKind::kSuperMin) block.m = half_at(supers + 32 + 2 * lane);
    write_stored_block(f, block, row + b * info.bytes_per_block);
  }
}

}  // namespace switchyard
