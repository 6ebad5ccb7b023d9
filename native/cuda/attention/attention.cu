// attention and paged_attention: which kernel, and how the work is cut. Lengths lie on the device, so the cut goes by shapes.
#include "cuda/attention/launch.h"
#include "cuda/attention/mma_stage.h"
#include "cuda/attention/tile.h"

namespace switchyard::cuda {
namespace {

using Path = AttentionPath;

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

int rows_of(Path path) {
  return path == Path::kRows16 ? 16 : path == Path::kSteps ? 8 : path == Path::kWidePrompts ? 128 : 64;
}

// By shapes alone.
Path f32_path(const AttentionProblem& p) {
  const bool many = p.N * p.group() > int64_t{32} * p.S;
  return many && p.Cv <= 256 && p.C <= 448 ? Path::kRows64 : Path::kRows16;  // what registers and shared memory hold
}

bool has_mma_path(const Instruction& in, const AttentionProblem& p) {
  const DType dtype = in.in[1]->dtype;
  const auto fits = [](int width) { return width > 0 && width % 16 == 0 && width <= kMostMmaWidth; };
  return is_paged(in) && in.in[2] != nullptr && (dtype == DType::kF16 || dtype == DType::kBF16) && fits(p.C) && fits(p.Cv);
}

Path mma_path(const AttentionProblem& p, const AttentionTuning& tuning) {
  const int64_t rows = p.N * p.group();
  if (rows <= int64_t{16} * p.S) return Path::kSteps;
  // Wide tiles are for heads of these sizes alone, and sequences that fill two.
  const bool wide = tuning.wide && p.C == p.Cv && (p.C == 64 || p.C == 128) && rows >= int64_t{256} * p.S;
  return wide ? Path::kWidePrompts : Path::kPrompts;
}

AttentionProblem problem_of(const Instruction& in) {
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
  p.heads = p.H / std::max(p.G, 1);
  narrow(p.N * p.heads);
  p.C = narrow(q.shape[2]), p.Cv = narrow(y.shape[2]);
  p.scale = static_cast<float>(in.attrs[0].f), p.causal = in.attrs[1].i != 0;
  p.window = static_cast<int>(std::min<int64_t>(in.attrs[2].i, INT32_MAX));  // no query stands further from the first key
  p.cap = static_cast<float>(in.attrs[3].f), p.left = in.attrs[4].i;
  p.instruction = in.number;
  return p;
}

// Cuts the work into tiles, and their keys where tiles are few.
AttentionProblem cut(AttentionProblem p, Path path, const Instruction& in, const DeviceLimits& device,
                     const AttentionTuning& tuning) {
  const Shape& k = in.in[1]->shape;
  const int rows = rows_of(path);
  const int64_t most_keys = is_paged(in) ? in.in[5]->shape[1] * k[3] : k[0];
  const int64_t all_rows = p.N * p.group();
  const int64_t used = std::max<int64_t>(p.S, ceil_div(all_rows, rows)) * p.G;
  const int64_t wanted = int64_t{tuning.blocks} * device.multiprocessors;
  // Each sequence, and what follows the last one, may end with a tile that is not full, but has no more than its queries fill.
  p.tiles = std::min(all_rows / rows + p.S + 1, p.N * ceil_div(p.group(), rows));
  p.splits = 1, p.least = tuning.least;
  if (used > 0 && 2 * used <= wanted) {
    const int64_t bytes = std::max<int64_t>(p.tiles, 1) * p.G * rows * (2 + p.Cv) * 4;
    const int64_t most = std::min(ceil_div(most_keys, int64_t{kKeyBlock} * p.least), kMostPartial / bytes);
    p.splits = static_cast<int>(std::clamp<int64_t>(wanted / used, 1, std::clamp<int64_t>(most, 1, kMostSplits)));
  }
  return p;
}

// Floats of the states' values; those of their ends follow.
int64_t values_of(const AttentionProblem& p, Path path) { return p.tiles * p.G * p.splits * rows_of(path) * p.Cv; }

template <int R, int V, class Keys>
void launch_f32(const AttentionProblem& p, const Keys& keys, const Launch& on) {
  launch(kOverlapped, attention_tile<Keys, R, V>, attention_grid(p, ceil_div(p.Cv, 16 * V)), kAttentionThreads,
         tile_shared<16 * R>(p.C).total * 4, on, p, keys);
  combine_splits<16 * R>(p, keys, on);
}

template <class Keys>
void attend_f32(const AttentionProblem& p, Path path, const Keys& keys, const Launch& on) {
  if (path == Path::kRows64) {
    if (p.Cv <= 64) return launch_f32<4, 4>(p, keys, on);
    if (p.Cv <= 128) return launch_f32<4, 8>(p, keys, on);
    return launch_f32<4, 16>(p, keys, on);
  }
  if (p.Cv <= 64) return launch_f32<1, 4>(p, keys, on);
  if (p.Cv <= 128) return launch_f32<1, 8>(p, keys, on);
  launch_f32<1, 32>(p, keys, on);
}

// Everything but the keys, and which path; false: there is nothing to do.
bool prepare(AttentionProblem* p, Path path, const Instruction& in, const Launch& on, const AttentionTuning& tuning) {
  *p = cut(*p, path, in, *on.device, tuning);
  p->error = on.error;
  p->partial = reinterpret_cast<float*>(on.scratch);
  if (p->splits > 1) p->ends = p->partial + (values_of(*p, path) + 1) / 2 * 2;  // read by twos
  return p->N > 0 && p->H > 0 && p->Cv > 0;
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T>
void run_paged_of(const Instruction& in, const Launch& on, const AttentionTuning& tuning) {
  AttentionProblem p = problem_of(in);
  const Shape& k = in.in[1]->shape;
  const std::byte* values = in.in[2] != nullptr ? in.in[2]->data : nullptr;
  const bool aligned_keys = aligned(in.in[1]->data), aligned_values = aligned(values);
  const PagedKeys<T> keys{in.in[1]->data, values, in.in[4]->as<int32_t>(), in.in[5]->as<int32_t>(), k[0],
                          Divisor<int32_t>(narrow(k[3])), narrow(in.in[5]->shape[1]), aligned_keys,
                          aligned_values && p.Cv % static_cast<int>(16 / sizeof(T)) == 0};
  if constexpr (sizeof(T) == 2) {
    if (has_mma_path(in, p) && aligned_keys && aligned_values) {
      const Path path = mma_path(p, tuning);
      if (prepare(&p, path, in, on, tuning)) attend_mma(p, path, keys, tuning, on);
      return;
    }
  }
  const Path path = f32_path(p);
  if (prepare(&p, path, in, on, tuning)) attend_f32(p, path, keys, on);
}

}  // namespace

void launch_attention(const Instruction& in, const Launch& on, const AttentionTuning& tuning) {
  AttentionProblem p = problem_of(in);
  const Path path = f32_path(p);
  if (!prepare(&p, path, in, on, tuning)) return;
  const float *k = in.in[1]->as<float>(), *v = in.in[2]->as<float>();
  const ContiguousKeys keys{k, v, in.in[4]->as<int32_t>(), in.in[1]->shape[0], aligned(k) && p.C % 4 == 0,
                            aligned(v) && p.Cv % 4 == 0};
  attend_f32(p, path, keys, on);
}

void launch_paged_attention(const Instruction& in, const Launch& on, const AttentionTuning& tuning) {
  switch (in.in[1]->dtype) {
    case DType::kF16: return run_paged_of<Half>(in, on, tuning);
    case DType::kBF16: return run_paged_of<Bf16>(in, on, tuning);
    case DType::kU8: return run_paged_of<Code>(in, on, tuning);
    default: return run_paged_of<float>(in, on, tuning);
  }
}

int64_t attention_scratch(const Instruction& in, const DeviceLimits& device, const AttentionTuning& tuning) {
  const AttentionProblem p = problem_of(in);
  const auto bytes = [&](Path path) {
    const AttentionProblem c = cut(p, path, in, device, tuning);
    return c.splits > 1 ? ((values_of(c, path) + 1) / 2 * 2 + 2 * c.tiles * c.G * c.splits * rows_of(path)) * 4 : 0;
  };
  // Where data lies, which decides too, is not known yet.
  return std::max(bytes(f32_path(p)), has_mma_path(in, p) ? bytes(mma_path(p, tuning)) : 0);
}

void register_attention(KernelTable& t) {
  const auto scratch = [](const Instruction& in, const DeviceLimits& device) { return attention_scratch(in, device, {}); };
  t.add({"attention", [](const Instruction& in, const Launch& on) { launch_attention(in, on, {}); }, scratch});
  t.add({"paged_attention", [](const Instruction& in, const Launch& on) { launch_paged_attention(in, on, {}); }, scratch});
}

}  // namespace switchyard::cuda
