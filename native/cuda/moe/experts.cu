// moe_experts: the experts of a sparse layer on packed weights. Which of three ways it goes is told by shapes alone.
#include "cuda/moe/experts.h"

#include "cuda/linear/exact.h"

namespace switchyard::cuda {
ExpertLayer layer_of(const Instruction& in) {
  const auto floats = [&](size_t i) { return i < in.in.size() && in.in[i] != nullptr ? in.in[i]->as<float>() : nullptr; };
  ExpertLayer l;
  l.N = in.in[0]->shape[0], l.D = in.in[0]->shape[1], l.K = in.in[3]->shape[1], l.R = in.in[2]->shape[0];
  l.E = in.in[1]->shape[0] - 1;
  l.x = floats(0);
  l.offsets = in.in[1]->as<int32_t>(), l.row_token = in.in[2]->as<int32_t>(), l.slot_row = in.in[3]->as<int32_t>();
  l.weights = floats(4);
  l.gate = in.in[5] != nullptr ? in.in[5]->weight : nullptr;
  l.up = in.in[6]->weight, l.down = in.in[7]->weight;
  l.F = l.up->rows;
  l.gate_bias = floats(8), l.up_bias = floats(9), l.down_bias = floats(10);
  l.activation = static_cast<int>(in.attrs[0].i);
  l.limit = static_cast<float>(in.attrs[2].f), l.slope = static_cast<float>(in.attrs[3].f);
  l.y = in.out[0]->as<float>();
  return l;
}

namespace {

struct Way {
  int64_t (*scratch)(const ExpertLayer&, const DeviceLimits&);
  void (*launch)(const ExpertLayer&, uint32_t, const Launch&);
};
// As in linear.cu: more tokens or experts than few takes, but few rows an expert, stay exact.
Way way_of(const ExpertLayer& l, Compute compute) {
  bool f32 = false, bf16 = true;
  for (const DeviceWeight* w : {l.gate, l.up, l.down}) {
    if (w == nullptr) continue;
    f32 = f32 || exact(*w, compute);
    bf16 = bf16 && w->format == Format::kBF16;
  }
  if (!f32 && l.N <= kFewRows && l.E <= kFewExperts && has_few(l)) return {few_scratch, launch_few};
  if (!f32 && has_many(l) && (bf16 || !exact_streams(l.R, l.E))) return {many_scratch, launch_many};
  return {exact_scratch, launch_exact};
}
Way way_of(const Instruction& in) { return way_of(layer_of(in), compute_of(in.attrs[1].i)); }

void run(const Instruction& in, const Launch& on) { way_of(in).launch(layer_of(in), in.number, on); }
int64_t scratch(const Instruction& in, const DeviceLimits& device) { return way_of(in).scratch(layer_of(in), device); }

}  // namespace

void register_moe_experts(KernelTable& t) { t.add({"moe_experts", run, scratch}); }

}  // namespace switchyard::cuda
