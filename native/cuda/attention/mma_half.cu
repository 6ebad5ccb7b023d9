// Attention over caches of f16 by the tensor cores.
#include "cuda/attention/mma_launch.h"

namespace switchyard::cuda {

template void attend_mma<Half>(const AttentionProblem&, AttentionPath, const PagedKeys<Half>&, const AttentionTuning&, const Launch&);

}  // namespace switchyard::cuda
