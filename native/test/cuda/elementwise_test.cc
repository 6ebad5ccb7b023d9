#include <algorithm>
#include <limits>

#include "cpu/elementwise.h"
#include "formats/half.h"
#include "test/cuda/compare.h"
#include "test/opcode.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::vector<float> floats(int64_t n, uint32_t seed) {
  std::vector<float> x = normals(n, seed, 2);
  const float special[] = {0.0f, -0.0f, kInf, -kInf, kNan, 1e-40f, 3e9f, -3e9f, 90.0f, -110.0f, 2147483648.0f};
  for (size_t i = 0; i < std::size(special); i++) {
    if (i * 7 < x.size()) x[i * 7] = special[i];
  }
  return x;
}
std::vector<int32_t> ints(int64_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> x(static_cast<size_t>(n));
  for (int32_t& v : x) v = static_cast<int32_t>(engine() >> engine() % 32);
  const int32_t special[] = {INT32_MIN, -1, 0, INT32_MAX, 1};
  for (size_t i = 0; i < x.size(); i++) {
    if (i % 3 == 0) x[i] = special[(i / 3 + seed) % 5];
  }
  return x;
}

// Every opcode over values that include the special ones.
void test_opcodes(ThreadPool& pool) {
  struct Case {
    const char *name, *in;
    char out;
    double relative;  // 0: the same bits
  };
  const Case cases[] = {
      {"add", "ff", 'f', 0},       {"sub", "ff", 'f', 0},        {"mul", "ff", 'f', 0},      {"div", "ff", 'f', 0},
      {"max", "ff", 'f', 0},       {"min", "ff", 'f', 0},        {"pow", "ff", 'f', 4e-6},   {"neg", "f", 'f', 0},
      {"abs", "f", 'f', 0},        {"sign", "f", 'f', 0},        {"exp", "f", 'f', 1e-6},    {"log", "f", 'f', 1e-6},
      {"log1p", "f", 'f', 1e-6},   {"sqrt", "f", 'f', 0},        {"rsqrt", "f", 'f', 0},     {"reciprocal", "f", 'f', 0},
      {"tanh", "f", 'f', 1e-6},    {"erf", "f", 'f', 1e-6},      {"sigmoid", "f", 'f', 1e-6}, {"sin", "f", 'f', 1e-6},
      {"cos", "f", 'f', 1e-6},     {"floor", "f", 'f', 0},       {"lt", "ff", 'i', 0},       {"le", "ff", 'i', 0},
      {"eq", "ff", 'i', 0},        {"ne", "ff", 'i', 0},         {"add_i32", "ii", 'i', 0},  {"sub_i32", "ii", 'i', 0},
      {"mul_i32", "ii", 'i', 0},   {"div_i32", "ii", 'i', 0},    {"mod_i32", "ii", 'i', 0},  {"max_i32", "ii", 'i', 0},
      {"min_i32", "ii", 'i', 0},   {"lt_i32", "ii", 'i', 0},     {"le_i32", "ii", 'i', 0},   {"eq_i32", "ii", 'i', 0},
      {"ne_i32", "ii", 'i', 0},    {"and", "ii", 'i', 0},        {"or", "ii", 'i', 0},       {"xor", "ii", 'i', 0},
      {"not", "i", 'i', 0},        {"select", "iff", 'f', 0},    {"select_i32", "iii", 'i', 0}, {"to_i32", "f", 'i', 0},
      {"to_f32", "i", 'f', 0}};
  CHECK(std::size(cases) + 2 == elementwise_opcodes().size());  // the constants have a test of their own
  constexpr int64_t n = 301;
  for (const Case& c : cases) {
    Compare compare("elementwise");
    for (uint32_t i = 0; c.in[i] != 0; i++) {
      if (c.in[i] == 'f') {
        auto x = floats(n, 10 + i);
        std::rotate(x.begin(), x.begin() + 7 * i, x.end());
        compare.in({n}, x);
      } else {
        compare.in({n}, ints(n, i));
      }
    }
    if (c.out == 'f') {
      compare.out<float>({n});
    } else {
      compare.out<int32_t>({n});
    }
    compare.attr(std::vector<int64_t>{op(c.name), 0, 1, 2}).run(pool);
    const bool ok = c.out == 'i' ? compare.same<int32_t>() : compare.close(c.relative, c.relative > 0 ? 1e-40 : 0);
    if (!ok) std::fprintf(stderr, "opcode %s\n", c.name);
    CHECK(ok);
  }
}

template <class In>
std::vector<In> numbers(int64_t n) {
  std::vector<In> x(static_cast<size_t>(n));
  const auto from = normals(n, 3, 20);
  for (size_t i = 0; i < x.size(); i++) {
    if constexpr (std::is_same_v<In, BF16>) x[i] = {f32_to_bf16(from[i])};
    else if constexpr (std::is_same_v<In, uint16_t>) x[i] = f32_to_f16(from[i]);
    else if constexpr (std::is_same_v<In, float>) x[i] = from[i];
    else if constexpr (std::is_same_v<In, uint32_t>) x[i] = static_cast<uint32_t>(from[i] * 1e8f + 2e9f);
    else if constexpr (std::is_same_v<In, Bool>) x[i] = {static_cast<uint8_t>(i % 3)};  // 2 is true as well
    else if constexpr (std::is_same_v<In, uint8_t>) x[i] = static_cast<uint8_t>(static_cast<int>(from[i]) & 3);
    else x[i] = static_cast<In>(from[i] * 1e3f);
  }
  return x;
}

// No code at all is a cast between dtypes of the same lanes.
template <class In, class Out>
void test_cast(ThreadPool& pool) {
  for (const int64_t n : {0, 1, 3, 4, 517, 70000}) {
    for (const int shift : {0, 1}) {
      Compare cast("elementwise");
      cast.shifted(shift).in({n}, numbers<In>(n)).shifted(shift * n % 3).template out<Out>({n});
      CHECK(cast.attr(std::vector<int64_t>{}).run(pool).template same<Out>());
    }
  }
}

// x [3, rows, inner] · scale [rows, 1] + bias [inner] + one, through sigmoid, times x: every way of reading an input.
void test_broadcast(ThreadPool& pool) {
  const std::vector<int64_t> code = {op("mul"), 0, 1, 0, op("add"), 4, 2, 0, op("add"), 5, 3, 0, op("sigmoid"), 6, 0, 0,
                                     op("mul"), 4, 7, 0};
  for (const int64_t inner : {1, 3, 4, 17, 64, 513, 1100}) {
    const int64_t rows = 5, n = 3 * rows * inner;
    const auto x = normals(n, 1), scale = normals(rows, 2), bias = normals(inner, 3);
    std::vector<uint16_t> half_bias;
    for (const float b : bias) half_bias.push_back(f32_to_f16(b));
    const auto with = [&](int64_t shift, auto&& finish) {
      Compare c("elementwise");
      c.shifted(shift).in({3, rows, inner}, x).in({rows, 1}, scale).in({inner}, half_bias).in({1, 1}, std::vector<float>{0.25f});
      finish(c);
      return c.attr(code).run(pool).close(2e-6, 1e-6);
    };
    CHECK(with(0, [&](Compare& c) { c.out<float>({3, rows, inner}); }));
    CHECK(with(1, [&](Compare& c) { c.shifted(0).out<float>({3, rows, inner}); }));
    CHECK(with(0, [&](Compare& c) { c.out_in_place(0); }));
  }
  // Five dimensions that do not merge, broadcast on both sides.
  CHECK(Compare("elementwise").in({2, 1, 3, 1, 5}, normals(30, 1)).in({4, 1, 6, 1}, normals(24, 2))
            .in({2, 4, 3, 6, 1}, normals(144, 3)).out<float>({2, 4, 3, 6, 5})
            .attr(std::vector<int64_t>{op("add"), 0, 1, 0, op("sub"), 3, 2, 0}).run(pool).same<float>());
  // An output of one element, a constant alone, an input that nothing reads.
  CHECK(Compare("elementwise").in({1}, normals(1, 1)).in({}, normals(1, 2)).out<float>({1, 1})
            .attr(std::vector<int64_t>{op("mul"), 0, 1, 0}).run(pool).same<float>());
  const int64_t seven = 0x40e00000;
  CHECK(Compare("elementwise").out<BF16>({3, 7}).attr(std::vector<int64_t>{op("const"), seven, 0, 0}).run(pool).same<BF16>());
  CHECK(Compare("elementwise").out<int32_t>({9}).attr(std::vector<int64_t>{op("const_i32"), -3, 0, 0}).run(pool).same<int32_t>());
  CHECK(Compare("elementwise").in({6}, normals(6, 1)).in({6}, normals(6, 2)).out<float>({6})
            .attr(std::vector<int64_t>{op("const"), seven, 0, 0, op("exp"), 0, 0, 0, op("mul"), 2, 1, 0}).run(pool).same<float>());
}

// So many elements that a thread takes two tiles at a time, and some that are left over.
void test_large(ThreadPool& pool) {
  const int64_t inner = 1001, rows = device_limits().multiprocessors * int64_t{2 * 2048 * 4} / inner + 2;
  const std::vector<int64_t> code = {op("const"), 0x40000000, 0, 0, op("mul"), 0, 3, 0, op("add"), 4, 1, 0, op("sub"), 5, 2, 0,
                                     op("max"), 4, 6, 0, op("mul"), 7, 5, 0};
  for (const int64_t shift : {0, 1}) {
    CHECK(Compare("elementwise").shifted(shift).in({rows, inner}, normals(rows * inner, 1)).in({inner}, numbers<BF16>(inner))
              .in({1}, normals(1, 3)).out<float>({rows, inner}).attr(code).run(pool).same<float>());
  }
}

// The longest programs: many values that live at once, and chains drawn at random.
void test_long(ThreadPool& pool) {
  std::vector<int64_t> wide;
  constexpr int64_t kLive = 64;
  for (int64_t i = 0; i < kLive; i++) wide.insert(wide.end(), {op("add"), i == 0 ? 0 : i, 0, 0});
  int64_t sum = 1;
  for (int64_t i = 2; i <= kLive; i++) wide.insert(wide.end(), {op("sub"), sum, i, 0}), sum = kLive + i - 1;
  CHECK(wide.size() == 4 * (2 * kLive - 1));
  CHECK(Compare("elementwise").in({700}, normals(700, 1)).out<float>({700}).attr(wide).run(pool).same<float>());
  std::mt19937 engine(7);
  for (int round = 0; round < 20; round++) {
    const int64_t steps = 1 + static_cast<int64_t>(engine() % kMaxElementwiseCode);
    std::vector<int64_t> code;
    for (int64_t s = 0; s < steps; s++) {
      const char* names[] = {"add", "sub", "mul", "max", "min", "neg", "const"};
      const auto recent = [&] {
        const int64_t all = 3 + s, near = std::min<int64_t>(all, 4);
        return engine() % 3 == 0 ? static_cast<int64_t>(engine() % all) : all - 1 - static_cast<int64_t>(engine() % near);
      };
      const char* name = names[engine() % 7];
      const bool constant = std::string_view(name) == "const";
      code.insert(code.end(), {op(name), constant ? 0x3f000000 + static_cast<int64_t>(engine() % 1000) : recent(), recent(), 0});
    }
    CHECK(Compare("elementwise").in({5, 13}, normals(65, 1)).in({13}, normals(13, 2)).in({5, 1}, normals(5, 3))
              .out<float>({5, 13}).attr(code).run(pool).close(0, 0));
  }
}

}  // namespace

int main() {
  ThreadPool pool(1);
  test_opcodes(pool);
  test_cast<float, float>(pool), test_cast<float, BF16>(pool), test_cast<BF16, float>(pool), test_cast<uint16_t, BF16>(pool);
  test_cast<float, uint16_t>(pool), test_cast<uint16_t, float>(pool), test_cast<BF16, uint16_t>(pool);
  test_cast<int32_t, uint8_t>(pool), test_cast<uint8_t, int32_t>(pool), test_cast<uint32_t, int32_t>(pool);
  test_cast<uint8_t, uint8_t>(pool), test_cast<int32_t, uint32_t>(pool), test_cast<Bool, int32_t>(pool);
  test_cast<int32_t, Bool>(pool), test_cast<Bool, Bool>(pool), test_cast<uint8_t, Bool>(pool);
  test_broadcast(pool);
  test_large(pool);
  test_long(pool);
  return report();
}
