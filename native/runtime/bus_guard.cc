#include "runtime/bus_guard.h"

#if defined(__unix__) || defined(__APPLE__)
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

namespace switchyard {
namespace {

// What the handler reads: lock-free, never freed. begin == 0: free.
struct Slot {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> broken{false};
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constexpr int kSlots = 1024;  // mapped files of a process at one time
Slot slots[kSlots];
struct sigaction previous;

// Turns the guarded range around an address to zeros. The whole of it, so that a cut file costs one signal and not one
// for each of its pages: what is computed from a broken range is thrown away in any case.
bool replace(uintptr_t address) {
  for (Slot& slot : slots) {
    uintptr_t begin, end;
    do {  // until both are of one range: a slot may get another one meanwhile
      begin = slot.begin.load(std::memory_order_acquire);
      end = slot.end.load(std::memory_order_acquire);
    } while (begin != slot.begin.load(std::memory_order_acquire));
    if (begin == 0 || address < begin || address >= end) continue;
    // First, so that no thread reads zeros of a range that says it is whole.
    slot.broken.store(true, std::memory_order_release);
    // A bare system call, safe in a handler. Two threads may come here at once: the second one replaces zeros by zeros.
    return ::mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                  0) != MAP_FAILED;
  }
  return false;
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const bool fault = info->si_code > 0;  // else somebody sent the signal
  const bool ours = fault && replace(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = error;
  if (ours) return;
  if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler == SIG_IGN && !fault) return;
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  // As if this handler had never been: a fault comes again on return, and ends the process where it happened.
  ::sigaction(SIGBUS, &previous, nullptr);
  if (!fault) ::raise(SIGBUS);
}

std::mutex& guard_mutex() {
  static std::mutex& mutex = *new std::mutex;  // never destroyed: guards may outlive static destruction
  return mutex;
}

bool install() {
  static bool installed = false;
  if (installed) return true;
  // Before the handler can run: it reads what was there.
  if (::sigaction(SIGBUS, nullptr, &previous) != 0) return false;
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  installed = ::sigaction(SIGBUS, &action, nullptr) == 0;
  return installed;
}

}  // namespace

BusGuard::BusGuard(const void* begin, size_t bytes) {
  std::lock_guard lock(guard_mutex());
  if (bytes == 0 || !install()) return;
  for (int i = 0; i < kSlots; i++) {
    Slot& slot = slots[i];
    if (slot.begin.load(std::memory_order_relaxed) != 0) continue;
    slot.broken.store(false, std::memory_order_relaxed);
    const auto from = reinterpret_cast<uintptr_t>(begin);
    slot.end.store(from + bytes, std::memory_order_release);
    slot.begin.store(from, std::memory_order_release);
    slot_ = i;
    return;
  }
}

BusGuard::~BusGuard() {
  if (slot_ < 0) return;
  std::lock_guard lock(guard_mutex());
  slots[slot_].begin.store(0, std::memory_order_release);
}

bool BusGuard::broken() const { return slot_ >= 0 && slots[slot_].broken.load(std::memory_order_acquire); }

}  // namespace switchyard

#else

namespace switchyard {

BusGuard::BusGuard(const void*, size_t) {}
BusGuard::~BusGuard() = default;
bool BusGuard::broken() const { return false; }

}  // namespace switchyard

#endif
