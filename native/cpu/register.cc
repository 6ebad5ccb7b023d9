// Every kernel of the CPU backend: a kernel's file has one register function, declared and called here.
#include "runtime/kernel.h"

namespace switchyard {

// One line per file of native/cpu and native/moe.
void register_attention(KernelRegistry&);
void register_balanced_assignment(KernelRegistry&);
void register_checked_logits(KernelRegistry&);
void register_concat(KernelRegistry&);
void register_cross_entropy(KernelRegistry&);
void register_elementwise(KernelRegistry&);
void register_gather(KernelRegistry&);
void register_grouped_matmul(KernelRegistry&);
void register_grouped_matmul_grad(KernelRegistry&);
void register_kv_copy(KernelRegistry&);
void register_kv_write(KernelRegistry&);
void register_linear(KernelRegistry&);
void register_matmul(KernelRegistry&);
void register_moe_capacity(KernelRegistry&);
void register_moe_combine(KernelRegistry&);
void register_moe_experts(KernelRegistry&);
void register_moe_plan(KernelRegistry&);
void register_norm(KernelRegistry&);
void register_random(KernelRegistry&);
void register_reduce(KernelRegistry&);
void register_rope(KernelRegistry&);
void register_route_top_k(KernelRegistry&);
void register_sample(KernelRegistry&);
void register_softmax(KernelRegistry&);
void register_sort(KernelRegistry&);
void register_strided(KernelRegistry&);
void register_token_logprobs(KernelRegistry&);

const KernelRegistry& cpu_kernels() {
  // Function pointers only, the same for every environment of the process.
  static const KernelRegistry registry = [] {
    KernelRegistry r;
    register_attention(r);
    register_balanced_assignment(r);
    register_checked_logits(r);
    register_concat(r);
    register_cross_entropy(r);
    register_elementwise(r);
    register_gather(r);
    register_grouped_matmul(r);
    register_grouped_matmul_grad(r);
    register_kv_copy(r);
    register_kv_write(r);
    register_linear(r);
    register_matmul(r);
    register_moe_capacity(r);
    register_moe_combine(r);
    register_moe_experts(r);
    register_moe_plan(r);
    register_norm(r);
    register_random(r);
    register_reduce(r);
    register_rope(r);
    register_route_top_k(r);
    register_sample(r);
    register_softmax(r);
    register_sort(r);
    register_strided(r);
    register_token_logprobs(r);
    return r;
  }();
  return registry;
}

}  // namespace switchyard
