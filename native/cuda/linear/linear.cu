// linear, grouped_linear and their transposes: products of all weights of an instruction with the same rows.
#include <algorithm>

#include "cuda/linear/exact.h"

namespace switchyard::cuda {
namespace {

// What an instruction says of its rows: x first, then, where they are grouped, the offsets, then the weights.
struct Rows {
  const Operand* x;
  const Operand* offsets;  // nullptr: one group
  size_t first_weight;
  int64_t rows, experts;
};
template <bool kGrouped>
Rows rows_of(const Instruction& in) {
  const Operand* offsets = kGrouped ? in.in[1] : nullptr;
  return {in.in[0], offsets, kGrouped ? size_t{2} : size_t{1}, in.in[0]->shape[0], kGrouped ? offsets->shape[0] - 1 : 1};
}
Product product_of(const Instruction& in, const Rows& r, size_t i) {
  Product p;
  p.weight = in.in[r.first_weight + i]->weight;
  p.x = r.x->as<float>(), p.y = in.out[i]->as<float>();
  p.offsets = r.offsets != nullptr ? r.offsets->as<int32_t>() : nullptr;
  p.tokens = p.rows = r.rows, p.experts = r.experts;
  return p;
}

// Past few.cu's rows or experts, those with few rows each stay exact, which is closer than asked for: exact products stream the weights
// once, where many.cu would write those of other formats than bf16 as bf16 first.
enum class Way { kExact, kFew, kMany };
Way way_of(const Product& p, Compute compute) {
  const Format f = p.weight->format;
  if (exact(*p.weight, compute)) return Way::kExact;
  if (p.rows <= kFewRows && p.experts <= kFewExperts && has_few(f)) return Way::kFew;
  return has_many(f) && (f == Format::kBF16 || !exact_streams(p.rows, p.experts)) ? Way::kMany : Way::kExact;
}

template <bool kGrouped>
int64_t product_scratch(const Instruction& in, const DeviceLimits& device) {
  int64_t most = 0;
  const Rows r = rows_of<kGrouped>(in);
  const Compute compute = compute_of(in.attrs[0].i);
  for (size_t i = 0; i < in.out.size(); i++) {
    const Product p = product_of(in, r, i);
    int64_t (*const scratch)(const Product&, const DeviceLimits&) =
        way_of(p, compute) == Way::kExact ? exact_scratch : way_of(p, compute) == Way::kFew ? few_scratch : many_scratch;
    most = std::max(most, scratch(p, device));
  }
  return most;
}
template <bool kGrouped>
void run_products(const Instruction& in, const Launch& on) {
  const Rows r = rows_of<kGrouped>(in);
  const Compute compute = compute_of(in.attrs[0].i);
  RowTiles tiles;  // of all exact products, which come first: the others take the same scratch
  for (size_t i = 0; i < in.out.size(); i++) {
    const Product p = product_of(in, r, i);
    if (way_of(p, compute) != Way::kExact) continue;
    if (tiles.rows == 0) {
      tiles = launch_tiles(p.offsets, p.rows, p.experts, exact_tile_rows(p.rows, p.experts), in.number, on, on.scratch);
    }
    launch_exact(p, tiles, in.number, on);
  }
  std::vector<Product> few;
  for (size_t i = 0; i < in.out.size(); i++) {
    const Product p = product_of(in, r, i);
    if (way_of(p, compute) == Way::kFew) few.push_back(p);
    if (way_of(p, compute) == Way::kMany) launch_many(p, in.number, on, on.scratch);
  }
  launch_few(few, in.number, on, on.scratch);
}

template <bool kGrouped>
int64_t transposed_scratch(const Instruction& in, const DeviceLimits&) {
  const Rows r = rows_of<kGrouped>(in);
  return kGrouped ? tiles_scratch(r.rows, r.experts, transposed_tile_rows(r.rows, r.experts)) : 0;
}
template <bool kGrouped>
void run_transposed(const Instruction& in, const Launch& on) {
  const Rows r = rows_of<kGrouped>(in);
  const Product p = product_of(in, r, 0);
  const RowTiles tiles =
      launch_tiles(p.offsets, r.rows, r.experts, transposed_tile_rows(r.rows, r.experts), in.number, on, on.scratch);
  launch_exact_transposed(p, tiles, in.number, on);
}

}  // namespace

void register_linear(KernelTable& t) {
  t.add({"linear", run_products<false>, product_scratch<false>});
  t.add({"grouped_linear", run_products<true>, product_scratch<true>});
  t.add({"linear_transposed", run_transposed<false>, transposed_scratch<false>});
  t.add({"grouped_linear_transposed", run_transposed<true>, transposed_scratch<true>});
}

}  // namespace switchyard::cuda
