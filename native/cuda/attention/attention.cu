// attention and paged_attention: which kernel, and how the work is cut. Lengths lie on the device, so the cut goes by shapes.
#include <stdexcept>

#include "cuda/attention/tile.h"

namespace switchyard::cuda {
namespace {

// Blocks that a multiprocessor should have; below half of it keys are split.
constexpr int64_t kBlocksWanted = 4;
// States of splits may take this much memory.
constexpr int64_t kMostPartial = int64_t{128} << 20;

// A size that kernels count in 32 bits.
int narrow(int64_t size) {
  if (size > 1 << 30) throw std::length_error("attention got a size above 2^30, expected less on this device");
  return static_cast<int>(size);
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

const Operand* optional_in(const Instruction& in, size_t i) { return i < in.in.size() ? in.in[i] : nullptr; }
template <class T>
const T* optional_data(const Instruction& in, size_t i) {
  const Operand* operand = optional_in(in, i);
  return operand != nullptr ? operand->as<T>() : nullptr;
}

bool is_paged(const Instruction& in) { return in.in[1]->shape.rank == 4; }

// Rows of a tile: 64 where there are many and a thread can hold their outputs.
int tile_rows(const AttentionProblem& p) { return p.N * p.group() > 32 * p.S && p.Cv <= 256 && p.C <= 448 ? 64 : 16; }

AttentionProblem problem_of(const Instruction& in, const DeviceLimits& device) {
  const Operand &q = *in.in[0], &y = *in.out[0];
  const bool paged = is_paged(in);
  const Shape& k = in.in[1]->shape;
  const size_t offsets = 3, more = paged ? 6 : 5;
  AttentionProblem p{};
  p.q = q.as<float>(), p.y = y.as<float>();
  p.query_offsets = in.in[offsets]->as<int32_t>();
  p.prefix = optional_data<int32_t>(in, more);
  p.slopes = optional_data<float>(in, more + 1), p.sinks = optional_data<float>(in, more + 2);
  p.bias = optional_data<float>(in, more + 3);
  if (p.bias != nullptr) p.bias_size = optional_in(in, more + 3)->shape[1];
  p.N = q.shape[0], p.S = narrow(in.in[offsets]->shape[0] - 1), p.H = narrow(q.shape[1]), p.G = narrow(k[1]);
  p.C = narrow(q.shape[2]), p.Cv = narrow(y.shape[2]);
  p.scale = static_cast<float>(in.attrs[0].f), p.causal = in.attrs[1].i != 0;
  p.window = static_cast<int>(std::min<int64_t>(in.attrs[2].i, INT32_MAX));  // no query stands further from the first key
  p.cap = static_cast<float>(in.attrs[3].f), p.left = in.attrs[4].i;
  p.instruction = in.number;

  const int rows = tile_rows(p);
  const int64_t most_keys = paged ? in.in[5]->shape[1] * k[3] : k[0];
  const int64_t used = std::max<int64_t>(p.S, ceil_div(p.N * p.group(), rows)) * p.G, wanted = kBlocksWanted * device.multiprocessors;
  p.tiles = p.N * p.group() / rows + p.S + 1;
  p.splits = 1;
  if (used > 0 && 2 * used <= wanted) {
    const int64_t bytes = p.tiles * p.G * rows * (2 + p.Cv) * 4;
    const int64_t most = std::min(ceil_div(most_keys, kKeyBlock * kLeastSplit), kMostPartial / bytes);
    p.splits = static_cast<int>(std::clamp<int64_t>(wanted / used, 1, std::max<int64_t>(1, most)));
  }
  return p;
}

int64_t partial_bytes(const AttentionProblem& p) {
  return p.splits > 1 ? p.tiles * p.G * p.splits * tile_rows(p) * (2 + p.Cv) * 4 : 0;
}

int64_t scratch(const Instruction& in, const DeviceLimits& device) { return partial_bytes(problem_of(in, device)); }

template <int R, int V, class Keys>
void launch_tiles(const AttentionProblem& p, const Keys& keys, const Launch& on) {
  constexpr int kRows = 16 * R;
  const int64_t chunks = ceil_div(p.Cv, 16 * V);
  const auto tiles = static_cast<unsigned>(p.tiles), heads = static_cast<unsigned>(p.G);
  launch(attention_tile<Keys, R, V>, dim3(tiles, static_cast<unsigned>(p.G * chunks), static_cast<unsigned>(p.splits)),
         kAttentionThreads, tile_shared<kRows>(p.C).total * 4, on, p, keys);
  if (p.splits > 1) launch(attention_combine<Keys, kRows>, dim3(tiles, heads, kRows), 128, 0, on, p, keys);
}

template <class Keys>
void attend(AttentionProblem p, const Keys& keys, const Launch& on) {
  if (p.N == 0 || p.H == 0 || p.Cv == 0) return;
  p.error = on.error;
  p.partial = reinterpret_cast<float*>(on.scratch);
  if (tile_rows(p) == 64) {
    if (p.Cv <= 64) return launch_tiles<4, 4>(p, keys, on);
    if (p.Cv <= 128) return launch_tiles<4, 8>(p, keys, on);
    return launch_tiles<4, 16>(p, keys, on);
  }
  if (p.Cv <= 64) return launch_tiles<1, 4>(p, keys, on);
  if (p.Cv <= 128) return launch_tiles<1, 8>(p, keys, on);
  launch_tiles<1, 32>(p, keys, on);
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

void run_attention(const Instruction& in, const Launch& on) {
  const AttentionProblem p = problem_of(in, *on.device);
  const float *k = in.in[1]->as<float>(), *v = in.in[2]->as<float>();
  attend(p, ContiguousKeys{k, v, in.in[4]->as<int32_t>(), in.in[1]->shape[0], aligned(k) && p.C % 4 == 0,
                           aligned(v) && p.Cv % 4 == 0}, on);
}

template <class T>
void run_paged_of(const Instruction& in, const Launch& on) {
  const AttentionProblem p = problem_of(in, *on.device);
  const Shape& k = in.in[1]->shape;
  const std::byte* values = in.in[2] != nullptr ? in.in[2]->data : nullptr;
  attend(p, PagedKeys<T>{in.in[1]->data, values, in.in[4]->as<int32_t>(), in.in[5]->as<int32_t>(), k[0], narrow(k[3]),
                         narrow(in.in[5]->shape[1]), aligned(in.in[1]->data),
                         aligned(values) && p.Cv % static_cast<int64_t>(16 / sizeof(T)) == 0}, on);
}

void run_paged(const Instruction& in, const Launch& on) {
  switch (in.in[1]->dtype) {
    case DType::kF16: return run_paged_of<Half>(in, on);
    case DType::kBF16: return run_paged_of<Bf16>(in, on);
    case DType::kU8: return run_paged_of<Code>(in, on);
    default: return run_paged_of<float>(in, on);
  }
}

}  // namespace

void register_attention(KernelTable& t) {
  t.add({"attention", run_attention, scratch});
  t.add({"paged_attention", run_paged, scratch});
}

}  // namespace switchyard::cuda
