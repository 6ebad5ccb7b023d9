// Attention over caches of bf16 by the tensor cores.
#include "cuda/attention/mma_launch.h"

namespace switchyard::cuda {

template void attend_mma<Bf16>(const AttentionProblem&, AttentionPath, const PagedKeys<Bf16>&, const AttentionTuning&, const Launch&);

}  // namespace switchyard::cuda
