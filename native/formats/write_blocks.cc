// GGUF's block layouts, written: the inverse of stored_blocks.cc.
#include <array>
#include <cstring>

#include "formats/stored_blocks.h"

namespace switchyard {
namespace {

void put_half(uint16_t bits, uint8_t* p) {
  p[0] = static_cast<uint8_t>(bits);
  p[1] = static_cast<uint8_t>(bits >> 8);
}

void write_scales_k4(const StoredBlock& in, uint8_t* p) {
  for (int i = 0; i < 4; i++) {
    p[i] = static_cast<uint8_t>(in.c[i] | (in.c[i + 4] >> 4) << 6);
    p[i + 4] = static_cast<uint8_t>(in.n[i] | (in.n[i + 4] >> 4) << 6);
    p[i + 8] = static_cast<uint8_t>((in.c[i + 4] & 15) | (in.n[i + 4] & 15) << 4);
  }
}

void write_q4(const StoredBlock& in, uint8_t* p, uint8_t* high) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; i++) {
    p[i] = static_cast<uint8_t>((in.codes[i] & 15) | in.codes[i + 16] << 4);
    bits |= static_cast<uint32_t>(in.codes[i] >> 4) << i | static_cast<uint32_t>(in.codes[i + 16] >> 4) << (i + 16);
  }
  if (high != nullptr) std::memcpy(high, &bits, 4);
}

// The k formats set bits in bytes that are zero before.
void write_q2_k(const StoredBlock& in, uint8_t* p) {
  for (int i = 0; i < 16; i++) p[i] = static_cast<uint8_t>(in.c[i] | in.n[i] << 4);
  for (int i = 0; i < 256; i++) p[16 + i / 128 * 32 + i % 32] |= static_cast<uint8_t>(in.codes[i] << (i / 32 % 4 * 2));
  put_half(in.d, p + 80);
  put_half(in.m, p + 82);
}

void write_q3_k(const StoredBlock& in, uint8_t* p) {
  uint8_t *high = p, *low = p + 32, *scales = p + 96;
  for (int i = 0; i < 256; i++) {
    low[i / 128 * 32 + i % 32] |= static_cast<uint8_t>((in.codes[i] & 3) << (i / 32 % 4 * 2));
    high[i % 32] |= static_cast<uint8_t>((in.codes[i] >> 2) << (i / 32));
  }
  for (int i = 0; i < 16; i++) {
    const int c = in.c[i] + 32;
    scales[i % 8] |= static_cast<uint8_t>((c & 15) << (i / 8 * 4));
    scales[8 + i % 4] |= static_cast<uint8_t>((c >> 4) << (i / 4 * 2));
  }
  put_half(in.d, p + 108);
}

void write_q4_q5_k(const StoredBlock& in, bool five, uint8_t* p) {
  uint8_t* high = p + 16;
  uint8_t* low = five ? p + 48 : p + 16;
  put_half(in.d, p);
  put_half(in.m, p + 2);
  write_scales_k4(in, p + 4);
  for (int i = 0; i < 256; i++) {
    const int g = i / 32;
    low[g / 2 * 32 + i % 32] |= static_cast<uint8_t>((in.codes[i] & 15) << (g % 2 * 4));
    if (five) high[i % 32] |= static_cast<uint8_t>((in.codes[i] >> 4) << g);
  }
}

void write_q6_k(const StoredBlock& in, uint8_t* p) {
  uint8_t *low = p, *high = p + 128;
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, quarter = i / 32 % 4, l = i % 32;
    low[half * 64 + quarter % 2 * 32 + l] |= static_cast<uint8_t>((in.codes[i] & 15) << (quarter / 2 * 4));
    high[half * 32 + l] |= static_cast<uint8_t>((in.codes[i] >> 4) << (quarter * 2));
  }
  for (int i = 0; i < 16; i++) p[192 + i] = static_cast<uint8_t>(in.c[i]);
  put_half(in.d, p + 208);
}

void write_iq4_xs(const StoredBlock& in, uint8_t* p) {
  uint8_t *low = p + 4, *codes = p + 8;
  uint16_t high = 0;
  for (int g = 0; g < 8; g++) {
    const int c = in.c[2 * g] + 32;
    low[g / 2] |= static_cast<uint8_t>((c & 15) << (g % 2 * 4));
    high |= static_cast<uint16_t>((c >> 4) << (2 * g));
    for (int i = 0; i < 16; i++) {
      codes[16 * g + i] = static_cast<uint8_t>(in.codes[32 * g + i] | in.codes[32 * g + i + 16] << 4);
    }
  }
  put_half(high, p + 2);
}

// Digits in base 3 as a fraction of 256, rounded up: so ggml writes them.
void write_tq1_0(const StoredBlock& in, uint8_t* p) {
  const uint8_t* from = in.codes;
  for (const auto [at, count, digits] : {std::array{0, 32, 5}, std::array{32, 16, 5}, std::array{48, 4, 4}}) {
    for (int i = 0; i < count; i++) {
      int value = 0;
      for (int n = 0; n < 5; n++) value = 3 * value + (n < digits ? from[n * count + i] : 0);
      p[at + i] = static_cast<uint8_t>((value * 256 + 242) / 243);
    }
    from += digits * count;
  }
  put_half(in.d, p + 52);
}

}  // namespace

void write_stored_block(Format f, const StoredBlock& in, std::byte* block) {
  auto* p = reinterpret_cast<uint8_t*>(block);
  std::memset(p, 0, static_cast<size_t>(format_info(f).bytes_per_block));
  const bool begins = f != Format::kQ6_K && f != Format::kQ2_K && f != Format::kQ3_K && f != Format::kMXFP4 &&
                      f != Format::kTQ1_0 && f != Format::kTQ2_0;
  if (begins) put_half(in.d, p);  // the others have their scale elsewhere
  switch (f) {
    case Format::kQ8_0:
      for (int i = 0; i < 32; i++) p[2 + i] = in.codes[i] ^ 0x80;
      break;
    case Format::kQ4_0: write_q4(in, p + 2, nullptr); break;
    case Format::kQ4_1:
      put_half(in.m, p + 2);
      write_q4(in, p + 4, nullptr);
      break;
    case Format::kQ5_0: write_q4(in, p + 6, p + 2); break;
    case Format::kQ5_1:
      put_half(in.m, p + 2);
      write_q4(in, p + 8, p + 4);
      break;
    case Format::kQ2_K: write_q2_k(in, p); break;
    case Format::kQ3_K: write_q3_k(in, p); break;
    case Format::kQ4_K: write_q4_q5_k(in, false, p); break;
    case Format::kQ5_K: write_q4_q5_k(in, true, p); break;
    case Format::kQ6_K: write_q6_k(in, p); break;
    case Format::kIQ4_NL: write_q4(in, p + 2, nullptr); break;
    case Format::kIQ4_XS: write_iq4_xs(in, p); break;
    case Format::kMXFP4:
      p[0] = in.e;
      write_q4(in, p + 1, nullptr);
      break;
    case Format::kTQ1_0: write_tq1_0(in, p); break;
    case Format::kTQ2_0:
      for (int i = 0; i < 256; i++) p[i / 128 * 32 + i % 32] |= static_cast<uint8_t>(in.codes[i] << (i / 32 % 4 * 2));
      put_half(in.d, p + 64);
      break;
    default: break;
  }
}

}  // namespace switchyard
