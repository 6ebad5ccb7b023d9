// Reading a mapped file that was cut, or whose disk fails, raises SIGBUS, which would end the process. A guarded range
// turns to zeros instead and is broken from then on: who computes from it asks broken() afterwards.
#pragma once
#include <cstddef>

namespace switchyard {

class BusGuard {
 public:
  // Guards whole pages that are mapped already. The first guard of the process installs the signal handler, which stays
  // and hands faults at any other address to the handler before it.
  BusGuard(const void* begin, size_t bytes);
  ~BusGuard();  // before the range is unmapped
  BusGuard(const BusGuard&) = delete;
  BusGuard& operator=(const BusGuard&) = delete;

  bool active() const { return slot_ >= 0; }  // false: no place for more guards, or a system without signals
  bool broken() const;

 private:
  int slot_ = -1;
};

}  // namespace switchyard
