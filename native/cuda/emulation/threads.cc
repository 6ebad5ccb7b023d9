#include "cuda/emulation/threads.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>

#include "cuda/emulation/copies.h"
#include "cuda/emulation/stream.h"

#if defined(__x86_64__)
// Saves what a callee must keep, changes the stack, restores the same of the other.
extern "C" void switchyard_switch_stack(void** save, void* to);
asm(R"(
.text
.globl switchyard_switch_stack
.type switchyard_switch_stack, @function
switchyard_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#else
#error "the emulation switches stacks on x86-64 only"
#endif

namespace switchyard::cuda::emulation {
namespace {

constexpr size_t kStack = 128 * 1024;
constexpr int kMostThreads = 1024;
constexpr int64_t kShared = 256 * 1024;
constexpr int64_t kMostIdleTurns = 2'000'000;  // of a block in which every thread waits: a deadlock

struct Waiting {
  unsigned mask = 0, arrived = 0;
  uint64_t generation = 0;
};
struct Warp {
  uint64_t slots[32];
  unsigned alive = 0;
  std::vector<Waiting> waiting;  // by mask
};
struct Barrier {
  int arrived = 0;
  uint64_t generation = 0;
};
struct Thread {
  void* stack_pointer = nullptr;
  uint3 index{};
  bool done = false;
};

struct Block {
  std::unique_ptr<Thread[]> threads{new Thread[kMostThreads]};
  Warp warps[kMostThreads / 32];
  Barrier barriers[16];
  std::byte* stacks = nullptr;
  std::byte* shared = nullptr;
  int count = 0, alive = 0, current = 0;
  bool moved = false;  // something happened in this turn that may free a thread that waits
  void* scheduler = nullptr;
  const std::function<void()>* work = nullptr;
  std::exception_ptr error;
} block;
std::mutex one_at_a_time;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "emulation: %s in block (%u, %u, %u), thread %d\n", what, blockIdx.x, blockIdx.y, blockIdx.z,
               block.current);
  std::abort();
}

Warp& warp() { return block.warps[block.current / 32]; }

void back_to_scheduler() { switchyard_switch_stack(&block.threads[block.current].stack_pointer, block.scheduler); }

void release_all() {
  // A thread that returned counts no longer: others may have waited for it alone.
  Barrier& all = block.barriers[0];
  if (all.arrived > 0 && all.arrived == block.alive) all.arrived = 0, all.generation++;
  for (Waiting& w : warp().waiting) {
    if (w.arrived != 0 && w.arrived == (w.mask & warp().alive)) w.arrived = 0, w.generation++;
  }
}

extern "C" void switchyard_thread_begins() {
  (*block.work)();
  Thread& self = block.threads[block.current];
  self.done = true;
  block.alive--;
  warp().alive &= ~(1u << lane());
  block.moved = true;
  release_all();
  back_to_scheduler();
  die("a finished thread was resumed");
}

void run_block() {
  const int count = block.count;
  forget_copies();
  for (Warp& w : block.warps) w.alive = 0, w.waiting.clear();
  for (Barrier& b : block.barriers) b = {};
  for (int i = 0; i < count; i++) {
    Thread& t = block.threads[i];
    const unsigned x = blockDim.x, y = blockDim.y;
    t.index = {i % x, i / x % y, i / (x * y)};
    t.done = false;
    // As if switchyard_thread_begins had been called by nobody: aligned, with six registers to restore.
    auto* top = reinterpret_cast<void**>(block.stacks + (static_cast<size_t>(i) + 1) * kStack) - 2;
    *top = reinterpret_cast<void*>(&switchyard_thread_begins);
    t.stack_pointer = top - 6;
    block.warps[i / 32].alive |= 1u << i % 32;
  }
  block.alive = count;
  int64_t idle = 0;
  while (block.alive > 0) {
    block.moved = false;
    for (int i = 0; i < count; i++) {
      if (block.threads[i].done) continue;
      block.current = i;
      threadIdx = block.threads[i].index;
      switchyard_switch_stack(&block.scheduler, block.threads[i].stack_pointer);
    }
    idle = block.moved ? 0 : idle + 1;
    if (idle > kMostIdleTurns) die("deadlock");
  }
}

void run_grid(dim3 grid, dim3 threads, int64_t shared, const std::function<void()>& work) {
  std::lock_guard lock(one_at_a_time);
  if (block.stacks == nullptr) {
    void* memory = mmap(nullptr, kStack * kMostThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("no memory for stacks");
    block.stacks = static_cast<std::byte*>(memory);
    block.shared = static_cast<std::byte*>(std::aligned_alloc(1024, kShared));
  }
  block.count = static_cast<int>(threads.x * threads.y * threads.z);
  if (block.count < 1 || block.count > kMostThreads) die("a block of too many threads");
  if (shared > 227 * 1024) die("too much shared memory");
  gridDim = grid, blockDim = threads;
  block.work = &work;
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = {x, y, z};
        std::memset(block.shared, 0xCD, static_cast<size_t>(shared));
        run_block();
      }
    }
  }
}

}  // namespace

void launch(Stream* stream, dim3 grid, dim3 threads, int64_t shared, std::function<void()> thread) {
  enqueue(stream, [=, work = std::move(thread)] { run_grid(grid, threads, shared, work); });
}

std::byte* dynamic_shared() { return block.shared; }
int lane() { return block.current % 32; }
int thread_index() { return block.current; }
void moved() { block.moved = true; }

void yield() {
  back_to_scheduler();
  threadIdx = block.threads[block.current].index;
}

void barrier(int id, int count) {
  Barrier& b = block.barriers[id];
  const int wanted = count == 0 ? block.alive : count;
  const uint64_t generation = b.generation;
  block.moved = true;
  if (++b.arrived >= wanted) {
    b.arrived = 0, b.generation++;
    return;
  }
  while (b.generation == generation) yield();
}

void warp_barrier(unsigned mask) {
  Warp& w = warp();
  size_t i = 0;
  while (i < w.waiting.size() && w.waiting[i].mask != mask) i++;
  if (i == w.waiting.size()) w.waiting.push_back({mask, 0, 0});
  const uint64_t generation = w.waiting[i].generation;
  block.moved = true;
  w.waiting[i].arrived |= 1u << lane();
  if (w.waiting[i].arrived == (mask & w.alive)) {
    w.waiting[i].arrived = 0, w.waiting[i].generation++;
    return;
  }
  while (w.waiting[i].generation == generation) yield();
}

const uint64_t* warp_exchange(unsigned mask, uint64_t value) {
  warp().slots[lane()] = value;
  warp_barrier(mask);
  return warp().slots;
}

}  // namespace switchyard::cuda::emulation
