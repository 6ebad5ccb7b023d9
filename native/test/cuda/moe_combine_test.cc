// moe_combine and moe_combine_grad beside the CPU's, and the combine of rows of 16 bits beside that of the same rows in f32.
#include "cuda/moe/combine.h"
#include "formats/half.h"
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

struct Case {
  int64_t N, K, R, D;
  double dropped;
};

constexpr Case kCases[] = {
    {1, 1, 1, 1, 0},   {1, 8, 8, 2048, 0},   {3, 2, 5, 7, 0.3},  {5, 3, 20, 33, 0.5},  {4, 9, 40, 36, 0.2},
    {2, 2, 0, 16, 1},  {0, 2, 3, 16, 0},     {3, 0, 2, 12, 0},   {3, 2, 2, 0, 0},      {70, 8, 560, 132, 0.1},
    {300, 2, 9, 8, 0}, {2, 17, 34, 1032, 0}, {9, 4, 36, 520, 1}, {130, 5, 64, 64, 0.9},
};

std::vector<int32_t> slots(std::mt19937& random, const Case& c) {
  std::vector<int32_t> rows(static_cast<size_t>(c.N * c.K));
  for (int32_t& row : rows) {
    const bool drop = c.R == 0 || std::uniform_real_distribution<>()(random) < c.dropped;
    row = drop ? -1 : static_cast<int32_t>(random() % static_cast<unsigned>(c.R));
  }
  return rows;
}

void combines(ThreadPool& pool, std::mt19937& random, const Case& c) {
  const auto rows = normals(c.R * c.D, 1), weights = normals(c.N * c.K, 2), dy = normals(c.N * c.D, 3);
  const auto slot_row = slots(random, c);
  // The tiers of vectors round a multiply-add once, as the device does; the scalar one does not.
  CHECK(Compare("moe_combine").in({c.R, c.D}, rows).in({c.N, c.K}, slot_row).in({c.N, c.K}, weights)
            .out<float>({c.N, c.D}).run_cpu(pool, best_tier()).run_device().same<float>());
  CHECK(Compare("moe_combine").in({c.R, c.D}, rows).in({c.N, c.K}, slot_row).absent()
            .out<float>({c.N, c.D}).run_cpu(pool, best_tier()).run_device().same<float>());
  // Sums of D products, in another order.
  CHECK(Compare("moe_combine_grad").in({c.R, c.D}, rows).in({c.N, c.K}, slot_row).in({c.N, c.D}, dy)
            .out<float>({c.N, c.K}).run(pool).close(1e-5, 1e-7 * static_cast<double>(c.D)));
}

// Rows that are aligned to their elements only.
void takes_rows_anywhere(ThreadPool& pool, std::mt19937& random, const Case& c) {
  const auto rows = normals(c.R * c.D, 6), weights = normals(c.N * c.K, 7), dy = normals(c.N * c.D, 8);
  const auto slot_row = slots(random, c);
  CHECK(Compare("moe_combine").shifted(1).in({c.R, c.D}, rows).in({c.N, c.K}, slot_row).in({c.N, c.K}, weights)
            .shifted(0).out<float>({c.N, c.D}).run_cpu(pool, best_tier()).run_device().same<float>());
  CHECK(Compare("moe_combine_grad").shifted(3).in({c.R, c.D}, rows).in({c.N, c.K}, slot_row).in({c.N, c.D}, dy)
            .shifted(0).out<float>({c.N, c.K}).run(pool).close(1e-5, 1e-7 * static_cast<double>(c.D)));
}

// A row that is not a number spoils those who chose it only.
void keeps_nan_apart(ThreadPool& pool) {
  std::vector<float> rows(3 * 8, 1.0f);
  rows[8] = NAN;
  const std::vector<int32_t> slot_row = {0, -1, 1, 2};
  const std::vector<float> weights = {1, NAN, 0, 1};
  CHECK(Compare("moe_combine").in({3, 8}, rows).in({2, 2}, slot_row).in({2, 2}, weights).out<float>({2, 8})
            .run(pool).close(0, 0));
}

void refuses(int32_t bad) {
  const std::vector<int32_t> slot_row = {0, 1, bad, 1};
  const std::vector<float> rows(2 * 4, 1.0f), dy(2 * 4, 1.0f);
  Compare sum("moe_combine"), dot("moe_combine_grad");
  sum.in({2, 4}, rows).in({2, 2}, slot_row).absent().out<float>({2, 4}).run_device();
  dot.in({2, 4}, rows).in({2, 2}, slot_row).in({2, 4}, dy).out<float>({2, 2}).run_device();
  for (const gpu::ErrorWord& e : {sum.error(), dot.error()}) {
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == 2 && e.got == bad && e.low == -1 && e.high == 1);
  }
  CHECK(sum.device<float>() == std::vector<float>{2, 2, 2, 2, 1, 1, 1, 1});  // left out
}

template <class T>
std::vector<float> combined(const std::vector<T>& rows, const std::vector<int32_t>& slot_row,
                            const std::vector<float>& weights, const Case& c) {
  const auto bytes = [](const auto& v) { return static_cast<int64_t>(v.size() * sizeof(v[0])); };
  std::vector<float> values(static_cast<size_t>(c.N * c.D));
  const DeviceBytes from(rows.data(), bytes(rows)), slots(slot_row.data(), bytes(slot_row));
  const DeviceBytes by(weights.data(), bytes(weights)), y(nullptr, bytes(values));
  const gpu::DeviceLimits limits = device_limits();
  gpu::ErrorWord word{};
  const DeviceBytes error(&word, sizeof word);
  gpu::Launch on;
  on.device = &limits, on.error = reinterpret_cast<gpu::ErrorWord*>(error.data());
  using Row = std::conditional_t<std::is_same_v<T, uint16_t>, gpu::Half, std::conditional_t<std::is_same_v<T, BF16>, gpu::Bf16, float>>;
  gpu::launch_combine(reinterpret_cast<const Row*>(from.data()), reinterpret_cast<const int32_t*>(slots.data()),
                      reinterpret_cast<const float*>(by.data()), c.R, c.N, c.K, c.D, reinterpret_cast<float*>(y.data()), 0, on);
  gpu::check(cudaDeviceSynchronize());
  y.read(values.data());
  return values;
}

// Widening is exact, so the sums are the same bits.
void takes_rows_of_16_bits(std::mt19937& random, const Case& c) {
  const auto weights = normals(c.N * c.K, 4), values = normals(c.R * c.D, 5);
  const auto slot_row = slots(random, c);
  std::vector<uint16_t> half;
  std::vector<BF16> brain;
  std::vector<float> of_half, of_brain;
  for (const float v : values) {
    half.push_back(f32_to_f16(v)), of_half.push_back(f16_to_f32(half.back()));
    brain.push_back({f32_to_bf16(v)}), of_brain.push_back(bf16_to_f32(brain.back().bits));
  }
  CHECK(same_bits(combined(half, slot_row, weights, c), combined(of_half, slot_row, weights, c)));
  CHECK(same_bits(combined(brain, slot_row, weights, c), combined(of_brain, slot_row, weights, c)));
}

}  // namespace

int main() {
  ThreadPool pool(1);
  std::mt19937 random(5);
  for (const Case& c : kCases) combines(pool, random, c);
  for (const Case& c : {Case{1, 8, 8, 2048, 0}, Case{5, 3, 20, 33, 0.5}, Case{70, 8, 560, 136, 0.1}}) takes_rows_of_16_bits(random, c);
  takes_rows_anywhere(pool, random, {5, 3, 20, 36, 0.2});
  keeps_nan_apart(pool);
  for (const int32_t bad : {-2, 2, INT32_MAX, INT32_MIN}) refuses(bad);
  return report();
}
