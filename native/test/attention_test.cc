// attention and paged_attention against a loop in double, on every tier; bits against threads, batches, chunks, pages.
// Arguments: `--bench` prints prefill and decode figures.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "check.h"
#include "clock.h"
#include "formats/half.h"
#include "run_kernel.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

struct Case {
  const char* name;
  std::vector<std::pair<int, int>> lengths;  // queries, keys of each sequence
  int H, G, C, Cv;
  int causal, window;
  std::vector<int32_t> prefix;  // empty: operand absent
};

const Case kCases[] = {
    {"one token", {{1, 1}}, 1, 1, 4, 4, 1, 0, {}},
    {"causal prefill", {{70, 70}}, 2, 2, 16, 16, 1, 0, {}},
    {"bidirectional", {{33, 33}}, 3, 1, 8, 8, 0, 0, {}},
    {"cross attention", {{5, 130}, {7, 64}}, 2, 1, 16, 16, 0, 0, {}},
    {"window", {{150, 150}}, 2, 1, 16, 16, 1, 20, {}},
    {"window of one", {{66, 66}}, 1, 1, 5, 3, 1, 1, {}},
    {"window without causal", {{40, 40}}, 2, 2, 8, 8, 0, 7, {}},
    {"window wider than the keys", {{40, 90}}, 2, 2, 8, 8, 1, 1000, {}},
    {"window over chunks", {{3, 1700}, {40, 1300}}, 2, 1, 8, 8, 1, 530, {}},
    {"prefix", {{50, 50}, {20, 100}}, 2, 1, 8, 8, 1, 0, {17, 100}},
    {"prefix and window", {{90, 220}, {4, 9}}, 2, 1, 8, 8, 1, 30, {70, 0}},
    {"prefix longer than the keys", {{9, 9}}, 2, 1, 8, 8, 1, 2, {1000}},
    {"grouped heads", {{30, 80}}, 12, 2, 16, 16, 1, 0, {}},
    {"seven heads on one", {{10, 20}}, 7, 1, 16, 16, 1, 0, {}},
    {"odd sizes", {{13, 77}}, 3, 3, 17, 35, 1, 0, {}},
    {"wide heads", {{9, 70}}, 2, 1, 96, 128, 1, 0, {}},
    {"ragged with empty sequences", {{0, 0}, {5, 5}, {0, 12}, {1, 300}, {0, 0}, {64, 64}, {1, 1}}, 4, 2, 16, 16, 1, 0, {}},
    {"more queries than keys", {{10, 4}}, 2, 1, 8, 8, 1, 0, {}},
    {"queries without keys", {{3, 0}, {2, 2}}, 2, 1, 8, 8, 0, 0, {}},
    {"decode over chunks", {{1, 2000}}, 9, 3, 16, 16, 1, 0, {}},
    {"some decodes over chunks", {{1, 1025}, {1, 512}, {1, 513}, {1, 30}}, 2, 1, 16, 16, 1, 0, {}},
    {"prefill over chunks", {{90, 1100}}, 2, 1, 16, 16, 1, 0, {}},
    {"130 heads on one", {{3, 70}}, 130, 1, 8, 8, 1, 0, {}},
    {"no token", {{0, 0}}, 2, 1, 8, 8, 1, 0, {}},
};

struct Data {
  int64_t N = 0, M = 0, S = 0;
  std::vector<float> q, k, v;
  std::vector<int32_t> query_offsets{0}, key_offsets{0};
  float scale = 0;
};

Data data_of(const Case& c) {
  Data d;
  for (auto [queries, keys] : c.lengths) {
    d.query_offsets.push_back(static_cast<int32_t>(d.N += queries));
    d.key_offsets.push_back(static_cast<int32_t>(d.M += keys));
    d.S++;
  }
  d.q = normals(d.N * c.H * c.C, 1, 2.0f);
  d.k = normals(d.M * c.G * c.C, 2);
  d.v = normals(d.M * c.G * c.Cv, 3);
  d.scale = 1.0f / std::sqrt(static_cast<float>(c.C));
  return d;
}

bool sees(const Case& c, int64_t s, int64_t at, int64_t j) {
  if (!c.prefix.empty() && j < c.prefix[s]) return true;
  return (!c.causal || j <= at) && (c.window == 0 || j > at - c.window);
}

std::vector<float> reference(const Case& c, const Data& d) {
  std::vector<float> y(d.N * c.H * c.Cv, 0.0f);
  for (int64_t s = 0; s < d.S; s++) {
    const auto [queries, keys] = c.lengths[s];
    for (int64_t i = 0; i < queries; i++) {
      for (int64_t h = 0; h < c.H; h++) {
        const int64_t g = h / (c.H / c.G), row = (d.query_offsets[s] + i) * c.H + h;
        std::vector<double> p(keys, 0.0);
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < keys; j++) {
          const int64_t at = (d.key_offsets[s] + j) * c.G + g;
          for (int64_t x = 0; x < c.C; x++) p[j] += double{d.q[row * c.C + x]} * d.k[at * c.C + x];
          p[j] *= d.scale;
          if (sees(c, s, keys - queries + i, j)) top = std::max(top, p[j]);
        }
        for (int64_t j = 0; j < keys; j++) sum += p[j] = sees(c, s, keys - queries + i, j) ? std::exp(p[j] - top) : 0;
        for (int64_t x = 0; x < c.Cv && sum > 0; x++) {
          double o = 0;
          for (int64_t j = 0; j < keys; j++) o += p[j] / sum * d.v[((d.key_offsets[s] + j) * c.G + g) * c.Cv + x];
          y[row * c.Cv + x] = static_cast<float>(o);
        }
      }
    }
  }
  return y;
}

std::vector<float> attend(const Case& c, const Data& d, ThreadPool& pool, Tier tier) {
  std::vector<float> y;
  KernelCall call("attention");
  call.in({d.N, c.H, c.C}, d.q).in({d.M, c.G, c.C}, d.k).in({d.M, c.G, c.Cv}, d.v);
  call.in({d.S + 1}, d.query_offsets).in({d.S + 1}, d.key_offsets);
  c.prefix.empty() ? call.absent() : call.in({d.S}, c.prefix);
  call.out({d.N, c.H, c.Cv}, y).attr(double{d.scale}).attr(int64_t{c.causal}).attr(int64_t{c.window}).run(pool, tier);
  return y;
}

// The same keys in shuffled blocks of a cache whose other places hold NaN; blocks that no query sees are not mapped.
template <class T>
std::vector<float> attend_paged(const Case& c, const Data& d, int size, ThreadPool& pool, Tier tier) {
  int64_t blocks = 3, width = 1;
  for (auto [queries, keys] : c.lengths) {
    blocks += (keys + size - 1) / size;
    width = std::max<int64_t>(width, (keys + size - 1) / size);
  }
  std::vector<int32_t> order(blocks), lengths, table(d.S * width, -1);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  const T nan = std::is_same_v<T, float> ? T(NAN) : T(0x7e00);
  std::vector<T> k(blocks * c.G * size * c.C, nan), v(blocks * c.G * size * c.Cv, nan);
  const auto put = [](T& to, float x) {
    if constexpr (std::is_same_v<T, float>) to = x;
    else to = f32_to_f16(x);
  };
  int64_t next = 0;
  for (int64_t s = 0; s < d.S; s++) {
    const auto [queries, keys] = c.lengths[s];
    lengths.push_back(keys);
    for (int64_t j = 0; j < keys; j++) {
      bool seen = false;
      for (int64_t i = 0; i < queries; i++) seen |= sees(c, s, keys - queries + i, j);
      if (!seen) continue;
      int32_t& block = table[s * width + j / size];
      if (block < 0) block = order[next++];
      for (int64_t g = 0; g < c.G; g++) {
        const int64_t from = (d.key_offsets[s] + j) * c.G + g, to = (int64_t{block} * c.G + g) * size + j % size;
        for (int64_t x = 0; x < c.C; x++) put(k[to * c.C + x], d.k[from * c.C + x]);
        for (int64_t x = 0; x < c.Cv; x++) put(v[to * c.Cv + x], d.v[from * c.Cv + x]);
      }
    }
  }
  std::vector<float> y;
  KernelCall call("paged_attention");
  call.in({d.N, c.H, c.C}, d.q).in({blocks, c.G, size, c.C}, k).in({blocks, c.G, size, c.Cv}, v);
  call.in({d.S + 1}, d.query_offsets).in({d.S}, lengths).in({d.S, width}, table);
  c.prefix.empty() ? call.absent() : call.in({d.S}, c.prefix);
  call.out({d.N, c.H, c.Cv}, y).attr(double{d.scale}).attr(int64_t{c.causal}).attr(int64_t{c.window}).run(pool, tier);
  return y;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double far = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); i++) {
    const double x = std::abs(double{a[i]} - b[i]);
    far = x <= far ? far : x;  // NaN counts as far
  }
  return far;
}

void against_the_loop(ThreadPool& one, ThreadPool& two, ThreadPool& four) {
  for (const Case& c : kCases) {
    const Data d = data_of(c);
    const std::vector<float> expected = reference(c, d);
    for (Tier tier : present_tiers()) {
      const std::vector<float> y = attend(c, d, one, tier);
      if (!CHECK(distance(y, expected) < 1e-5)) {
        std::fprintf(stderr, "  %s, %s: %g\n", c.name, tier_name(tier), distance(y, expected));
      }
      bool same = same_bits(y, attend(c, d, two, tier)) && same_bits(y, attend(c, d, four, tier));
      if (!CHECK(same)) std::fprintf(stderr, "  threads: %s, %s\n", c.name, tier_name(tier));

      const bool pageable = std::all_of(c.lengths.begin(), c.lengths.end(), [](auto n) { return n.first <= n.second; });
      for (int size : {1, 16, 24}) {
        if (!pageable || (size == 1 && d.M > 400)) continue;
        same = same_bits(y, attend_paged<float>(c, d, size, one, tier)) &&
               same_bits(y, attend_paged<float>(c, d, size, four, tier));
        if (!CHECK(same)) std::fprintf(stderr, "  paged by %d: %s, %s\n", size, c.name, tier_name(tier));
      }
    }
  }
}

// A cache of halves gives the bits of a cache that holds the rounded values as f32.
void half_cache(ThreadPool& pool) {
  for (const Case& c : kCases) {
    if (std::any_of(c.lengths.begin(), c.lengths.end(), [](auto n) { return n.first > n.second; })) continue;
    Data d = data_of(c);
    for (std::vector<float>* x : {&d.k, &d.v}) {
      for (float& value : *x) value = f16_to_f32(f32_to_f16(value));
    }
    for (Tier tier : present_tiers()) {
      const bool same = same_bits(attend_paged<uint16_t>(c, d, 16, pool, tier), attend(c, d, pool, tier));
      if (!CHECK(same)) std::fprintf(stderr, "  half cache: %s, %s\n", c.name, tier_name(tier));
    }
  }
}

// Prefill in pieces, and each sequence alone, give the bits of the whole batch.
void pieces(ThreadPool& pool) {
  const Case whole{"pieces", {{700, 700}, {90, 90}, {31, 40}}, 6, 2, 16, 24, 1, 0, {}};
  for (int window : {0, 100}) {
    Case c = whole;
    c.window = window;
    const Data d = data_of(c);
    for (Tier tier : present_tiers()) {
      const std::vector<float> y = attend(c, d, pool, tier);
      bool same = true;
      for (int64_t s = 0; s < d.S; s++) {
        const auto [queries, keys] = c.lengths[s];
        for (int64_t from = 0, step = 1; from < queries; from += step, step = step * 3 + 1) {
          const int64_t count = std::min<int64_t>(step, queries - from), seen = keys - queries + from + count;
          Case part = c;
          part.lengths = {{static_cast<int>(count), static_cast<int>(seen)}};
          Data piece = data_of(part);
          const int64_t q_row = (d.query_offsets[s] + from) * c.H, k_row = d.key_offsets[s] * c.G;
          piece.q.assign(d.q.begin() + q_row * c.C, d.q.begin() + (q_row + count * c.H) * c.C);
          piece.k.assign(d.k.begin() + k_row * c.C, d.k.begin() + (k_row + seen * c.G) * c.C);
          piece.v.assign(d.v.begin() + k_row * c.Cv, d.v.begin() + (k_row + seen * c.G) * c.Cv);
          const std::vector<float> got = attend(part, piece, pool, tier);
          same &= std::memcmp(got.data(), y.data() + q_row * c.Cv, got.size() * sizeof(float)) == 0;
        }
      }
      if (!CHECK(same)) std::fprintf(stderr, "  pieces: window %d, %s\n", window, tier_name(tier));
    }
  }
}

// What a row does not see cannot reach it, even as NaN or infinity.
void masked_keys_do_nothing(ThreadPool& pool) {
  const Case c{"masked", {{80, 80}}, 6, 2, 16, 16, 1, 0, {}};
  const Data clean = data_of(c);
  for (Tier tier : present_tiers()) {
    const std::vector<float> y = attend(c, clean, pool, tier);
    for (int64_t poisoned : {1, 37, 63, 64, 79}) {
      Data d = clean;
      for (int64_t i = poisoned * c.G * c.C; i < (poisoned + 1) * c.G * c.C; i++) d.k[i] = i % 2 != 0 ? NAN : INFINITY;
      for (int64_t i = poisoned * c.G * c.Cv; i < (poisoned + 1) * c.G * c.Cv; i++) d.v[i] = i % 2 != 0 ? NAN : INFINITY;
      const std::vector<float> got = attend(c, d, pool, tier);
      const size_t before = poisoned * c.H * c.Cv;
      CHECK(std::memcmp(got.data(), y.data(), before * sizeof(float)) == 0);
      CHECK(std::all_of(got.begin() + before, got.end(), [](float v) { return std::isnan(v); }));
    }
  }
}

void rows_past_the_last_sequence(ThreadPool& pool) {
  const Case c{"padded", {{5, 5}}, 2, 1, 8, 8, 1, 0, {}};
  Data d = data_of(c);
  const std::vector<float> y = attend(c, d, pool, best_tier());
  d.N = 7;
  d.q.resize(d.N * c.H * c.C, NAN);
  const std::vector<float> got = attend(c, d, pool, best_tier());
  CHECK(std::memcmp(got.data(), y.data(), y.size() * sizeof(float)) == 0);
  CHECK(std::all_of(got.begin() + y.size(), got.end(), [](float v) { return v == 0; }));
}

void errors(ThreadPool& pool) {
  const auto ragged = [&](std::vector<int32_t> queries, std::vector<int32_t> keys, std::vector<int32_t> prefix) {
    return error_of([&] {
      std::vector<float> y;
      KernelCall call("attention");
      call.in({4, 2, 8}, normals(64, 1)).in({6, 1, 8}, normals(48, 2)).in({6, 1, 8}, normals(48, 3));
      call.in({3}, queries).in({3}, keys).in({2}, prefix).out({4, 2, 8}, y);
      call.attr(1.0).attr(int64_t{1}).attr(int64_t{0}).run(pool, best_tier());
    });
  };
  CHECK(ragged({0, 2, 4}, {0, 3, 6}, {0, 0}).empty());
  CHECK(holds(ragged({1, 2, 4}, {0, 3, 6}, {0, 0}), "query offset 0"));
  CHECK(holds(ragged({0, 3, 2}, {0, 3, 6}, {0, 0}), "query offset 2"));
  CHECK(holds(ragged({0, 2, 5}, {0, 3, 6}, {0, 0}), "query offset 2"));
  CHECK(holds(ragged({0, 2, 4}, {0, 7, 6}, {0, 0}), "key offset 1"));
  CHECK(holds(ragged({0, 2, 4}, {0, 3, 7}, {0, 0}), "key offset 2"));
  CHECK(holds(ragged({0, 2, 4}, {0, 3, -6}, {0, 0}), "key offset 2"));
  CHECK(holds(ragged({0, 2, 4}, {0, 3, 6}, {0, -1}), "prefix -1 for sequence 1"));

  const auto paged = [&](int32_t length, std::vector<int32_t> table, int64_t heads) {
    return error_of([&] {
      std::vector<float> y;
      KernelCall call("paged_attention");
      call.in({2, heads, 8}, normals(16 * heads, 1)).in({3, 2, 4, 8}, normals(192, 2)).in({3, 2, 4, 8}, normals(192, 3));
      call.in({2}, std::vector<int32_t>{0, 2}).in({1}, std::vector<int32_t>{length}).in({1, 2}, table).absent();
      call.out({2, heads, 8}, y).attr(1.0).attr(int64_t{1}).attr(int64_t{0}).run(pool, best_tier());
    });
  };
  CHECK(paged(7, {2, 0}, 4).empty());
  CHECK(paged(3, {2, -1}, 4).empty());
  CHECK(holds(paged(7, {2, 3}, 4), "block 3 in place 1 of sequence 0"));
  CHECK(holds(paged(7, {-1, 0}, 4), "block -1 in place 0"));
  CHECK(holds(paged(9, {2, 0}, 4), "KV length 9"));
  CHECK(holds(paged(1, {2, 0}, 4), "KV length 1"));
  CHECK(holds(paged(7, {2, 0}, 3), "does not divide"));
}

void bench() {
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    for (Tier tier : present_tiers()) {
      if (tier > Tier::kAvx512 && tier != Tier::kNeon) continue;
      const Case cases[] = {{"prefill", {{512, 512}}, 9, 3, 64, 64, 1, 0, {}}, {"decode", {{1, 1000}}, 9, 3, 64, 64, 1, 0, {}}};
      for (const Case& c : cases) {
        const Data d = data_of(c);
        std::vector<float> y;
        KernelCall call("attention");
        call.in({d.N, c.H, c.C}, d.q).in({d.M, c.G, c.C}, d.k).in({d.M, c.G, c.Cv}, d.v);
        call.in({d.S + 1}, d.query_offsets).in({d.S + 1}, d.key_offsets).absent();
        call.out({d.N, c.H, c.Cv}, y).attr(double{d.scale}).attr(int64_t{1}).attr(int64_t{0});
        double pairs = 0;  // of a query row and a key it sees
        for (int i = 0; i < c.lengths[0].first; i++) pairs += c.lengths[0].second - i;
        call.run_under(pool, tier, [&](const auto& run) {
          const double ms = median_ms(run, tier == Tier::kScalar ? 20 : 200);
          std::printf("%-8s %d threads, %-7s %8.3f ms, %6.1f GFLOP/s\n", c.name, threads, tier_name(tier), ms,
                      pairs * c.H * (c.C + c.Cv) * 2 / ms / 1e6);
        });
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  ThreadPool one(1), two(2), four(4);
  against_the_loop(one, two, four);
  half_cache(four);
  pieces(four);
  masked_keys_do_nothing(two);
  rows_past_the_last_sequence(two);
  errors(two);
  return report();
}
