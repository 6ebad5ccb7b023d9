// route_top_k beside the CPU's: the same bits, ties and all.
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

enum Score { kSoftmax, kSigmoid, kSoftmaxOfChosen };

struct Case {
  int64_t N, E, K;
  int groups = 1, top_groups = 1, group_score = 0;
};

constexpr Case kCases[] = {
    {1, 1, 1},          {3, 2, 2},         {0, 8, 2},          {5, 8, 2},          {70, 31, 4},
    {9, 32, 32},        {9, 33, 7},        {40, 128, 8},       {13, 128, 8, 8, 3}, {13, 128, 8, 8, 3, 1},
    {9, 256, 8, 8, 4, 1}, {5, 60, 6, 20, 7}, {5, 60, 6, 60, 30, 1}, {3, 512, 32, 64, 9, 1}, {2, 511, 17},
    {3, 40, 33},        {3, 513, 8},       {2, 1100, 70, 11, 4, 1}, {2, 96, 96},       {3, 700, 9, 350, 100, 1},
};

Compare& route(Compare& c, const Case& s, int score, int renormalize, double scale) {
  return c.out<int32_t>({s.N, s.K}).out<float>({s.N, s.K}).attr(s.K).attr(score).attr(renormalize).attr(scale).attr(s.groups)
      .attr(s.top_groups).attr(s.group_score);
}

// The tiers of vectors round a multiply-add once, as the device does.
bool same(Compare& c, ThreadPool& pool) {
  c.run_cpu(pool, best_tier()).run_device();
  return c.same<int32_t>(0) && c.same<float>(1) && c.error().kind == 0;
}

void routes(ThreadPool& pool, const Case& s, const std::vector<float>& logits, const std::vector<float>& bias) {
  for (const int score : {kSoftmax, kSigmoid, kSoftmaxOfChosen}) {
    for (const int renormalize : {0, 1}) {
      Compare plain("route_top_k"), biased("route_top_k");
      plain.in({s.N, s.E}, logits).absent();
      biased.shifted(1).in({s.N, s.E}, logits).in({s.E}, bias).shifted(0);
      CHECK(same(route(plain, s, score, renormalize, 1.0), pool));
      CHECK(same(route(biased, s, score, renormalize, 2.5), pool));
    }
  }
}

// Few values, so that most choices are ties; a last bit of a softmax makes or breaks others.
std::vector<float> coarse(std::vector<float> values) {
  for (float& v : values) v = std::round(v * 2) / 2;
  return values;
}

void refuses(const char* what, float logit, float bias, int score, int64_t place) {
  std::vector<float> logits(3 * 40, 0.5f), biases(40, 0.0f);
  if (logit != 0.5f) logits[static_cast<size_t>(place)] = logit;
  if (bias != 0.0f) biases[static_cast<size_t>(place)] = bias;
  Compare c("route_top_k");
  c.in({3, 40}, logits).in({40}, biases);
  route(c, {3, 40, 4}, score, 1, 1.0).run_device();
  if (!CHECK(c.error().kind == static_cast<int32_t>(gpu::ErrorKind::kNotFinite) && c.error().place == place)) std::puts(what);
  for (const int32_t id : c.device<int32_t>()) CHECK(id >= 0 && id < 40);
}

}  // namespace

int main() {
  ThreadPool pool(1);
  for (const Case& s : kCases) {
    const auto logits = normals(s.N * s.E, 3, 3), bias = normals(s.E, 4, 0.1f);
    routes(pool, s, logits, bias);
    routes(pool, s, coarse(logits), coarse(bias));
  }
  const Case one = {4, 64, 6, 8, 4, 1};
  auto extreme = normals(4 * 64, 5, 60);
  for (size_t e = 0; e < 64; e++) extreme[e] = e % 3 == 0 ? -INFINITY : e % 3 == 1 ? -0.0f : 0.0f;
  for (size_t e = 64; e < 128; e++) extreme[e] = -INFINITY;
  routes(pool, one, extreme, std::vector<float>(64, -INFINITY));
  routes(pool, one, extreme, normals(64, 6, 1e-20f));
  Compare infinite("route_top_k");
  extreme[70] = INFINITY;
  infinite.in({4, 64}, extreme).absent();
  CHECK(same(route(infinite, one, kSigmoid, 1, 1.0), pool));

  refuses("NaN of a softmax", NAN, 0, kSoftmax, 47);
  refuses("infinity of a softmax", INFINITY, 0, kSoftmax, 119);
  refuses("infinity of the chosen", INFINITY, 0, kSoftmaxOfChosen, 0);
  refuses("NaN of a sigmoid", NAN, 0, kSigmoid, 80);
  refuses("NaN of a bias", 0.5f, NAN, kSigmoid, 39);
  refuses("infinity of a bias", 0.5f, INFINITY, kSoftmax, 0);
  return report();
}
