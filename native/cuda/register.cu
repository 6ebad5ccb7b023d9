// Every kernel of the CUDA backend: a kernel's file has one register function, declared and called here.
#include "cuda/kernel.h"

namespace switchyard::cuda {

// One line per file of ops, linear, attention and moe.
void register_attention(KernelTable&);
void register_balanced_assignment(KernelTable&);
void register_checked_logits(KernelTable&);
void register_concat(KernelTable&);
void register_cross_entropy(KernelTable&);
void register_cumsum(KernelTable&);
void register_elementwise(KernelTable&);
void register_embedding(KernelTable&);
void register_gather(KernelTable&);
void register_grouped_matmul(KernelTable&);
void register_grouped_matmul_grad(KernelTable&);
void register_kv_copy(KernelTable&);
void register_kv_write(KernelTable&);
void register_linear(KernelTable&);
void register_matmul(KernelTable&);
void register_moe_capacity(KernelTable&);
void register_moe_combine(KernelTable&);
void register_moe_experts(KernelTable&);
void register_moe_plan(KernelTable&);
void register_norm(KernelTable&);
void register_random(KernelTable&);
void register_reduce(KernelTable&);
void register_rope(KernelTable&);
void register_route_top_k(KernelTable&);
void register_scatter_add(KernelTable&);
void register_softmax(KernelTable&);
void register_sort(KernelTable&);
void register_strided(KernelTable&);
void register_token_logprobs(KernelTable&);

const KernelTable& kernels() {
  static const KernelTable table = [] {
    KernelTable t;
    register_attention(t);
    register_balanced_assignment(t);
    register_checked_logits(t);
    register_concat(t);
    register_cross_entropy(t);
    register_cumsum(t);
    register_elementwise(t);
    register_embedding(t);
    register_gather(t);
    register_grouped_matmul(t);
    register_grouped_matmul_grad(t);
    register_kv_copy(t);
    register_kv_write(t);
    register_linear(t);
    register_matmul(t);
    register_moe_capacity(t);
    register_moe_combine(t);
    register_moe_experts(t);
    register_moe_plan(t);
    register_norm(t);
    register_random(t);
    register_reduce(t);
    register_rope(t);
    register_route_top_k(t);
    register_scatter_add(t);
    register_softmax(t);
    register_sort(t);
    register_strided(t);
    register_token_logprobs(t);
    return t;
  }();
  return table;
}

}  // namespace switchyard::cuda
