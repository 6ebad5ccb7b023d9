#include "runtime/tier.h"

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define SWITCHYARD_X64 1
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace switchyard {
namespace {

constexpr const char* kTierName[kTierCount] = {"scalar",      "avx2", "avx512", "avx512_vnni",
                                               "avx512_bf16", "amx",  "neon"};

#ifdef SWITCHYARD_X64
struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
#if defined(_MSC_VER)
  int v[4];
  __cpuid(v, 0);
  if (static_cast<uint32_t>(v[0]) < leaf) return r;
  __cpuidex(v, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(v[0]), static_cast<uint32_t>(v[1]), static_cast<uint32_t>(v[2]),
       static_cast<uint32_t>(v[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);  // leaves zeros where the leaf is absent
#endif
  return r;
}

Registers extended_cpuid(uint32_t leaf) {
  Registers r;
#if defined(_MSC_VER)
  int v[4];
  __cpuid(v, static_cast<int>(0x80000000));
  if (static_cast<uint32_t>(v[0]) < leaf) return r;
  __cpuid(v, static_cast<int>(leaf));
  r = {static_cast<uint32_t>(v[0]), static_cast<uint32_t>(v[1]), static_cast<uint32_t>(v[2]),
       static_cast<uint32_t>(v[3])};
#else
  __get_cpuid(leaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// The register state that the operating system saves; call only where OSXSAVE is set.
uint64_t saved_state() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
#endif
}

// Linux hands out the 8 KiB of tile state only to a process that asks.
bool amx_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#elif defined(_WIN32)
  return true;  // XCR0 tells
#else
  return false;
#endif
}

std::vector<Tier> detect() {
  std::vector<Tier> tiers{Tier::kScalar};
  const auto bit = [](uint32_t value, int n) { return (value >> n & 1) != 0; };
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), seven1 = cpuid(7, 1);
  const bool fma = bit(one.ecx, 12), osxsave = bit(one.ecx, 27), avx = bit(one.ecx, 28), f16c = bit(one.ecx, 29);
  if (!osxsave) return tiers;
  const uint64_t state = saved_state();
  const auto saves = [state](uint64_t mask) { return (state & mask) == mask; };

  if (!(avx && fma && f16c && bit(seven.ebx, 5) && saves(0x6))) return tiers;  // XMM, YMM
  tiers.push_back(Tier::kAvx2);
  const bool f = bit(seven.ebx, 16), dq = bit(seven.ebx, 17), cd = bit(seven.ebx, 28), bw = bit(seven.ebx, 30),
             vl = bit(seven.ebx, 31);
  if (!(f && dq && cd && bw && vl && saves(0xe6))) return tiers;  // and opmask, both halves of ZMM
  tiers.push_back(Tier::kAvx512);
  if (!bit(seven.ecx, 11)) return tiers;
  tiers.push_back(Tier::kAvx512Vnni);
  if (seven.eax < 1 || !bit(seven1.eax, 5)) return tiers;
  tiers.push_back(Tier::kAvx512Bf16);
  const bool amx_bf16 = bit(seven.edx, 22), amx_tile = bit(seven.edx, 24), amx_int8 = bit(seven.edx, 25);
  if (amx_bf16 && amx_tile && amx_int8 && saves(0x60000) && amx_permitted()) tiers.push_back(Tier::kAmx);
  return tiers;
}
#elif defined(__aarch64__) || defined(_M_ARM64)
std::vector<Tier> detect() { return {Tier::kScalar, Tier::kNeon}; }
#else
std::vector<Tier> detect() { return {Tier::kScalar}; }
#endif

}  // namespace

const char* tier_name(Tier t) { return kTierName[static_cast<int>(t)]; }

bool parse_tier(std::string_view name, Tier* out) {
  for (int i = 0; i < kTierCount; i++) {
    if (name != kTierName[i]) continue;
    *out = static_cast<Tier>(i);
    return true;
  }
  return false;
}

// A fact of the machine, the same for every environment of the process. Never destroyed: at process.exit() the
// runtime threads may still read it.
const std::vector<Tier>& present_tiers() {
  static const std::vector<Tier>& tiers = *new std::vector<Tier>(detect());
  return tiers;
}

Tier best_tier() { return present_tiers().back(); }

std::string cpu_name() {
#if defined(SWITCHYARD_X64)
  // Three leaves of 16 characters.
  std::string name;
  for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
    const Registers r = extended_cpuid(leaf);
    for (const uint32_t word : {r.eax, r.ebx, r.ecx, r.edx}) {
      for (int shift = 0; shift < 32; shift += 8) name += static_cast<char>(word >> shift & 0xFF);
    }
  }
  name = name.substr(0, name.find('\0'));
  const size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
  return first == std::string::npos ? "x64" : name.substr(first, last - first + 1);
#elif defined(__aarch64__) || defined(_M_ARM64)
  return "arm64";
#else
  return "unknown";
#endif
}

}  // namespace switchyard
