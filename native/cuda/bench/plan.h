// The routing of a bench's sparse layer: a plan of random choices, in the device's memory.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "cuda/backend/memory.h"

namespace switchyard::cuda::bench {

template <class T>
DeviceMemory copy_of(const std::vector<T>& v) {
  DeviceMemory memory(static_cast<int64_t>(v.size() * sizeof(T)));
  check(cudaMemcpy(memory.data(), v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  check(cudaDeviceSynchronize());  // a small copy may return while it is under way, and other streams do not wait for it
  return memory;
}

// Distinct experts for each token, rows by expert, tokens in order.
struct RandomPlan {
  int64_t active = 0;  // experts that have rows
  DeviceMemory offsets, row_token, slot_row;

  // pick(): any expert.
  template <class F>
  RandomPlan(int64_t experts, int64_t choices, int64_t tokens, const F& pick) {
    std::vector<std::vector<std::pair<int32_t, int32_t>>> rows(static_cast<size_t>(experts));  // token, choice
    for (int32_t n = 0; n < tokens; n++) {
      std::vector<bool> taken(static_cast<size_t>(experts));
      for (int32_t k = 0; k < choices; k++) {
        size_t e;
        do e = static_cast<size_t>(pick());
        while (taken[e]);
        taken[e] = true;
        rows[e].push_back({n, k});
      }
    }
    std::vector<int32_t> begins{0}, of_row, of_slot(static_cast<size_t>(tokens * choices));
    for (const auto& expert : rows) {
      for (const auto& [n, k] : expert) {
        of_slot[static_cast<size_t>(n * choices + k)] = static_cast<int32_t>(of_row.size());
        of_row.push_back(n);
      }
      begins.push_back(static_cast<int32_t>(of_row.size()));
      active += !expert.empty();
    }
    offsets = copy_of(begins), row_token = copy_of(of_row), slot_row = copy_of(of_slot);
  }
};

}  // namespace switchyard::cuda::bench
