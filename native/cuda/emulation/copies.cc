#include "cuda/emulation/copies.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "cuda/emulation/threads.h"

namespace switchyard::cuda::emulation {
namespace {

struct Copy {
  void* to;
  const void* from;
  int copied, size;
};
struct Groups {
  std::vector<std::vector<Copy>> committed;
  std::vector<Copy> open;
};
// What the word of a barrier holds.
struct State {
  uint16_t arrivals, missing;
  int32_t bytes : 31;  // promised and not yet brought
  uint32_t parity : 1;  // of the phase that runs
};
static_assert(sizeof(State) == 8);

std::map<int, Groups> groups;                      // by thread
std::map<uint64_t*, std::vector<Copy>> bulk;       // by barrier

void make(const Copy& c) {
  if (c.copied > 0) std::memcpy(c.to, c.from, static_cast<size_t>(c.copied));
  std::memset(static_cast<std::byte*>(c.to) + c.copied, 0, static_cast<size_t>(c.size - c.copied));
}
[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "emulation: %s in block (%u, %u, %u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z);
  std::abort();
}
void check_aligned(const void* to, const void* from, uintptr_t bytes) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0) die("a copy that is not aligned");
}
template <class F>
void change(uint64_t* word, const F& f) {
  State s;
  std::memcpy(&s, word, sizeof s);
  f(s);
  if (s.missing == 0 && s.bytes == 0) s.missing = s.arrivals, s.parity ^= 1u, moved();
  std::memcpy(word, &s, sizeof s);
}

}  // namespace

void copy_later(void* to, const void* from, int copied, int size) {
  check_aligned(to, copied > 0 ? from : to, static_cast<uintptr_t>(size));
  groups[thread_index()].open.push_back({to, from, copied, size});
}
void commit_copies() {
  Groups& g = groups[thread_index()];
  g.committed.push_back(std::move(g.open));
  g.open.clear();
}
void wait_copies(int groups_left) {
  auto& all = groups[thread_index()].committed;
  while (all.size() > static_cast<size_t>(groups_left)) {
    for (const Copy& c : all.front()) make(c);
    all.erase(all.begin());
  }
}

void barrier_init(uint64_t* word, int arrivals) {
  const State s{static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0, 0};
  std::memcpy(word, &s, sizeof s);
}
void barrier_arrive(uint64_t* word, uint32_t expected_bytes) {
  change(word, [&](State& s) {
    if (s.missing == 0) die("more arrivals than a barrier counts");
    s.missing--, s.bytes += static_cast<int32_t>(expected_bytes);
  });
}
bool barrier_complete(uint64_t* word, uint32_t parity) {
  const auto asked = bulk.find(word);
  if (asked != bulk.end()) {
    const std::vector<Copy> copies = std::move(asked->second);
    bulk.erase(asked);
    for (const Copy& c : copies) {
      make(c);
      change(word, [&](State& s) { s.bytes -= c.size; });
    }
  }
  State s;
  std::memcpy(&s, word, sizeof s);
  return s.parity != (parity & 1);
}
void copy_bulk(void* to, const void* from, uint32_t bytes, uint64_t* word) {
  check_aligned(to, from, 16);
  if (bytes % 16 != 0 || bytes == 0) die("a bulk copy of a size that is no multiple of 16");
  bulk[word].push_back({to, from, static_cast<int>(bytes), static_cast<int>(bytes)});
}

void forget_copies() {
  groups.clear();
  if (!bulk.empty()) die("a bulk copy that nobody waited for, asked for before a block started");
}

}  // namespace switchyard::cuda::emulation
