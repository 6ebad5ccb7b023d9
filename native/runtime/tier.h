// Instruction-set tiers: what this machine has, and which one kernels use.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// On x64 each tier includes those before it; NEON stands alone on arm64.
enum class Tier { kScalar = 0, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx, kNeon };
constexpr int kTierCount = 7;

const char* tier_name(Tier t);                    // "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "neon"
bool parse_tier(std::string_view name, Tier* out);
// Tiers this process may run, ascending: CPUID, XCR0 and, for AMX, the kernel's permission (asked once).
const std::vector<Tier>& present_tiers();
Tier best_tier();
std::string cpu_name();  // the maker's words, or the architecture

}  // namespace switchyard
