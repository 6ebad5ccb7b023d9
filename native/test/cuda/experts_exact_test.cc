// moe_experts in f32 against the CPU's: every format, activations, biases, few rows and many, experts without rows, dropped
// tokens, plans that are wrong.
#include "test/cuda/compare.h"
#include "test/cuda/experts_layer.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

ThreadPool pool(1);
constexpr double kTolerance = 1e-6;  // sums in another order

void check_layer(const char* what, const ExpertsCase& l, int activation = 0) {
  const Compare c = run_experts(l, activation, 0, pool);
  if (CHECK(c.distance() < kTolerance && c.error().kind == 0)) return;
  std::fprintf(stderr, "  %s: up is %s, %lld tokens, activation %d: distance %g, error %d\n", what,
               format_info(l.up->format()).name, (long long)l.N, activation, c.distance(), c.error().kind);
}

void every_format() {
  for (const Format f : all_formats()) {
    const int64_t D = odd_columns(f, 1), F = D, E = 3;
    const WeightPtr gate = random_weight(f, E, F, D, 1, 0.1f), up = random_weight(f, E, F, D, 2, 0.1f);
    const WeightPtr down = random_weight(f, E, D, F, 3, 0.1f);
    check_layer("few", experts_case(2, 2, gate, up, down, random_ids(4, E, 10, 4)));
    check_layer("many", experts_case(40, 1, gate, up, down, random_ids(40, E - 1, 10, 5)));
  }
}

void activations_and_biases() {
  const int64_t D = 37, F = 53, E = 4;
  const WeightPtr gate = random_weight(Format::kF32, E, F, D, 1, 0.2f), up = random_weight(Format::kF16, E, F, D, 2, 0.2f);
  const WeightPtr down = random_weight(Format::kBF16, E, D, F, 3, 0.2f);
  for (const int64_t N : {1, 30}) {
    const Ids ids = random_ids(N * 3, E - 1, 10, 6);
    for (const int activation : {0, 1, 2, 3, kClamped}) check_layer("gated", experts_case(N, 3, gate, up, down, ids), activation);
    for (const int activation : {0, 1, 2, 3}) check_layer("no gate", experts_case(N, 3, nullptr, up, down, ids), activation);
    for (int which = 1; which < 8; which++) {
      ExpertsCase l = experts_case(N, 3, gate, up, down, ids);
      if (which & 1) l.gate_bias = normals(E * F, 7);
      if (which & 2) l.up_bias = normals(E * F, 8);
      if (which & 4) l.down_bias = normals(E * D, 9);
      check_layer("biases", l, which % 2 == 0 ? 0 : kClamped);
    }
  }
}

void uneven_routing() {
  const int64_t E = 5, D = 64, F = 96;
  const WeightPtr up = random_weight(Format::kQ8_0, E, F, D, 1, 0.1f), down = random_weight(Format::kQ4_1, E, D, F, 2, 0.1f);
  check_layer("all to one", experts_case(9, 1, up, up, down, Ids(9, 2)));
  check_layer("all to one, large tiles", experts_case(400, 1, up, up, down, Ids(400, 2)));
  check_layer("all dropped", experts_case(5, 2, up, up, down, Ids(10, -1)));
  check_layer("no tokens", experts_case(0, 2, up, up, down, {}));
  const WeightPtr same = random_weight(Format::kQ8_0, 1, F, D, 3, 0.1f)->repeated(E);
  check_layer("equal experts", experts_case(7, 2, same, up, down, random_ids(14, E, 0, 6)));
}

void errors() {
  const WeightPtr w = random_weight(Format::kF32, 2, 8, 8, 1);
  const ExpertsCase good = experts_case(3, 2, w, w, w, {0, 1, 1, 0, 0, 1});
  const auto error = [](const ExpertsCase& l) {
    Compare c = experts_call(l, 0, 0);
    c.run_device();
    return c.error();
  };
  const auto is = [](const gpu::ErrorWord& e, int64_t place, int64_t got, int64_t low, int64_t high) {
    return e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == place && e.got == got && e.low == low &&
           e.high == high;
  };
  CHECK(error(good).kind == 0);
  ExpertsCase l = good;
  l.row_token[3] = 3;
  CHECK(is(error(l), 3, 3, 0, 2));
  l.row_token[3] = -1;
  CHECK(is(error(l), 3, -1, 0, 2));
  l = good;
  l.offsets[1] = 7;
  const gpu::ErrorWord e = error(l);  // the end is below it too, and may be seen first
  CHECK(is(e, 1, 7, 0, 6) || is(e, 2, 6, 7, 6));
  l = good;
  l.slot_row[1] = 6;
  CHECK(is(error(l), 1, 6, -1, 5));
}

}  // namespace

int main() {
  every_format();
  activations_and_biases();
  uneven_routing();
  errors();
  return report();
}
