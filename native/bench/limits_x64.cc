// The loops of the x64 tiers. Each function carries its own target; none calls a library function with wide
// instructions that the linker could choose for other machines.
#include "bench/limits.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#if defined(__GNUC__)
#define SY_TARGET(features) __attribute__((target(features)))
#define SY_UNROLL _Pragma("GCC unroll 16")
// Says that memory and `p` may be read here: GCC 12's tile configuration load does not.
#define SY_READS(p) __asm__ volatile("" : : "r"(p) : "memory")
// Hides where a value comes from, so that a loop over it is not computed ahead of time.
#define SY_OPAQUE(v) __asm__ volatile("" : "+v"(v))
#else
#define SY_TARGET(features)
#define SY_UNROLL
#define SY_READS(p) _ReadWriteBarrier()
#define SY_OPAQUE(v) (void)v
#endif

namespace switchyard {
namespace {

#define SY_AVX2 SY_TARGET("avx2,fma")
#define SY_AVX512 SY_TARGET("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define SY_VNNI SY_TARGET("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define SY_BF16 SY_TARGET("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
#define SY_AMX SY_TARGET("amx-tile,amx-int8,amx-bf16")

volatile int keep;

SY_AVX2 uint64_t read_avx2(const std::byte* data, int64_t bytes) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  const auto at = [data](int64_t i) SY_AVX2 { return _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i)); };
  for (int64_t i = 0; i < bytes; i += 256) {
    s0 = _mm256_add_epi64(s0, _mm256_add_epi64(at(i), at(i + 32)));
    s1 = _mm256_add_epi64(s1, _mm256_add_epi64(at(i + 64), at(i + 96)));
    s2 = _mm256_add_epi64(s2, _mm256_add_epi64(at(i + 128), at(i + 160)));
    s3 = _mm256_add_epi64(s3, _mm256_add_epi64(at(i + 192), at(i + 224)));
  }
  s0 = _mm256_add_epi64(_mm256_add_epi64(s0, s1), _mm256_add_epi64(s2, s3));
  alignas(32) uint64_t v[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(v), s0);
  return v[0] + v[1] + v[2] + v[3];
}

SY_AVX512 uint64_t read_avx512(const std::byte* data, int64_t bytes) {
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < bytes; i += 256) {
    s0 = _mm512_add_epi64(s0, _mm512_load_si512(data + i));
    s1 = _mm512_add_epi64(s1, _mm512_load_si512(data + i + 64));
    s2 = _mm512_add_epi64(s2, _mm512_load_si512(data + i + 128));
    s3 = _mm512_add_epi64(s3, _mm512_load_si512(data + i + 192));
  }
  alignas(64) uint64_t v[8];
  _mm512_store_si512(v, _mm512_add_epi64(_mm512_add_epi64(s0, s1), _mm512_add_epi64(s2, s3)));
  uint64_t sum = 0;
  for (const uint64_t x : v) sum += x;
  return sum;
}

// Chains enough for two ports of latency 4 to 5.
constexpr int kChains = 12;

SY_AVX2 int64_t f32_avx2(int64_t rounds) {
  __m256 c[kChains], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.5f);
  for (auto& x : c) x = _mm256_setzero_ps();
  SY_OPAQUE(a);
  for (int64_t i = 0; i < rounds; i++) {
    SY_UNROLL for (int j = 0; j < kChains; j++) c[j] = _mm256_fmadd_ps(a, c[j], b);
  }
  __m256 sum = c[0];
  for (int j = 1; j < kChains; j++) sum = _mm256_add_ps(sum, c[j]);
  keep = static_cast<int>(_mm256_cvtss_f32(sum));
  return rounds * kChains * 8 * 2;
}

// Without VNNI int8 products take three instructions: pairs to i16, pairs to i32, add.
SY_AVX2 int64_t int8_avx2(int64_t rounds) {
  __m256i c[kChains], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);
  const __m256i ones = _mm256_set1_epi16(1);
  for (auto& x : c) x = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; i++) {
    SY_UNROLL for (int j = 0; j < kChains; j++) {
      SY_OPAQUE(a);
      c[j] = _mm256_add_epi32(c[j], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  __m256i sum = c[0];
  for (int j = 1; j < kChains; j++) sum = _mm256_add_epi32(sum, c[j]);
  keep = _mm256_extract_epi32(sum, 0);
  return rounds * kChains * 32 * 2;
}

SY_AVX512 int64_t f32_avx512(int64_t rounds) {
  __m512 c[kChains], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.5f);
  for (auto& x : c) x = _mm512_setzero_ps();
  SY_OPAQUE(a);
  for (int64_t i = 0; i < rounds; i++) {
    SY_UNROLL for (int j = 0; j < kChains; j++) c[j] = _mm512_fmadd_ps(a, c[j], b);
  }
  __m512 sum = c[0];
  for (int j = 1; j < kChains; j++) sum = _mm512_add_ps(sum, c[j]);
  keep = static_cast<int>(_mm512_cvtss_f32(sum));
  return rounds * kChains * 16 * 2;
}

SY_AVX512 int64_t int8_avx512(int64_t rounds) {
  __m512i c[kChains], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
  const __m512i ones = _mm512_set1_epi16(1);
  for (auto& x : c) x = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; i++) {
    SY_UNROLL for (int j = 0; j < kChains; j++) {
      SY_OPAQUE(a);
      c[j] = _mm512_add_epi32(c[j], _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), ones));
    }
  }
  __m512i sum = c[0];
  for (int j = 1; j < kChains; j++) sum = _mm512_add_epi32(sum, c[j]);
  keep = _mm_cvtsi128_si32(_mm512_castsi512_si128(sum));
  return rounds * kChains * 64 * 2;
}

SY_VNNI int64_t int8_vnni(int64_t rounds) {
  __m512i c[kChains], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
  for (auto& x : c) x = _mm512_setzero_si512();
  SY_OPAQUE(a);
  for (int64_t i = 0; i < rounds; i++) {
    SY_UNROLL for (int j = 0; j < kChains; j++) c[j] = _mm512_dpbusd_epi32(c[j], a, b);
  }
  __m512i sum = c[0];
  for (int j = 1; j < kChains; j++) sum = _mm512_add_epi32(sum, c[j]);
  keep = _mm_cvtsi128_si32(_mm512_castsi512_si128(sum));
  return rounds * kChains * 64 * 2;
}

#if defined(__GNUC__)  // the others have no cast between vectors
SY_BF16 int64_t bf16_avx512(int64_t rounds) {
  __m512 c[kChains];
  __m512i a = _mm512_set1_epi16(0x3f80), b = _mm512_set1_epi16(0x3c23);  // 1 and 0.01
  for (auto& x : c) x = _mm512_setzero_ps();
  SY_OPAQUE(a);
  for (int64_t i = 0; i < rounds; i++) {
    SY_UNROLL for (int j = 0; j < kChains; j++) c[j] = _mm512_dpbf16_ps(c[j], (__m512bh)a, (__m512bh)b);
  }
  __m512 sum = c[0];
  for (int j = 1; j < kChains; j++) sum = _mm512_add_ps(sum, c[j]);
  keep = static_cast<int>(_mm512_cvtss_f32(sum));
  return rounds * kChains * 32 * 2;
}
#endif

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// 2 × 2 accumulators of 16 × 16 over two tiles of either side. Random-looking operands: zeros can run faster.
template <bool kInt8>
SY_AMX int64_t tiles(int64_t rounds) {
  TileConfig config;
  alignas(64) uint8_t data[1024];
  for (int i = 0; i < 1024; i++) data[i] = static_cast<uint8_t>(kInt8 ? i * 37 + 11 : (i & 1 ? 0x3c : i * 29));
  SY_READS(&config);
  _tile_loadconfig(&config);
  SY_READS(data);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, data, 64);
  _tile_loadd(5, data, 64);
  _tile_loadd(6, data, 64);
  _tile_loadd(7, data, 64);
  for (int64_t i = 0; i < rounds; i++) {
    if constexpr (kInt8) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * (kInt8 ? 64 : 32) * 2;
}

}  // namespace

void fill_limits_x64(Tier tier, LimitLoops* loops) {
  switch (tier) {
    case Tier::kAvx2:
      loops->read = read_avx2;
      loops->f32 = f32_avx2;
      loops->int8 = int8_avx2;
      break;
    case Tier::kAvx512:
      loops->read = read_avx512;
      loops->f32 = f32_avx512;
      loops->int8 = int8_avx512;
      break;
    case Tier::kAvx512Vnni:
      loops->int8 = int8_vnni;
      break;
    case Tier::kAvx512Bf16:
#if defined(__GNUC__)
      loops->bf16 = bf16_avx512;
#endif
      break;
    case Tier::kAmx:
      loops->bf16 = tiles<false>;
      loops->int8 = tiles<true>;
      break;
    default:
      break;
  }
}

}  // namespace switchyard
#else
namespace switchyard {
void fill_limits_x64(Tier, LimitLoops*) {}
}  // namespace switchyard
#endif
