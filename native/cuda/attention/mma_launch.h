// Which of the kernels of mma_tile.h; a file for each type, so that they are built side by side.
#pragma once
#include "cuda/attention/launch.h"
#include "cuda/attention/mma_tile.h"

namespace switchyard::cuda {

template <class T, bool kSteps, int kWarps, int kWidth, bool kExact, int kStages>
void launch_mma(const AttentionProblem& p, const PagedKeys<T>& keys, const Launch& on) {
  const MmaShared shared = mma_shared(kSteps ? 16 : 16 * kWarps, p.C, p.Cv, kStages);
  launch(kOverlapped, attention_mma<T, kSteps, kSteps, kWarps, kWidth, kExact, kStages>, attention_grid(p), 32 * kWarps,
         shared.total, on, p, keys);
  combine_splits<kSteps ? 8 : 16 * kWarps>(p, keys, on);
}

template <class T>
void attend_mma(const AttentionProblem& p, AttentionPath path, const PagedKeys<T>& keys, const AttentionTuning& tuning,
                const Launch& on) {
  const int exact = p.C == p.Cv ? p.C : 0;
  if (path == AttentionPath::kWidePrompts) {
    if (exact == 64) return launch_mma<T, false, 8, 64, true, 3>(p, keys, on);
    return launch_mma<T, false, 8, 128, true, 3>(p, keys, on);
  }
  if (path == AttentionPath::kPrompts) {
    if (exact == 64) return launch_mma<T, false, 4, 64, true, 2>(p, keys, on);
    if (exact == 128) return launch_mma<T, false, 4, 128, true, 2>(p, keys, on);
    return launch_mma<T, false, 4, kMostMmaWidth, false, 2>(p, keys, on);
  }
  if (exact == 64) return launch_mma<T, true, 4, 64, true, 3>(p, keys, on);
  if (exact == 128) {
    if (tuning.stages == 2) return launch_mma<T, true, 4, 128, true, 2>(p, keys, on);
    return launch_mma<T, true, 4, 128, true, 3>(p, keys, on);
  }
  launch_mma<T, true, 4, kMostMmaWidth, false, 2>(p, keys, on);
}

}  // namespace switchyard::cuda
