// attention and paged_attention against a loop in double, on every tier; bits against threads, batches, chunks, pages.
// Arguments: `--bench` prints figures of a prompt and of decode steps over every kind of cache.
#include <algorithm>
#include <cmath>

#include "attention_cases.h"
#include "check.h"
#include "clock.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

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

      for (int size : {16, 48, 64}) {
        if (!pageable(c)) continue;
        same = same_bits(y, attend_paged<float>(c, d, size, one, tier)) &&
               same_bits(y, attend_paged<float>(c, d, size, four, tier));
        if (!CHECK(same)) std::fprintf(stderr, "  paged by %d: %s, %s\n", size, c.name, tier_name(tier));
      }
    }
  }
}

// A cache of 16-bit floats gives the bits of a cache that holds the rounded values as f32.
template <class T>
void rounded_cache(const char* name, ThreadPool& one, ThreadPool& four) {
  for (const Case& c : kCases) {
    if (!pageable(c)) continue;
    Data d = data_of(c);
    round_rows<T>(d.k, c.C), round_rows<T>(d.v, c.Cv);
    for (Tier tier : present_tiers()) {
      const std::vector<float> y = attend(c, d, four, tier);
      const bool same = same_bits(attend_paged<T>(c, d, 16, four, tier), y) &&
                        same_bits(attend_paged<T>(c, d, 32, one, tier), y);
      if (!CHECK(same)) std::fprintf(stderr, "  %s cache: %s, %s\n", name, c.name, tier_name(tier));
    }
  }
}

// A cache of codes against the loop over what the codes stand for.
void coded_cache(ThreadPool& one, ThreadPool& two, ThreadPool& four) {
  for (const Case& c : kCases) {
    if (!pageable(c)) continue;
    const Data d = data_of(c);
    Data rounded = d;
    round_rows<uint8_t>(rounded.k, c.C), round_rows<uint8_t>(rounded.v, c.Cv);
    const std::vector<float> expected = reference(c, rounded);
    for (Tier tier : present_tiers()) {
      const std::vector<float> y = attend_paged<uint8_t>(c, d, 32, one, tier);
      if (!CHECK(distance(y, expected) < 1e-5)) {
        std::fprintf(stderr, "  codes: %s, %s: %g\n", c.name, tier_name(tier), distance(y, expected));
      }
      const bool same = same_bits(y, attend_paged<uint8_t>(c, d, 48, two, tier)) &&
                        same_bits(y, attend_paged<uint8_t>(c, d, 16, four, tier));
      if (!CHECK(same)) std::fprintf(stderr, "  codes, threads: %s, %s\n", c.name, tier_name(tier));
    }
  }
}

// Values that are the first channels of their keys, in every storage: the bits of a batch that holds them on their own.
template <class T>
void values_in_keys(const char* name, ThreadPool& one, ThreadPool& four) {
  for (const Case& c : kCases) {
    if (!pageable(c) || c.Cv > c.C) continue;
    Data d = data_of(c);
    const auto begin_of_keys = [&](Data& of) {
      for (int64_t row = 0; row < d.M * c.G; row++) std::copy_n(&of.k[row * c.C], c.Cv, &of.v[row * c.Cv]);
    };
    begin_of_keys(d);
    Data rounded = d;
    round_rows<T>(rounded.k, c.C);
    begin_of_keys(rounded);
    const std::vector<float> expected = reference(c, rounded);
    for (Tier tier : present_tiers()) {
      const std::vector<float> y = attend_paged<T>(c, d, 32, one, tier, true);
      if (!CHECK(distance(y, expected) < 1e-5)) {
        std::fprintf(stderr, "  values in keys, %s: %s, %s: %g\n", name, c.name, tier_name(tier), distance(y, expected));
      }
      bool same = same_bits(y, attend_paged<T>(c, d, 48, four, tier, true));
      if (!std::is_same_v<T, uint8_t>) same = same && same_bits(y, attend(c, rounded, four, tier));
      if (!CHECK(same)) std::fprintf(stderr, "  values in keys, bits, %s: %s, %s\n", name, c.name, tier_name(tier));
    }
  }
}

// Decode steps of 1 to 17 heads on one, over more than a chunk, in every storage: the widths of the tiles, alone and
// beside another sequence, have the bits of a prompt's last row.
template <class T>
void steps(const char* name, ThreadPool& one, ThreadPool& four) {
  for (int heads : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17}) {
    const Case prompt{"prompt", {{40, 600}}, heads, 1, 24, 48, 1, 0, {}};
    const Data all = data_of(prompt);
    Case step = prompt, batch = prompt;
    step.lengths = {{1, 600}};
    batch.lengths = {{1, 600}, {1, 33}};
    Data last = data_of(step), two = data_of(batch);
    const size_t row = size_t(heads) * prompt.C, out = size_t(heads) * prompt.Cv;
    last.k = all.k, last.v = all.v;
    std::copy_n(all.q.end() - row, row, last.q.begin());
    std::copy_n(all.q.end() - row, row, two.q.begin());
    std::copy(all.k.begin(), all.k.end(), two.k.begin());
    std::copy(all.v.begin(), all.v.end(), two.v.begin());
    for (Tier tier : present_tiers()) {
      const std::vector<float> whole = attend_paged<T>(prompt, all, 32, four, tier);
      const std::vector<float> expected(whole.end() - out, whole.end());
      std::vector<float> beside = attend_paged<T>(batch, two, 32, one, tier);
      beside.resize(out);
      const bool same = same_bits(expected, attend_paged<T>(step, last, 32, one, tier)) &&
                        same_bits(expected, attend_paged<T>(step, last, 32, four, tier)) && same_bits(expected, beside);
      if (!CHECK(same)) std::fprintf(stderr, "  steps: %s, %d heads, %s\n", name, heads, tier_name(tier));
    }
  }
}

// kv_write leaves what Pages holds.
template <class T>
void writes(const char* name, ThreadPool& pool) {
  Case c{"writes", {{70, 70}}, 3, 3, 21, 40, 1, 0, {}};
  const Data d = data_of(c);
  const int size = 32;
  const Pages<T> pages(c, d, size);
  std::vector<int32_t> slots;
  for (int64_t j = 0; j < d.M; j++) slots.push_back(pages.table[j / size] * size + j % size);
  for (Tier tier : present_tiers()) {
    for (bool keys : {true, false}) {
      const int64_t n = keys ? c.C : c.Cv, stride = (keys ? pages.k_page : pages.v_page) / size;
      const std::vector<T>& expected = keys ? pages.k : pages.v;
      std::vector<T> empty(expected.size()), got;
      std::memset(empty.data(), 0xff, empty.size() * sizeof(T));
      const std::vector<int64_t> shape =
          keys ? std::vector<int64_t>{pages.blocks, c.G, stride, size} : std::vector<int64_t>{pages.blocks, c.G, size, stride};
      KernelCall call("kv_write");
      call.in(shape, empty).in({d.M, c.G, n}, keys ? d.k : d.v).in({d.M}, slots).out(shape, got);
      call.attr(int64_t{keys}).run(pool, tier);
      const bool same = std::memcmp(got.data(), expected.data(), got.size() * sizeof(T)) == 0;
      if (!CHECK(same)) std::fprintf(stderr, "  kv_write: %s, %s\n", name, tier_name(tier));
    }
  }
}

// Prefill in pieces, and each sequence alone, give the bits of the whole batch; a prefix comes in one piece.
void pieces(ThreadPool& pool) {
  const Case whole{"pieces", {{700, 700}, {90, 90}, {31, 40}}, 6, 2, 16, 24, 1, 0, {}};
  for (int round = 0; round < 4; round++) {
    Case c = whole;
    c.window = round % 2 * 100;
    if (round > 1) c.prefix = {150, 90, 33}, c.terms = {true, true, 301, 290, 4};
    const Data d = data_of(c);
    for (Tier tier : present_tiers()) {
      const std::vector<float> y = attend(c, d, pool, tier);
      bool same = true;
      for (int64_t s = 0; s < d.S; s++) {
        const auto [queries, keys] = c.lengths[s];
        const int64_t first = c.prefix.empty() ? 1 : std::max(1, c.prefix[s] - (keys - queries));
        for (int64_t from = 0, step = first; from < queries; from += step, step = from < 2 * first ? 1 : step * 3 + 1) {
          const int64_t count = std::min<int64_t>(step, queries - from), seen = keys - queries + from + count;
          Case part = c;
          part.lengths = {{static_cast<int>(count), static_cast<int>(seen)}};
          if (!c.prefix.empty()) part.prefix = {c.prefix[s]};
          Data piece = data_of(part);
          const int64_t q_row = (d.query_offsets[s] + from) * c.H, k_row = d.key_offsets[s] * c.G;
          piece.q.assign(d.q.begin() + q_row * c.C, d.q.begin() + (q_row + count * c.H) * c.C);
          piece.k.assign(d.k.begin() + k_row * c.C, d.k.begin() + (k_row + seen * c.G) * c.C);
          piece.v.assign(d.v.begin() + k_row * c.Cv, d.v.begin() + (k_row + seen * c.G) * c.Cv);
          for (const std::vector<float>& got :
               {attend(part, piece, pool, tier), attend_paged<float>(part, piece, 32, pool, tier)}) {
            same &= std::memcmp(got.data(), y.data() + q_row * c.Cv, got.size() * sizeof(float)) == 0;
          }
        }
      }
      if (!CHECK(same)) std::fprintf(stderr, "  pieces: round %d, %s\n", round, tier_name(tier));
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

// A query that is not finite gives NaN, however many chunks its keys fill, and leaves its neighbours alone; so does a
// row of codes that stands for no finite numbers.
void nan_stays_visible(ThreadPool& pool) {
  const Case c{"nan", {{2, 1100}}, 2, 2, 16, 16, 1, 0, {}};
  const Data clean = data_of(c);
  Data d = clean;
  for (int x = 0; x < c.C; x++) d.q[x] = NAN;
  for (Tier tier : present_tiers()) {
    const std::vector<float> y = attend(c, clean, pool, tier), got = attend(c, d, pool, tier);
    CHECK(std::all_of(got.begin(), got.begin() + c.Cv, [](float v) { return std::isnan(v); }));
    CHECK(std::memcmp(got.data() + c.Cv, y.data() + c.Cv, (y.size() - c.Cv) * sizeof(float)) == 0);
  }
  const std::vector<float> rows = {1, -2, INFINITY, 4, 0, 0, 0, 0, 3, NAN, 0, 1, 127, -127, 0.4f, 63.6f};
  for (Tier tier : present_tiers()) {
    std::vector<uint8_t> got;
    KernelCall call("kv_write");
    call.in({1, 1, 16, 8}, std::vector<uint8_t>(128)).in({4, 1, 4}, rows).in({4}, std::vector<int32_t>{0, 1, 2, 3});
    call.out({1, 1, 16, 8}, got).attr(int64_t{0}).run(pool, tier);
    float scales[4];
    std::memcpy(scales, got.data() + 64, sizeof scales);
    CHECK(std::isnan(scales[0]) && scales[1] == 0 && std::isnan(scales[2]) && scales[3] == 1);
    const int8_t expected[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 127, -127, 0, 64};
    CHECK(std::memcmp(got.data(), expected, sizeof expected) == 0);
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
      call.attr(1.0).attr(int64_t{1}).attr(int64_t{0}).attr(0.0).attr(int64_t{0}).run(pool, best_tier());
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
      call.in({2, heads, 8}, normals(16 * heads, 1)).in({3, 2, 8, 16}, normals(768, 2)).in({3, 2, 16, 8}, normals(768, 3));
      call.in({2}, std::vector<int32_t>{0, 2}).in({1}, std::vector<int32_t>{length}).in({1, 2}, table).absent();
      call.out({2, heads, 8}, y).attr(1.0).attr(int64_t{1}).attr(int64_t{0}).attr(0.0).attr(int64_t{0}).attr(int64_t{0}).run(pool, best_tier());
    });
  };
  CHECK(paged(28, {2, 0}, 4).empty());
  CHECK(paged(3, {2, -1}, 4).empty());
  CHECK(holds(paged(28, {2, 3}, 4), "block 3 in place 1 of sequence 0"));
  CHECK(holds(paged(28, {-1, 0}, 4), "block -1 in place 0"));
  CHECK(holds(paged(33, {2, 0}, 4), "KV length 33"));
  CHECK(holds(paged(1, {2, 0}, 4), "KV length 1"));
  CHECK(holds(paged(28, {2, 0}, 3), "does not divide"));
  const auto by_places = [&](int64_t size) {
    return error_of([&] {
      std::vector<float> y;
      KernelCall call("paged_attention");
      call.in({1, 1, 8}, normals(8, 1)).in({1, 1, 8, size}, normals(8 * size, 2)).in({1, 1, size, 8}, normals(8 * size, 3));
      call.in({2}, std::vector<int32_t>{0, 1}).in({1}, std::vector<int32_t>{1}).in({1, 1}, std::vector<int32_t>{0}).absent();
      call.out({1, 1, 8}, y).attr(1.0).attr(int64_t{1}).attr(int64_t{0}).attr(0.0).attr(int64_t{0}).attr(int64_t{0}).run(pool, best_tier());
    });
  };
  CHECK(by_places(32).empty());
  const auto by_values = [&](int64_t values) {
    return error_of([&] {
      std::vector<float> y;
      KernelCall call("paged_attention");
      call.in({1, 1, 8}, normals(8, 1)).in({1, 1, 8, 16}, normals(128, 2)).absent();
      call.in({2}, std::vector<int32_t>{0, 1}).in({1}, std::vector<int32_t>{1}).in({1, 1}, std::vector<int32_t>{0}).absent();
      call.out({1, 1, values}, y).attr(1.0).attr(int64_t{1}).attr(int64_t{0}).attr(0.0).attr(int64_t{0}).attr(values);
      call.run(pool, best_tier());
    });
  };
  CHECK(by_values(8).empty() && by_values(1).empty());
  CHECK(holds(by_values(9), "beyond those of the keys") && holds(by_values(0), "beyond those of the keys"));
  CHECK(holds(by_places(24), "no multiple of 16"));
}

template <class T>
void bench_step(const char* name, int threads, const Case& c) {
  ThreadPool pool(threads);
  const Data d = data_of(c);
  const Pages<T> pages(c, d, 32);
  std::vector<float> y;
  KernelCall call("paged_attention");
  call.in({d.N, c.H, c.C}, d.q).in({pages.blocks, c.G, pages.k_page / 32, 32}, pages.k);
  call.in({pages.blocks, c.G, 32, pages.v_page / 32}, pages.v);
  call.in({d.S + 1}, d.query_offsets).in({d.S}, pages.lengths).in({d.S, pages.width}, pages.table);
  add_terms(c, d, call);
  call.attr(int64_t{0});
  call.out({d.N, c.H, c.Cv}, y);
  call.run_under(pool, best_tier(), [&](const auto& run) {
    const double ms = median_ms(run, 30);
    const double bytes = double(c.lengths[0].second) * c.G * (pages.k_page + pages.v_page) / 32 * sizeof(T);
    std::printf("step %-5s %d threads, %d keys, %d/%d heads: %8.3f ms, %6.1f GB/s\n", name, threads, c.lengths[0].second,
                c.H, c.G, ms, bytes / ms / 1e6);
  });
}

void bench() {
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    const Case c{"prefill", {{512, 512}}, 32, 8, 128, 128, 1, 0, {}};
    const Data d = data_of(c);
    std::vector<float> y;
    KernelCall call("attention");
    call.in({d.N, c.H, c.C}, d.q).in({d.M, c.G, c.C}, d.k).in({d.M, c.G, c.Cv}, d.v);
    call.in({d.S + 1}, d.query_offsets).in({d.S + 1}, d.key_offsets);
    add_terms(c, d, call);
    call.out({d.N, c.H, c.Cv}, y);
    double pairs = 0;  // of a query row and a key it sees
    for (int i = 0; i < c.lengths[0].first; i++) pairs += c.lengths[0].second - i;
    for (Tier tier : {Tier::kAvx2, best_tier()}) {
      if (tier > best_tier()) continue;
      call.run_under(pool, tier, [&](const auto& run) {
        const double ms = median_ms(run, 30);
        std::printf("prefill %d threads, %s: %8.3f ms, %6.1f GFLOP/s\n", threads, tier_name(tier), ms,
                    pairs * c.H * (c.C + c.Cv) * 2 / ms / 1e6);
      });
    }
    for (auto [H, G] : {std::pair{32, 8}, {32, 4}, {16, 16}}) {
      const Case step{"decode", {{1, 16384}}, H, G, 128, 128, 1, 0, {}};
      bench_step<float>("f32", threads, step);
      bench_step<uint16_t>("f16", threads, step);
      bench_step<BF16>("bf16", threads, step);
      bench_step<uint8_t>("int8", threads, step);
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
  rounded_cache<uint16_t>("f16", one, four);
  rounded_cache<BF16>("bf16", one, four);
  coded_cache(one, two, four);
  steps<float>("f32", one, four);
  steps<uint16_t>("f16", one, four);
  steps<BF16>("bf16", one, four);
  steps<uint8_t>("int8", one, four);
  values_in_keys<float>("f32", one, four);
  values_in_keys<uint16_t>("f16", one, four);
  values_in_keys<BF16>("bf16", one, four);
  values_in_keys<uint8_t>("int8", one, four);
  writes<float>("f32", two);
  writes<uint16_t>("f16", two);
  writes<BF16>("bf16", two);
  writes<uint8_t>("int8", two);
  pieces(four);
  masked_keys_do_nothing(two);
  nan_stays_visible(two);
  rows_past_the_last_sequence(two);
  errors(two);
  return report();
}
