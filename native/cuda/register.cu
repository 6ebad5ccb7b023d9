// Every kernel of the CUDA backend: a kernel's file has one register function, declared and called here.
#include "cuda/kernel.h"

namespace switchyard::cuda {

// One line per file of ops, linear, attention and moe.
void register_elementwise(KernelTable&);
void register_iota(KernelTable&);
void register_moe_combine(KernelTable&);

const KernelTable& kernels() {
  static const KernelTable table = [] {
    KernelTable t;
    register_elementwise(t);
    register_iota(t);
    register_moe_combine(t);
    return t;
  }();
  return table;
}

}  // namespace switchyard::cuda
