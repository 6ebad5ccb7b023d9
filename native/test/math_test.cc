// The vector code itself, on every tier: accuracy of the functions, conversions of halves, random numbers.
#include <algorithm>
#include <cmath>

#include "call.h"
#include "check.h"
#include "cpu/isa/math_table.h"
#include "cpu/philox.h"
#include "formats/half.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

// Distance in units of the last place of the exact result.
double ulps(float got, long double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : INFINITY;
  const float nearest = float(want);
  if (std::isinf(nearest) || std::isinf(got)) return nearest == got ? 0 : INFINITY;
  int exponent;
  std::frexp(nearest, &exponent);
  const long double unit = std::ldexp(1.0L, std::max(exponent - 24, -149));
  return double(std::fabs((long double)got - want) / unit);
}

void test_functions() {
  struct Case {
    ElementOp op;
    const char* name;
    long double (*exact)(long double);
    float low, high;
    double limit;
  };
  const Case cases[] = {
      {ElementOp::kExp, "exp", [](long double x) { return std::exp(x); }, -104, 89, 2},
      {ElementOp::kLog, "log", [](long double x) { return std::log(x); }, 1e-44f, 3e38f, 2},
      {ElementOp::kLog, "log near 1", [](long double x) { return std::log(x); }, 0.5f, 2, 2},
      {ElementOp::kLog1p, "log1p", [](long double x) { return std::log1p(x); }, -0.999f, 10, 2.5},
      {ElementOp::kTanh, "tanh", [](long double x) { return std::tanh(x); }, -10, 10, 2.5},
      {ElementOp::kErf, "erf", [](long double x) { return std::erf(x); }, -4.5f, 4.5f, 2.5},
      {ElementOp::kSigmoid, "sigmoid", [](long double x) { return 1 / (1 + std::exp(-x)); }, -88, 40, 3},
      {ElementOp::kSin, "sin", [](long double x) { return std::sin(x); }, -1e5f, 1e5f, 1.5},
      {ElementOp::kCos, "cos", [](long double x) { return std::cos(x); }, -1e5f, 1e5f, 1.5},
      {ElementOp::kSqrt, "sqrt", [](long double x) { return std::sqrt(x); }, 0, 1e30f, 0.5001},
  };
  for (Tier tier : math_tiers()) {
    for (const Case& c : cases) {
      std::vector<float> x;
      std::mt19937 engine(1);
      std::uniform_real_distribution<float> linear(c.low, c.high);
      for (int i = 0; i < 100003; i++) x.push_back(linear(engine));
      if (c.low > 0 || c.low == -1e5f) {  // over the exponents too
        for (double v = std::fmax(c.low, 1e-44f); v < c.high; v *= 1.0173) x.push_back(float(v));
      }
      if (c.low < 0) {
        for (double v = 1e-44; v < -c.low; v *= 1.0173) x.push_back(float(-v)), x.push_back(float(v));
      }
      std::vector<float> y(x.size());
      math_table(tier).op[int(c.op)](y.data(), x.data(), nullptr, nullptr, int64_t(x.size()));
      double worst = 0;
      float at = 0;
      for (size_t i = 0; i < x.size(); i++) {
        if (x[i] > c.high) continue;
        const double d = ulps(y[i], c.exact(x[i]));
        if (d > worst) worst = d, at = x[i];
      }
      std::printf("%-8s %-10s %.3f ulp at %.9g\n", tier_name(tier), c.name, worst, double(at));
      CHECK(worst <= c.limit);
    }
    const auto one = [&](ElementOp op, float x) {
      float y;
      math_table(tier).op[int(op)](&y, &x, &x, &x, 1);
      return y;
    };
    for (ElementOp op :
         {ElementOp::kExp, ElementOp::kLog, ElementOp::kLog1p, ElementOp::kTanh, ElementOp::kErf,
          ElementOp::kSigmoid, ElementOp::kSqrt, ElementOp::kSign, ElementOp::kFloor, ElementOp::kMax}) {
      CHECK(std::isnan(one(op, NAN)));
    }
    CHECK(one(ElementOp::kExp, INFINITY) == INFINITY && one(ElementOp::kExp, -INFINITY) == 0);
    CHECK(one(ElementOp::kLog, 0) == -INFINITY && std::isnan(one(ElementOp::kLog, -1)));
    CHECK(one(ElementOp::kLog, INFINITY) == INFINITY && one(ElementOp::kLog1p, -1) == -INFINITY);
    CHECK(one(ElementOp::kTanh, INFINITY) == 1 && one(ElementOp::kErf, -INFINITY) == -1);
    CHECK(one(ElementOp::kSigmoid, -INFINITY) == 0 && one(ElementOp::kSigmoid, INFINITY) == 1);
    CHECK(std::signbit(one(ElementOp::kTanh, -0.0f)) && std::signbit(one(ElementOp::kLog1p, -0.0f)));
  }
}

void test_halves() {
  for (Tier tier : math_tiers()) {
    const MathTable& math = math_table(tier);
    std::vector<uint16_t> all(65536 + 5), back(all.size());
    for (size_t i = 0; i < all.size(); i++) all[i] = uint16_t(i);
    std::vector<float> x(all.size());
    bool right = true;
    for (DType t : {DType::kF16, DType::kBF16}) {
      math.load[int(t)](x.data(), all.data(), int64_t(all.size()));
      for (size_t i = 0; i < all.size(); i++) {
        const float want = t == DType::kF16 ? f16_to_f32(all[i]) : bf16_to_f32(all[i]);
        right = right && (std::isnan(want) ? std::isnan(x[i]) : std::memcmp(&want, &x[i], 4) == 0);
      }
      std::vector<float> values = normals(40003, 3, 1);
      std::mt19937 engine(4);
      for (float& v : values) {
        const uint32_t bits = engine();
        std::memcpy(&v, &bits, 4);
      }
      for (float v : {65504.0f, 65519.9f, 65520.0f, 5.9e-8f, 2.9e-8f, 6.1e-5f, 1.0009766f})
        values.push_back(v);
      back.resize(values.size());
      math.store[int(t)](back.data(), values.data(), int64_t(values.size()));
      for (size_t i = 0; i < values.size(); i++) {
        const uint16_t want = t == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
        if (std::isnan(values[i])) {
          right = right && std::isnan(t == DType::kF16 ? f16_to_f32(back[i]) : bf16_to_f32(back[i]));
        } else {
          right = right && back[i] == want;
        }
      }
      back.resize(all.size());
    }
    CHECK(right);
  }
}

void test_philox() {  // the vectors of the authors' own tests
  const auto zero = philox(0, 0);
  CHECK(zero[0] == 0x6627e8d5 && zero[1] == 0xe169c58d && zero[2] == 0xbc57ac4c && zero[3] == 0x9b00dbd8);
  ThreadPool pool(1);
  for (Tier tier : math_tiers()) {
    const auto x = Call("random_normal").attr(5).attr(0).out(DType::kF32, {100000}).run(tier, pool).result();
    double mean = 0, square = 0, fourth = 0;
    for (float v : x) mean += v, square += double(v) * v, fourth += std::pow(double(v), 4);
    CHECK(std::fabs(mean / 1e5) < 0.01 && std::fabs(square / 1e5 - 1) < 0.02 &&
          std::fabs(fourth / 1e5 - 3) < 0.1);
    const auto tail = Call("random_normal").attr(5).attr(4).out(DType::kF32, {7}).run(tier, pool).result();
    CHECK(same_bits(tail, {x.begin() + 16, x.begin() + 23}));
  }
}

}  // namespace

int main() {
  test_functions();
  test_halves();
  test_philox();
  return report();
}
