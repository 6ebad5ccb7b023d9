// Every kernel of the CPU backend: a kernel's file has one register function, declared and called here.
#include "runtime/kernel.h"

namespace switchyard {

// void register_xxx(KernelRegistry&);  one line per file of native/cpu and native/moe
void register_linear(KernelRegistry&);

const KernelRegistry& cpu_kernels() {
  // Function pointers only, the same for every environment of the process. Never destroyed: at process.exit() the
  // runtime threads may still run kernels.
  static const KernelRegistry& registry = *[] {
    KernelRegistry& r = *new KernelRegistry;
    register_linear(r);
    return &r;
  }();
  return registry;
}

}  // namespace switchyard
