// Packed weights and the linear kernels: every format, tier, row count and odd size against a loop in double precision
// over Weight::read(); the same bits for any number of rows and threads and, in f32 and int8, on every tier.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "formats/format_table.h"
#include "formats/half.h"
#include "runtime/kernel.h"
#include "runtime/weight.h"
#include "test/check.h"
#include "test/random_weight.h"
#include "test/tiers.h"

namespace switchyard {
namespace {

std::mt19937_64 random_bits(7);
float random_float() { return std::normal_distribution<float>()(random_bits); }

ThreadPool& pool() {
  static ThreadPool p(4);
  return p;
}

std::shared_ptr<Weight> random_weight(Format f, int64_t experts, int64_t rows, int64_t columns) {
  return test::random_weight(f, experts, rows, columns, static_cast<uint32_t>(random_bits()));
}

std::vector<float> random_matrix(int64_t rows, int64_t columns) {
  std::vector<float> x(rows * columns);
  for (float& v : x) v = random_float();
  return x;
}

struct Scratch {
  std::vector<std::byte> bytes;
  std::byte* get(int64_t n) {
    bytes.resize(static_cast<size_t>(n) + 64);
    const auto at = reinterpret_cast<uintptr_t>(bytes.data());
    return reinterpret_cast<std::byte*>((at + 63) / 64 * 64);
  }
};

Operand tensor(const void* data, DType dtype, std::initializer_list<int64_t> dims) {
  Operand o;
  o.dtype = dtype;
  for (int64_t d : dims) o.shape.dims[o.shape.rank++] = d;
  o.data = reinterpret_cast<std::byte*>(const_cast<void*>(data));
  return o;
}

Operand weight_operand(const Weight& w) {
  Operand o;
  o.weight = &w;
  o.shape.rank = 3;
  o.shape.dims = {w.experts(), w.rows(), w.columns()};
  return o;
}

void run(const char* name, std::vector<const Operand*> in, std::vector<const Operand*> out, int compute, Tier tier,
         int threads) {
  Instruction instruction;
  instruction.kernel = cpu_kernels().find(name);
  instruction.in = std::move(in);
  instruction.out = std::move(out);
  if (compute >= 0) instruction.attrs.push_back({compute, 0, {}});
  instruction.kernel->prepare(instruction);
  Scratch shared, worker;
  Context context;
  context.pool = &pool();
  context.threads = threads;
  context.tier = tier;
  context.worker_stride = (instruction.worker_scratch + 63) / 64 * 64;
  context.shared_scratch = shared.get(instruction.shared_scratch);
  context.worker_scratch = worker.get(context.worker_stride * 4);
  instruction.kernel->run(instruction, context);
}

// linear (offsets empty) or grouped_linear of x [rows, K].
std::vector<std::vector<float>> linear(const std::vector<float>& x, int64_t rows, const std::vector<const Weight*>& w,
                                       int compute, Tier tier, int threads,
                                       const std::vector<int32_t>& offsets = {}) {
  const Operand ox = tensor(x.data(), DType::kF32, {rows, w[0]->columns()});
  const Operand oo = tensor(offsets.data(), DType::kI32, {static_cast<int64_t>(offsets.size())});
  std::vector<Operand> ow, oy;
  std::vector<std::vector<float>> y;
  for (const Weight* one : w) {
    ow.push_back(weight_operand(*one));
    y.emplace_back(rows * one->rows(), NAN);
  }
  for (size_t i = 0; i < w.size(); i++) oy.push_back(tensor(y[i].data(), DType::kF32, {rows, w[i]->rows()}));
  std::vector<const Operand*> in = {&ox}, out;
  if (!offsets.empty()) in.push_back(&oo);
  for (const Operand& o : ow) in.push_back(&o);
  for (const Operand& o : oy) out.push_back(&o);
  run(offsets.empty() ? "linear" : "grouped_linear", in, out, compute, tier, threads);
  return y;
}

std::vector<float> transposed(const std::vector<float>& dy, int64_t rows, const Weight& w, Tier tier, int threads,
                              const std::vector<int32_t>& offsets = {}) {
  std::vector<float> dx(rows * w.columns(), NAN);
  const Operand od = tensor(dy.data(), DType::kF32, {rows, w.rows()});
  const Operand oo = tensor(offsets.data(), DType::kI32, {static_cast<int64_t>(offsets.size())});
  const Operand ow = weight_operand(w), ox = tensor(dx.data(), DType::kF32, {rows, w.columns()});
  if (offsets.empty()) run("linear_transposed", {&od, &ow}, {&ox}, -1, tier, threads);
  else run("grouped_linear_transposed", {&od, &oo, &ow}, {&ox}, -1, tier, threads);
  return dx;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

// The largest |y - Σ x·w| over Σ |x·w|, in double precision.
double error_of_product(const std::vector<float>& y, const std::vector<float>& x, int64_t rows,
                        const std::vector<float>& w, int64_t n, int64_t k, int64_t w_step_n, int64_t w_step_k) {
  double worst = 0;
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < n; i++) {
      double sum = 0, size = 1e-30;
      for (int64_t j = 0; j < k; j++) {
        const double term = static_cast<double>(x[r * k + j]) * w[i * w_step_n + j * w_step_k];
        sum += term;
        size += std::fabs(term);
      }
      const double error = std::fabs(y[r * n + i] - sum) / size;
      worst = error <= worst ? worst : error;  // NaN counts
      if (std::isnan(error)) return error;
    }
  }
  return worst;
}

// Of the sum of magnitudes: f32 rounding, bf16 and 8-bit rounding of the activations.
constexpr double kTolerance[3] = {2e-6, 8e-3, 1.5e-2};

int mode_of(Format f, int compute) {
  if (compute == 2) return is_integer_format(f) ? 2 : 0;
  if (compute == 1) return is_integer_format(f) ? 0 : 1;
  return 0;
}

void test_products() {
  const int64_t sizes_n[] = {1, 15, 17, 100};
  const int64_t row_counts[] = {1, 2, 3, 7, 8, 9, 16, 17, 18, 31, 33};  // 17: blocks of 8 and 9
  for (int fi = 0; fi < kFormatCount; fi++) {
    const Format f = static_cast<Format>(fi);
    const int block = format_info(f).values_per_block;
    const std::vector<int64_t> columns = block == 1    ? std::vector<int64_t>{1, 31, 32, 77, 300}
                                         : block == 32 ? std::vector<int64_t>{32, 96, 160, 576}
                                                       : std::vector<int64_t>{256, 512};
    for (const int64_t n : sizes_n) {
      for (const int64_t k : columns) {
        const auto w = random_weight(f, 1, n, k);
        std::vector<float> values(n * k);
        w->read(0, 0, n, values.data());
        const std::vector<float> x = random_matrix(33, k), dy = random_matrix(33, n);
        std::vector<float> oracle[3], oracle_dx;
        for (const Tier tier : test::tested_tiers()) {
          for (int compute = 0; compute < 3; compute++) {
            const int mode = mode_of(f, compute);
            const std::vector<float> all = linear(x, 33, {w.get()}, compute, tier, 2)[0];
            // Where every tier has the bits of the scalar one, that one's error is theirs.
            if (tier == Tier::kScalar) oracle[compute] = all;
            bool ok = mode == 1 || same_bits(all, oracle[compute]);
            const bool known = tier != Tier::kScalar && mode != 1 && ok;
            const double error = known ? 0 : error_of_product(all, x, 33, values, n, k, k, 1);
            if (!CHECK(error <= kTolerance[mode])) {
              std::fprintf(stderr, "  %s n=%lld k=%lld compute=%d tier=%s error=%g\n", format_info(f).name,
                           static_cast<long long>(n), static_cast<long long>(k), compute, tier_name(tier), error);
            }
            for (const int64_t rows : row_counts) {
              const std::vector<float> part(x.begin() + (33 - rows) * k, x.end());
              const std::vector<float> y = linear(part, rows, {w.get()}, compute, tier, 1 + rows % 3)[0];
              ok = ok && std::memcmp(y.data(), all.data() + (33 - rows) * n, y.size() * 4) == 0;
            }
            if (!CHECK(ok)) {
              std::fprintf(stderr, "  bits: %s n=%lld k=%lld compute=%d tier=%s\n", format_info(f).name,
                           static_cast<long long>(n), static_cast<long long>(k), compute, tier_name(tier));
            }
          }
          const std::vector<float> dx = transposed(dy, 33, *w, tier, 2);
          if (tier == Tier::kScalar) {
            oracle_dx = dx;
            CHECK(error_of_product(dx, dy, 33, values, k, n, 1, k) <= kTolerance[0]);
          }
          CHECK(same_bits(dx, oracle_dx));
          CHECK(std::memcmp(transposed(dy, 1, *w, tier, 1).data(), dx.data(), k * 4) == 0);
        }
      }
    }
  }
}

// Rows longer than what the blocked kernels take at once; enough rows that nibbles are unpacked first.
void test_long_rows() {
  const int64_t n = 83, k = 4096 + 96, rows = 70;
  const std::vector<float> x = random_matrix(rows, k);
  for (const Format f : {Format::kF16, Format::kF8E4M3, Format::kQ4_1, Format::kInt8, Format::kInt8G64, Format::kInt4G64, Format::kInt4G128}) {
    const auto w = random_weight(f, 1, n, k);
    std::vector<float> values(n * k), oracle[3];
    w->read(0, 0, n, values.data());
    for (const Tier tier : test::tested_tiers()) {
      for (const int compute : {0, 2}) {
        if (mode_of(f, compute) != compute) continue;
        const std::vector<float> all = linear(x, rows, {w.get()}, compute, tier, 1)[0];
        if (tier == Tier::kScalar) {
          oracle[compute] = all;
          CHECK(error_of_product(all, x, rows, values, n, k, k, 1) <= kTolerance[compute]);
        }
        bool ok = same_bits(all, oracle[compute]);
        for (const int64_t part : {1, 5, 31, 40}) {
          ok = ok && std::memcmp(linear(x, part, {w.get()}, compute, tier, 2)[0].data(), all.data(), part * n * 4) == 0;
        }
        if (!CHECK(ok)) std::fprintf(stderr, "  %s compute=%d tier=%s\n", format_info(f).name, compute, tier_name(tier));
      }
    }
  }
}

void test_threads_and_shared_activations() {
  const int64_t k = 512;
  const auto q = random_weight(Format::kQ4_K, 1, 300, k), u = random_weight(Format::kQ6_K, 1, 70, k);
  const auto b = random_weight(Format::kBF16, 1, 130, k), wide = random_weight(Format::kInt4G128, 1, 50, k);
  const std::vector<float> x = random_matrix(200, k);
  for (const Tier tier : test::tested_tiers()) {
    for (int compute = 0; compute < 3; compute++) {
      for (const int64_t rows : {1, 5, 200}) {
        const auto one = linear(x, rows, {q.get(), u.get(), b.get(), wide.get()}, compute, tier, 1);
        for (const int threads : {2, 4}) {
          const auto y = linear(x, rows, {q.get(), u.get(), b.get(), wide.get()}, compute, tier, threads);
          CHECK(same_bits(y[0], one[0]) && same_bits(y[1], one[1]) && same_bits(y[2], one[2]) && same_bits(y[3], one[3]));
        }
        CHECK(same_bits(linear(x, rows, {u.get()}, compute, tier, 2)[0], one[1]));
      }
    }
  }
}

void test_grouped() {
  const int64_t n = 40, k = 160, rows = 60;
  const std::vector<std::vector<int32_t>> cases = {
      {0, 0, 1, 1, 20, 60}, {0, 60, 60, 60, 60, 60}, {0, 0, 0, 0, 0, 60}, {0, 3, 9, 17, 30, 45}, {0, 0, 0, 0, 0, 0}};
  for (const Format f : {Format::kF32, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_1, Format::kInt8, Format::kInt4G128}) {
    const auto w = random_weight(f, 5, n, k), single = random_weight(f, 1, n, k), equal = single->repeated(5);
    CHECK(equal->bytes() == single->bytes() && equal->experts() == 5 && equal->panel(4, 0) == single->panel(0, 0));
    const std::vector<float> x = random_matrix(rows, k), dy = random_matrix(rows, n);
    for (const Tier tier : test::tested_tiers()) {
      for (const auto& offsets : cases) {
        const int64_t used = offsets.back();
        for (int compute = 0; compute < 3; compute++) {
          const auto y = linear(x, rows, {w.get(), equal.get()}, compute, tier, 3, offsets);
          const auto dense = linear(x, rows, {single.get()}, compute, tier, 2)[0];
          bool ok = std::memcmp(dense.data(), y[1].data(), used * n * 4) == 0;
          for (const auto& one : y)
            for (int64_t i = used * n; i < rows * n; i++) ok = ok && one[i] == 0;
          for (int e = 0; e < 5; e++) {
            const int64_t count = offsets[e + 1] - offsets[e];
            std::vector<float> values(n * k);
            w->read(e, 0, n, values.data());
            const std::vector<float> xe(x.begin() + offsets[e] * k, x.begin() + offsets[e + 1] * k);
            const std::vector<float> ye(y[0].begin() + offsets[e] * n, y[0].begin() + offsets[e + 1] * n);
            ok = ok && error_of_product(ye, xe, count, values, n, k, k, 1) <= kTolerance[mode_of(f, compute)];
          }
          CHECK(ok);
        }
        const auto dx = transposed(dy, rows, *w, tier, 2, offsets);
        bool ok = true;
        for (int64_t i = used * k; i < rows * k; i++) ok = ok && dx[i] == 0;
        for (int e = 0; e < 5; e++) {
          std::vector<float> values(n * k);
          w->read(e, 0, n, values.data());
          const std::vector<float> de(dy.begin() + offsets[e] * n, dy.begin() + offsets[e + 1] * n);
          const std::vector<float> xe(dx.begin() + offsets[e] * k, dx.begin() + offsets[e + 1] * k);
          ok = ok && error_of_product(xe, de, offsets[e + 1] - offsets[e], values, k, n, 1, k) <= kTolerance[0];
        }
        CHECK(ok);
      }
      CHECK(test::holds(test::error_of([&] { linear(x, rows, {w.get()}, 0, tier, 1, {0, 5, 4, 9, 9, 9}); }),
                        "got expert offset 4 at 2, expected 5 to 60"));
      CHECK(test::holds(test::error_of([&] { linear(x, rows, {w.get()}, 0, tier, 1, {0, 5, 5, 9, 9, 61}); }),
                        "got expert offset 61 at 5"));
      CHECK(test::holds(test::error_of([&] { linear(x, rows, {w.get()}, 0, tier, 1, {1, 5, 5, 9, 9, 60}); }),
                        "got expert offset 1 at 0"));
    }
  }
}

void test_values_that_are_not_finite() {
  for (const Format f : {Format::kQ4_0, Format::kInt8, Format::kInt8G64, Format::kInt4G128}) {
    const auto w = random_weight(f, 1, 20, 160);
    std::vector<float> x = random_matrix(9, 160);
    x[160 + 5] = NAN;
    x[320 + 155] = INFINITY;  // in a group that is cut short
    for (const Tier tier : test::tested_tiers()) {
      const auto y = linear(x, 9, {w.get()}, 2, tier, 1)[0];
      for (int i = 0; i < 20; i++) CHECK(std::isfinite(y[i]) && std::isnan(y[20 + i]) && std::isnan(y[40 + i]));
    }
  }
}

// Outliers meet the weights in f32: y(x) is y of the rest, and one multiply-add for each of them, k rising. Rows have none,
// one, two in a chunk and many; all alike in a batch and alone.
void test_outliers() {
  const int64_t n = 37, rows = 33, k = 512;
  std::vector<float> rest(rows * k);
  for (float& v : rest) v = std::uniform_real_distribution<float>(-1, 1)(random_bits);
  std::vector<float> x = rest;
  std::vector<std::vector<int64_t>> columns(rows);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < r % 7; i++) columns[r].push_back(i * 64 + (r * 7 + i * 5) % 32);
    if (r % 7 > 1) columns[r].insert(columns[r].begin() + 1, columns[r][0] / 32 * 32 + (columns[r][0] + 9) % 32);
    std::sort(columns[r].begin(), columns[r].end());
    for (const int64_t c : columns[r]) rest[r * k + c] = 0, x[r * k + c] = c % 2 ? -40.0f : 41.0f;
  }
  for (int fi = 0; fi < kFormatCount; fi++) {
    const Format f = static_cast<Format>(fi);
    if (!is_integer_format(f)) continue;
    const auto w = random_weight(f, 1, n, k);
    std::vector<float> values(n * k);
    w->read(0, 0, n, values.data());
    for (const Tier tier : test::tested_tiers()) {
      const std::vector<float> y = linear(x, rows, {w.get()}, 2, tier, 2)[0];
      std::vector<float> expected = linear(rest, rows, {w.get()}, 2, tier, 1)[0];
      bool ok = true;
      for (int64_t r = 0; r < rows; r++) {
        for (const int64_t c : columns[r])
          for (int64_t i = 0; i < n; i++) expected[r * n + i] = std::fma(x[r * k + c], values[i * k + c], expected[r * n + i]);
        const std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
        ok = ok && std::memcmp(linear(row, 1, {w.get()}, 2, tier, 1)[0].data(), &y[r * n], n * 4) == 0;
      }
      if (!CHECK(ok && same_bits(y, expected))) std::fprintf(stderr, "  %s tier=%s\n", format_info(f).name, tier_name(tier));
    }
  }
}

// A chunk of many large values keeps them: its scale suits them. So does a row in which half of the chunks are larger.
void test_no_outliers() {
  const int64_t n = 20, k = 512;
  std::vector<float> x = random_matrix(2, k);
  for (int64_t i = 0; i < 3; i++) x[64 + 5 * i] = 50;
  for (int64_t c = 0; c < k; c += 64) x[k + c] = 50;
  const auto w = random_weight(Format::kQ8_0, 1, n, k);
  std::vector<float> rounded = x, values(n * k);
  w->read(0, 0, n, values.data());
  for (int64_t i = 0; i < 2 * k; i++) {
    float largest = 0;
    for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) largest = std::max(largest, std::fabs(x[j]));
    rounded[i] = std::nearbyint(x[i] * (127 / largest)) * (largest / 127);
  }
  for (const Tier tier : test::tested_tiers()) {
    CHECK(error_of_product(linear(x, 2, {w.get()}, 2, tier, 1)[0], rounded, 2, values, n, k, k, 1) <= kTolerance[0]);
  }
}

void test_embedding() {
  for (const Format f : {Format::kF32, Format::kBF16, Format::kQ8_0, Format::kQ3_K}) {
    const auto w = random_weight(f, 1, 50, 256);
    std::vector<float> values(50 * 256), y(40 * 256);
    w->read(0, 0, 50, values.data());
    std::vector<int32_t> ids(40);
    for (int32_t& id : ids) id = static_cast<int32_t>(random_bits() % 50);
    const Operand oi = tensor(ids.data(), DType::kI32, {40}), ow = weight_operand(*w);
    const Operand oy = tensor(y.data(), DType::kF32, {40, 256});
    run("embedding", {&oi, &ow}, {&oy}, -1, best_tier(), 2);
    bool ok = true;
    for (int i = 0; i < 40; i++) ok = ok && std::memcmp(&y[i * 256], &values[ids[i] * 256], 1024) == 0;
    CHECK(ok);
    for (const int32_t bad : {-1, 50}) {
      ids[7] = bad;
      CHECK(test::holds(test::error_of([&] { run("embedding", {&oi, &ow}, {&oy}, -1, best_tier(), 2); }),
                        ("got id " + std::to_string(bad) + " at 7, expected 0 to 49").c_str()));
    }
  }
}

// Decoding, written a second time from the format's description, value by value.
void test_decoding() {
  const auto half = [](const std::byte* p) {
    uint16_t h;
    std::memcpy(&h, p, 2);
    return f16_to_f32(h);
  };
  const std::vector<std::byte> q4 = test::random_rows(Format::kQ4_1, 3, 64, 1, 1), q8 = test::random_rows(Format::kQ8_0, 3, 64, 2, 1);
  const std::vector<std::byte> q6 = test::random_rows(Format::kQ6_K, 1, 256, 3, 1);
  std::vector<float> got(3 * 64);
  test::pack_rows(Format::kQ4_1, 1, 3, 64, q4, Format::kQ4_1)->read(0, 0, 3, got.data());
  bool ok = true;
  for (int i = 0; i < 3 * 64; i++) {
    const std::byte* b = &q4[i / 32 * 20];
    const int j = i % 32, code = std::to_integer<int>(b[4 + j % 16]) >> (j / 16 * 4) & 15;
    ok = ok && got[i] == half(b) * static_cast<float>(code) + half(b + 2);
  }
  CHECK(ok);
  test::pack_rows(Format::kQ8_0, 1, 3, 64, q8, Format::kQ8_0)->read(0, 0, 3, got.data());
  ok = true;
  for (int i = 0; i < 3 * 64; i++) {
    const std::byte* b = &q8[i / 32 * 34];
    ok = ok && got[i] == half(b) * static_cast<float>(static_cast<int8_t>(b[2 + i % 32]));
  }
  CHECK(ok);
  got.resize(256);
  test::pack_rows(Format::kQ6_K, 1, 1, 256, q6, Format::kQ6_K)->read(0, 0, 1, got.data());
  ok = true;
  for (int i = 0; i < 256; i++) {
    const int l = i % 32, part = i / 32 % 4, half_block = i / 128;
    const int low = std::to_integer<int>(q6[half_block * 64 + part % 2 * 32 + l]) >> (part / 2 * 4) & 15;
    const int high = std::to_integer<int>(q6[128 + half_block * 32 + l]) >> (2 * part) & 3;
    const float scale = half(&q6[208]) * static_cast<float>(static_cast<int8_t>(q6[192 + i / 16]));
    ok = ok && got[i] == scale * static_cast<float>((low | high << 4) - 32);
  }
  CHECK(ok);
}

void test_sources() {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("switchyard-linear-test-" + std::to_string(random_bits()))).string();
  const int64_t n = 37, k = 50;
  const std::vector<float> x = random_matrix(2 * n, k);  // two experts
  std::vector<float> stored(3 + 2 * n * k);              // transposed per expert, after a gap: [expert][k][n]
  for (int64_t e = 0; e < 2; e++)
    for (int64_t r = 0; r < n; r++)
      for (int64_t c = 0; c < k; c++) stored[3 + e * n * k + c * n + r] = x[(e * n + r) * k + c];
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(stored.data()), stored.size() * 4);

  WeightSource source;
  source.name = "w";
  source.experts = 2;
  source.rows = n;
  source.columns = k;
  for (int64_t e = 0; e < 2; e++) {
    WeightPart part;
    part.rows = n;
    part.path = path;
    part.offset = 12 + e * n * k * 4;
    part.bytes = n * k * 4;
    part.row_stride = 1;
    part.column_stride = n;
    source.parts.push_back(part);
  }
  std::vector<float> got(n * k);
  const auto w = Weight::pack(source, pool(), 2);
  for (int e = 0; e < 2; e++) {
    w->read(e, 0, n, got.data());
    CHECK(std::memcmp(got.data(), &x[e * n * k], n * k * 4) == 0);
  }
  source.as = Format::kBF16;
  Weight::pack(source, pool(), 2)->read(1, 3, 1, got.data());
  bool ok = true;
  for (int64_t c = 0; c < k; c++) ok = ok && got[c] == bf16_to_f32(f32_to_bf16(x[(n + 3) * k + c]));
  CHECK(ok);

  // Rows interleaved with others: every second row.
  WeightSource odd;
  odd.name = "odd";
  odd.rows = n;
  odd.columns = k;
  WeightPart part;
  part.rows = n;
  part.memory = reinterpret_cast<const std::byte*>(x.data() + k);
  part.bytes = (2 * n - 1) * k * 4;
  part.row_stride = 2 * k;
  part.column_stride = 1;
  odd.parts = {part};
  Weight::pack(odd, pool(), 2)->read(0, 5, 1, got.data());
  CHECK(std::memcmp(got.data(), &x[11 * k], k * 4) == 0);

  // A file that lost its end, a file that is not there, sizes that do not fit, an abort.
  std::filesystem::resize_file(path, 12 + 2 * n * k * 4 - 1);
  source.as.reset();
  CHECK(test::holds(test::error_of([&] { Weight::pack(source, pool(), 2); }), "ERR_IO [weight] 'w'"));
  source.parts[0].path += "-missing";
  CHECK(test::holds(test::error_of([&] { Weight::pack(source, pool(), 2); }), "could not open"));
  std::filesystem::remove(path);
  odd.parts[0].bytes--;
  CHECK(test::holds(test::error_of([&] { Weight::pack(odd, pool(), 2); }), "expected at least"));
  odd.parts[0].bytes++;
  const std::atomic<bool> abort{true};
  CHECK(test::holds(test::error_of([&] { Weight::pack(odd, pool(), 2, &abort); }), "ERR_ABORTED"));
  odd.parts[0].rows--;
  CHECK(test::holds(test::error_of([&] { Weight::pack(odd, pool(), 2); }), "got parts of 36 rows, expected 37"));
  odd.columns = 33;
  odd.stored = Format::kQ4_0;
  CHECK(test::holds(test::error_of([&] { Weight::pack(odd, pool(), 2); }), "expected a multiple of 32 for q4_0"));
  odd.columns = 32;
  odd.as = Format::kQ5_0;
  CHECK(test::holds(test::error_of([&] { Weight::pack(odd, pool(), 2); }), "got q4_0 to be packed as q5_0"));
  odd.stored = Format::kInt8;
  CHECK(test::holds(test::error_of([&] { Weight::pack(odd, pool(), 2); }), "got int8 as the stored format"));
}

void test_half() {
  bool ok = true;
  for (uint32_t h = 0; h < 65536; h++) {
    const float v = f16_to_f32(static_cast<uint16_t>(h)), b = bf16_to_f32(static_cast<uint16_t>(h));
    ok = ok && (std::isnan(v) ? std::isnan(f16_to_f32(f32_to_f16(v))) : f32_to_f16(v) == h);
    ok = ok && (std::isnan(b) ? std::isnan(bf16_to_f32(f32_to_bf16(b))) : f32_to_bf16(b) == h);
    // Halfway between neighbours goes to the even one.
    if (h % 0x8000 >= 0x7bff) continue;
    const float next = f16_to_f32(static_cast<uint16_t>(h + 1)), middle = v + (next - v) / 2;
    ok = ok && f32_to_f16(middle) == h + h % 2 && f32_to_f16(std::nextafter(middle, next)) == h + 1;
  }
  CHECK(ok);
  CHECK(f32_to_f16(65519.0f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00);
}

}  // namespace
}  // namespace switchyard

int main() {
  using namespace switchyard;
  test::print_tiers();
  test_half();
  test_decoding();
  test_sources();
  test_embedding();
  test_outliers();
  test_no_outliers();
  test_values_that_are_not_finite();
  test_threads_and_shared_activations();
  test_grouped();
  test_long_rows();
  test_products();
  return test::report();
}
