#include "cuda/linear/many_weights.h"

#include "cuda/linear/decode.h"

namespace switchyard::cuda::many {
namespace {

constexpr int kExpandThreads = 256;

// A thread decodes a unit. Grid: units and quads of a panel, panels, experts.
template <Format f>
__global__ void expand_kernel(const std::byte* data, int64_t expert_stride, Places at, Part part, const int32_t* starts,
                              std::byte* room, int64_t room_panel_bytes) {
  using C = Codec<f>;
  const int64_t expert = part.first_expert + blockIdx.z;
  if (starts[expert] == starts[expert + 1]) return;
  const int64_t i = int64_t{blockIdx.x} * kExpandThreads + threadIdx.x, u = i / 4;
  if (u >= units_of<f>(at.columns)) return;
  const int quad = static_cast<int>(i % 4), unit = static_cast<int>(u % C::kUnits);
  const int64_t chunk = u / C::kUnits, pairs = (at.columns + 1) / 2;
  const std::byte* panel = data + expert * expert_stride + (part.first_panel + blockIdx.y) * at.bytes;
  std::byte* to = room + (blockIdx.z * part.panels + blockIdx.y) * room_panel_bytes + quad * 16;
  const Unit<f> raw = load_unit<f>(panel + chunk * C::kChunkBytes, unit, quad);
  const ScaleWords<f> scales = load_scales<f>(panel, at, chunk, quad);
#pragma unroll
  for (int run = 0; run < C::kRuns; run++) {
    float w[4][C::kRun];
    decode<f>(raw, scales, unit, run, w);
    const int64_t first = (chunk * kChunk + first_k<f>(unit, run)) / 2;
#pragma unroll
    for (int p = 0; p < C::kRun / 2; p++) {
      if (first + p >= pairs) continue;
      *reinterpret_cast<uint4*>(to + (first + p) * kPanel * 4) =
          make_uint4(pack_bf16(w[0][2 * p], w[0][2 * p + 1]), pack_bf16(w[1][2 * p], w[1][2 * p + 1]),
                     pack_bf16(w[2][2 * p], w[2][2 * p + 1]), pack_bf16(w[3][2 * p], w[3][2 * p + 1]));
    }
  }
}

}  // namespace

Panels launch_expand(const DeviceWeight& w, const Part& part, const TileList& tiles, std::byte* room, const Launch& on) {
  if (reads_panels(w)) {
    return {w.data + part.first_expert * w.expert_stride + part.first_panel * w.layout.bytes, w.expert_stride, w.layout.bytes,
            static_cast<int>(part.panels)};
  }
  const int64_t bytes = panel_layout(Format::kBF16, w.columns).bytes;
  with_codec(w.format, [&]<Format f>() {
    if constexpr (f != Format::kF32 && f != Format::kBF16) {
      const dim3 grid(static_cast<unsigned>((units_of<f>(w.columns) * 4 + kExpandThreads - 1) / kExpandThreads),
                      static_cast<unsigned>(part.panels), static_cast<unsigned>(part.experts));
      launch(expand_kernel<f>, grid, kExpandThreads, 0, on, w.data, w.expert_stride, Places::of(w.format, w.layout), part,
             static_cast<const int32_t*>(tiles.starts), room, bytes);
    }
  });
  return {room, part.panels * bytes, bytes, static_cast<int>(part.panels)};
}

}  // namespace switchyard::cuda::many
