// GGUF's block layouts (llama.cpp, ggml/src/ggml-common.h and ggml-quants.c, dequantize_row_*).
#include "formats/stored_blocks.h"

#include <array>
#include <cstring>

namespace switchyard {
namespace {

uint16_t half_at(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

// Twelve bytes hold eight 6-bit scales and eight 6-bit minima of q4_k and q5_k.
void read_scales_k4(const uint8_t* p, StoredBlock* out) {
  for (int i = 0; i < 4; i++) {
    out->c[i] = p[i] & 63;
    out->n[i] = p[i + 4] & 63;
    out->c[i + 4] = static_cast<int8_t>((p[i + 8] & 15) | (p[i] >> 6) << 4);
    out->n[i + 4] = static_cast<uint8_t>((p[i + 8] >> 4) | (p[i + 4] >> 6) << 4);
  }
}

void read_q4(const uint8_t* p, const uint8_t* high, StoredBlock* out) {
  uint32_t bits = 0;
  if (high != nullptr) std::memcpy(&bits, high, 4);
  for (int i = 0; i < 16; i++) {
    out->codes[i] = static_cast<uint8_t>((p[i] & 15) | (bits >> i & 1) << 4);
    out->codes[i + 16] = static_cast<uint8_t>((p[i] >> 4) | (bits >> (i + 16) & 1) << 4);
  }
}

void read_q2_k(const uint8_t* p, StoredBlock* out) {
  for (int i = 0; i < 16; i++) {
    out->c[i] = p[i] & 15;
    out->n[i] = p[i] >> 4;
  }
  for (int i = 0; i < 256; i++) out->codes[i] = p[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
  out->d = half_at(p + 80);
  out->m = half_at(p + 82);
}

void read_q3_k(const uint8_t* p, StoredBlock* out) {
  const uint8_t *high = p, *low = p + 32, *scales = p + 96;
  for (int i = 0; i < 256; i++) {
    const int bits = low[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    out->codes[i] = static_cast<uint8_t>(bits | (high[i % 32] >> (i / 32) & 1) << 2);
  }
  for (int i = 0; i < 16; i++) {
    const int four = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4;
    const int two = scales[8 + i % 4] >> (i / 4 * 2) & 3;
    out->c[i] = static_cast<int8_t>((four | two << 4) - 32);
  }
  out->d = half_at(p + 108);
}

void read_q4_q5_k(const uint8_t* p, bool five, StoredBlock* out) {
  const uint8_t* high = p + 16;
  const uint8_t* low = five ? p + 48 : p + 16;
  out->d = half_at(p);
  out->m = half_at(p + 2);
  read_scales_k4(p + 4, out);
  for (int i = 0; i < 256; i++) {
    const int g = i / 32;
    const int four = low[g / 2 * 32 + i % 32] >> (g % 2 * 4) & 15;
    out->codes[i] = static_cast<uint8_t>(five ? four | (high[i % 32] >> g & 1) << 4 : four);
  }
}

void read_q6_k(const uint8_t* p, StoredBlock* out) {
  const uint8_t *low = p, *high = p + 128;
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, quarter = i / 32 % 4, l = i % 32;
    const int four = low[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
    const int two = high[half * 32 + l] >> (quarter * 2) & 3;
    out->codes[i] = static_cast<uint8_t>(four | two << 4);
  }
  for (int i = 0; i < 16; i++) out->c[i] = static_cast<int8_t>(p[192 + i]);
  out->d = half_at(p + 208);
}

void read_iq4_xs(const uint8_t* p, StoredBlock* out) {
  const uint8_t *low = p + 4, *codes = p + 8;
  out->d = half_at(p);
  for (int g = 0; g < 8; g++) {
    const int four = low[g / 2] >> (g % 2 * 4) & 15, two = half_at(p + 2) >> (2 * g) & 3;
    out->c[2 * g] = out->c[2 * g + 1] = static_cast<int8_t>((four | two << 4) - 32);
    for (int i = 0; i < 16; i++) {
      out->codes[32 * g + i] = codes[16 * g + i] & 15;
      out->codes[32 * g + i + 16] = codes[16 * g + i] >> 4;
    }
  }
}

// Digit n of a byte that holds base-3 digits as a fraction of 256, the highest first.
uint8_t ternary_digit(uint8_t byte, int n) {
  constexpr int kPower[5] = {1, 3, 9, 27, 81};
  return static_cast<uint8_t>((byte * kPower[n] & 255) * 3 >> 8);
}

void read_tq1_0(const uint8_t* p, StoredBlock* out) {
  uint8_t* to = out->codes;
  for (const auto [from, count, digits] : {std::array{0, 32, 5}, std::array{32, 16, 5}, std::array{48, 4, 4}}) {
    for (int n = 0; n < digits; n++) {
      for (int i = 0; i < count; i++) *to++ = ternary_digit(p[from + i], n);
    }
  }
  out->d = half_at(p + 52);
}

}  // namespace

void join_mxfp4(const std::byte* codes, const std::byte* scales, int64_t blocks, std::byte* out) {
  for (int64_t b = 0; b < blocks; b++, codes += 16, out += 17) {
    out[0] = scales[b];
    for (int i = 0; i < 8; i++) {  // values 2i, 2i + 1, and those 16 further
      const std::byte low = codes[i], high = codes[8 + i], mask{15};
      out[1 + 2 * i] = (low & mask) | high << 4;
      out[2 + 2 * i] = low >> 4 | (high & ~mask);
    }
  }
}

void read_stored_block(Format f, const std::byte* block, StoredBlock* out) {
  const auto* p = reinterpret_cast<const uint8_t*>(block);
  switch (f) {
    case Format::kQ8_0:
      out->d = half_at(p);
      for (int i = 0; i < 32; i++) out->codes[i] = p[2 + i] ^ 0x80;  // signed to unsigned: + 128
      break;
    case Format::kQ4_0:
      out->d = half_at(p);
      read_q4(p + 2, nullptr, out);
      break;
    case Format::kQ4_1:
      out->d = half_at(p);
      out->m = half_at(p + 2);
      read_q4(p + 4, nullptr, out);
      break;
    case Format::kQ5_0:
      out->d = half_at(p);
      read_q4(p + 6, p + 2, out);
      break;
    case Format::kQ5_1:
      out->d = half_at(p);
      out->m = half_at(p + 2);
      read_q4(p + 8, p + 4, out);
      break;
    case Format::kQ2_K: read_q2_k(p, out); break;
    case Format::kQ3_K: read_q3_k(p, out); break;
    case Format::kQ4_K: read_q4_q5_k(p, false, out); break;
    case Format::kQ5_K: read_q4_q5_k(p, true, out); break;
    case Format::kQ6_K: read_q6_k(p, out); break;
    case Format::kIQ4_NL:
      out->d = half_at(p);
      read_q4(p + 2, nullptr, out);
      break;
    case Format::kIQ4_XS: read_iq4_xs(p, out); break;
    case Format::kMXFP4:
      out->e = p[0];
      read_q4(p + 1, nullptr, out);
      break;
    case Format::kTQ1_0: read_tq1_0(p, out); break;
    case Format::kTQ2_0:
      for (int i = 0; i < 256; i++) out->codes[i] = p[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
      out->d = half_at(p + 64);
      break;
    default: break;  // float formats have no blocks
  }
}

}  // namespace switchyard
