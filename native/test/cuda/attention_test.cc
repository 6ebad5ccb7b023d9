// attention and paged_attention over every storage beside the CPU's kernels, on their cases.
#include "test/attention_cases.h"

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

void add_terms(const Case& c, const Data& d, Compare& call) {
  c.prefix.empty() ? call.absent() : call.in({d.S}, c.prefix);
  c.terms.slopes ? call.in({c.H}, d.slopes) : call.absent();
  c.terms.sinks ? call.in({c.H}, d.sinks) : call.absent();
  c.terms.bias_size > 0 ? call.in({c.H, c.terms.bias_size}, d.bias) : call.absent();
  call.attr(double{d.scale}).attr(c.causal).attr(c.window).attr(double{c.terms.softcap}).attr(c.terms.left);
}

Compare contiguous(const Case& c, const Data& d) {
  Compare call("attention");
  call.in({d.N, c.H, c.C}, d.q).in({d.M, c.G, c.C}, d.k).in({d.M, c.G, c.Cv}, d.v);
  call.in({d.S + 1}, d.query_offsets).in({d.S + 1}, d.key_offsets);
  add_terms(c, d, call);
  call.out<float>({d.N, c.H, c.Cv});
  return call;
}

template <class T>
Compare paged(const Case& c, const Data& d, const Pages<T>& pages, bool in_keys) {
  Compare call("paged_attention");
  call.in({d.N, c.H, c.C}, d.q).in({pages.blocks, c.G, pages.k_page / pages.size, pages.size}, pages.k);
  in_keys ? call.absent() : call.in({pages.blocks, c.G, pages.size, pages.v_page / pages.size}, pages.v);
  call.in({d.S + 1}, d.query_offsets).in({d.S}, pages.lengths).in({d.S, pages.width}, pages.table);
  add_terms(c, d, call);
  call.attr(in_keys ? c.Cv : 0).out<float>({d.N, c.H, c.Cv});
  return call;
}

struct Tolerance {
  double relative, absolute, distance;
};
// Sums of f32 in another order.
constexpr Tolerance kSums{1e-5, 1e-5, 1e-5};
// Queries and weights as sums of two numbers of 16 bits: scores of about 10 are off by 2^-17 of that at most.
constexpr Tolerance kPairs{5e-5, 5e-5, 2e-5};
// Queries and weights rounded to f16 or bf16: scores are off by 2^-11 or 2^-8 of the sum of their products' magnitudes at
// most, which here is about 30, and by a tenth of that mostly.
constexpr Tolerance kHalf{8e-3, 8e-3, 8e-4}, kBrain{6e-2, 6e-2, 6e-3};

// As attention.cu chooses.
template <class T>
Tolerance tolerance_of(const Case& c, const Data& d) {
  if (sizeof(T) != 2 || c.C % 16 != 0 || c.Cv % 16 != 0 || c.C > 256 || c.Cv > 256 || c.C == 0) return kSums;
  if (d.N * (c.H / c.G) <= 16 * d.S) return kPairs;
  return std::is_same_v<T, BF16> ? kBrain : kHalf;
}

void agrees(const char* kind, const Case& c, Compare&& call, ThreadPool& pool, Tolerance t = kSums) {
  call.run(pool);
  const bool ok = call.close(t.relative, t.absolute) && !(call.distance() > t.distance) && call.error().kind == 0;
  if (!CHECK(ok)) std::fprintf(stderr, "  %s: %s, error %d, distance %g\n", kind, c.name, call.error().kind, call.distance());
}

template <class T>
void caches(const char* kind, const Case& c, const Data& d, ThreadPool& pool) {
  if (!pageable(c)) return;
  static int turn = 0;
  const int size = std::array{16, 48, 32}[turn++ % 3];
  const Pages<T> pages(c, d, size);
  agrees(kind, c, paged(c, d, pages, false), pool, tolerance_of<T>(c, d));
  if (c.Cv <= c.C && turn % 2 == 0) agrees("values in keys", c, paged(c, d, pages, true), pool);
}

const Case kMore[] = {
    {"many rows", {{200, 300}, {64, 64}}, 4, 2, 32, 40, 1, 0, {}},
    {"wide outputs", {{40, 90}}, 4, 2, 40, 200, 1, 33, {}},
    {"outputs in pieces", {{2, 130}}, 3, 3, 8, 600, 1, 0, {}},
    {"queries in pieces", {{2, 70}}, 2, 1, 1700, 20, 1, 0, {}},
    {"many sequences", {{1, 9}, {1, 2}, {0, 0}, {1, 7}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1},
                        {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1},
                        {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {2, 3}, {0, 4}, {30, 31}, {1, 80}, {1, 200}},
     4, 2, 8, 8, 1, 0, {}},
    {"steps of wide heads", {{1, 700}, {1, 65}, {1, 64}, {2, 3}}, 8, 2, 128, 128, 1, 0, {}},
    {"steps, more heads than a product", {{1, 200}, {1, 31}}, 13, 1, 64, 64, 1, 0, {}},
    {"steps, widest", {{1, 300}}, 4, 2, 256, 240, 1, 70, {}},
    {"steps, every term", {{2, 300}, {1, 70}}, 4, 2, 48, 80, 1, 90, {9, 0}, {true, true, 71, 60, 3}},
    {"prompt of wide heads", {{150, 300}, {30, 64}}, 4, 2, 128, 128, 1, 0, {}},
    {"prompt, widest", {{40, 120}}, 2, 1, 240, 256, 1, 0, {}},
    {"prompt, every term", {{90, 130}, {65, 65}}, 4, 2, 48, 80, 1, 50, {9, 0}, {true, true, 71, 60, 3}},
    {"short prompt of heads of 64", {{70, 130}}, 2, 1, 64, 64, 1, 0, {}},
    {"long prompt of heads of 64", {{140, 200}}, 2, 1, 64, 64, 1, 90, {20}},
    {"long prompts of wide heads", {{140, 270}, {130, 130}}, 4, 2, 128, 128, 1, 0, {}},
    {"long prompt, every term", {{150, 190}}, 4, 2, 64, 64, 1, 50, {9}, {true, true, 71, 60, 3}},
    {"no channel", {{3, 70}}, 2, 1, 0, 8, 1, 0, {}},
};

void cases(ThreadPool& pool) {
  const auto all = [&](const Case& c) {
    const Data d = data_of(c);
    agrees("contiguous", c, contiguous(c, d), pool);
    caches<float>("f32", c, d, pool);
    static bool half = false;
    half = !half;
    if (half) caches<uint16_t>("f16", c, d, pool);
    if (!half) caches<BF16>("bf16", c, d, pool);
    caches<uint8_t>("int8", c, d, pool);
  };
  for (const Case& c : kCases) all(c);
  for (const Case& c : kMore) all(c);
}

// What a row does not see cannot reach it, even as NaN or infinity.
void masked_keys_do_nothing(ThreadPool& pool) {
  const Case c{"masked", {{80, 80}}, 6, 2, 16, 16, 1, 0, {}};
  for (int64_t poisoned : {1, 63, 64}) {
    Data d = data_of(c);
    for (int64_t i = poisoned * c.G * c.C; i < (poisoned + 1) * c.G * c.C; i++) d.k[i] = i % 2 != 0 ? NAN : INFINITY;
    for (int64_t i = poisoned * c.G * c.Cv; i < (poisoned + 1) * c.G * c.Cv; i++) d.v[i] = i % 2 != 0 ? NAN : INFINITY;
    agrees("poisoned", c, contiguous(c, d), pool);
    agrees("poisoned", c, paged(c, d, Pages<float>(c, d, 16), false), pool);
  }
  const auto by_tensor_cores = [&](int poisoned, int queries, int width) {
    Case few = c;
    few.lengths = {{queries, 80}}, few.C = few.Cv = width;
    Data d = data_of(few);
    // The second part of a weight times infinity is NaN.
    const float other = queries == 2 ? NAN : INFINITY;
    const int64_t row = int64_t{c.G} * width;
    for (int64_t i = poisoned * row; i < (poisoned + 1) * row; i++) d.v[i] = i % 2 != 0 ? NAN : other;
    agrees("poisoned", few, paged(few, d, Pages<BF16>(few, d, 16), false), pool, {1e-1, 1e-1, 1e-2});
    agrees("poisoned", few, paged(few, d, Pages<uint16_t>(few, d, 32), false), pool, {1e-2, 1e-2, 1e-3});
  };
  for (int poisoned : {1, 63, 64}) {
    for (int queries : {80, 2}) by_tensor_cores(poisoned, queries, 16);
  }
  for (int queries : {80, 30, 2}) by_tensor_cores(63, queries, 64);
  Data d = data_of(c);
  for (int x = 0; x < c.C; x++) d.q[x] = NAN;
  agrees("query of NaN", c, contiguous(c, d), pool);
}

void rows_past_the_last_sequence(ThreadPool& pool) {
  for (int more : {1, 90}) {
    const Case c{"padded", {{5, 300}}, 2, 1, 8, 8, 1, 0, {}, {.sinks = true}};
    Data d = data_of(c);
    d.N += more;
    d.q.resize(d.N * c.H * c.C, NAN);
    agrees("contiguous", c, contiguous(c, d), pool);
  }
}

// Wrong values are told as the CPU's kernels find them.
void errors() {
  const Case c{"errors", {{2, 40}, {2, 33}}, 2, 1, 8, 8, 1, 0, {0, 0}};
  const auto told = [](Compare&& call, int64_t place, int64_t got, int64_t low, int64_t high) {
    const gpu::ErrorWord e = call.run_device().error();
    const bool same = e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == place && e.got == got &&
                      e.low == low && e.high == high;
    if (!CHECK(same)) {
      std::fprintf(stderr, "  kind %d, place %lld, got %lld, expected %lld to %lld\n", e.kind, (long long)e.place,
                   (long long)e.got, (long long)e.low, (long long)e.high);
    }
  };
  const auto ragged = [&](std::vector<int32_t> queries, std::vector<int32_t> keys, std::vector<int32_t> prefix) {
    Data d = data_of(c);
    if (!queries.empty()) d.query_offsets = queries;
    if (!keys.empty()) d.key_offsets = keys;
    Case with = c;
    with.prefix = prefix;
    return contiguous(with, d);
  };
  told(ragged({1, 2, 4}, {}, {}), 0, 1, 0, 0);
  told(ragged({0, 5, 4}, {}, {}), 1, 5, 0, 4);
  told(ragged({0, 2, 1}, {}, {}), 2, 1, 2, 4);
  told(ragged({0, 2, -7}, {}, {}), 2, -7, 2, 4);
  told(ragged({}, {1, 40, 73}, {}), 0, 1, 0, 0);
  told(ragged({}, {0, 80, 73}, {}), 1, 80, 0, 73);
  told(ragged({}, {0, 40, -73}, {}), 2, -73, 40, 73);
  told(ragged({}, {}, {0, -1}), 1, -1, 0, INT32_MAX);
  const Data d = data_of(c);
  const auto broken = [&](const auto& change) {
    Pages<uint16_t> pages(c, d, 16);
    change(pages);
    return paged(c, d, pages, false);
  };
  using P = Pages<uint16_t>;
  told(broken([](P& p) { p.table[4] = -5; }), 4, -5, 0, P(c, d, 16).blocks - 1);
  told(broken([](P& p) { p.table[0] = 1 << 30; }), 0, 1 << 30, 0, P(c, d, 16).blocks - 1);
  told(broken([](P& p) { p.lengths[1] = 49; }), 1, 49, 2, 48);
  told(broken([](P& p) { p.lengths[1] = 1; }), 1, 1, 2, 48);
  told(broken([](P& p) { p.lengths[0] = -9; }), 0, -9, 2, 48);
}

}  // namespace

int main() {
  ThreadPool pool(2);
  cases(pool);
  masked_keys_do_nothing(pool);
  rows_past_the_last_sequence(pool);
  errors();
  return report();
}
