// Timings for the figures that test programs print on request.
#pragma once
#include <algorithm>
#include <chrono>
#include <vector>

namespace switchyard::test {

// The median of `runs` calls in milliseconds.
template <class F>
double median_ms(const F& fn, int runs) {
  std::vector<double> ms;
  for (int i = 0; i < runs; i++) {
    const auto start = std::chrono::steady_clock::now();
    fn();
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(ms.begin(), ms.end());
  return ms[ms.size() / 2];
}

}  // namespace switchyard::test
