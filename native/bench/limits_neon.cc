// The loops of arm64.
#include "bench/limits.h"

#if defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>

namespace switchyard {
namespace {

volatile float keep;
volatile float one = 1.0f;
constexpr int kChains = 16;

uint64_t read_neon(const std::byte* data, int64_t bytes) {
  uint64x2_t s[4] = {vdupq_n_u64(0), vdupq_n_u64(0), vdupq_n_u64(0), vdupq_n_u64(0)};
  for (int64_t i = 0; i < bytes; i += 64) {
    for (int j = 0; j < 4; j++) s[j] = vaddq_u64(s[j], vld1q_u64(reinterpret_cast<const uint64_t*>(data + i + 16 * j)));
  }
  return vaddvq_u64(vaddq_u64(vaddq_u64(s[0], s[1]), vaddq_u64(s[2], s[3])));
}

int64_t f32_neon(int64_t rounds) {
  float32x4_t c[kChains];
  const float32x4_t a = vdupq_n_f32(0.999f * one), b = vdupq_n_f32(0.5f);
  for (auto& x : c) x = vdupq_n_f32(0);
  for (int64_t i = 0; i < rounds; i++) {
    for (int j = 0; j < kChains; j++) c[j] = vfmaq_f32(b, a, c[j]);
  }
  float sum = 0;
  for (const auto& x : c) sum += vaddvq_f32(x);
  keep = sum;
  return rounds * kChains * 4 * 2;
}

#if defined(__ARM_FEATURE_DOTPROD)
int64_t int8_neon(int64_t rounds) {
  int32x4_t c[kChains];
  const int8x16_t a = vdupq_n_s8(static_cast<int8_t>(3 * one)), b = vdupq_n_s8(2);
  for (auto& x : c) x = vdupq_n_s32(0);
  for (int64_t i = 0; i < rounds; i++) {
    for (int j = 0; j < kChains; j++) c[j] = vdotq_s32(c[j], a, b);
  }
  int32_t sum = 0;
  for (const auto& x : c) sum += vaddvq_s32(x);
  keep = static_cast<float>(sum);
  return rounds * kChains * 16 * 2;
}
#endif

}  // namespace

void fill_limits_neon(Tier tier, LimitLoops* loops) {
  if (tier != Tier::kNeon) return;
  loops->read = read_neon;
  loops->f32 = f32_neon;
#if defined(__ARM_FEATURE_DOTPROD)
  loops->int8 = int8_neon;
#endif
}

}  // namespace switchyard
#else
namespace switchyard {
void fill_limits_neon(Tier, LimitLoops*) {}
}  // namespace switchyard
#endif
