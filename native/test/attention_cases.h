// Cases of attention, the loop in double that they are compared with, and calls of the kernels over every storage.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "formats/half.h"
#include "run_kernel.h"

namespace switchyard::test {

struct Case {
  const char* name;
  std::vector<std::pair<int, int>> lengths;  // queries, keys of each sequence
  int H, G, C, Cv;
  int causal, window;
  std::vector<int32_t> prefix;  // empty: operand absent
  struct Terms {
    bool slopes = false, sinks = false;
    int bias_size = 0, left = 0;  // 0: no bias
    float softcap = 0;
  } terms = {};
};

inline const Case kCases[] = {
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
    {"one key head, values narrower", {{20, 90}, {1, 40}}, 16, 1, 80, 48, 1, 0, {}},
    {"one key head, wide and odd", {{3, 70}, {1, 600}}, 20, 1, 148, 133, 1, 0, {}},
    {"compressed keys", {{2, 65}}, 5, 1, 576, 512, 1, 0, {}},
    {"slopes", {{70, 70}, {1, 600}}, 6, 2, 16, 16, 1, 0, {}, {.slopes = true}},
    {"slopes, all keys seen", {{33, 33}}, 3, 3, 20, 9, 0, 0, {}, {.slopes = true}},
    {"sinks", {{90, 90}, {1, 1300}, {2, 2}}, 8, 2, 16, 24, 1, 0, {}, {.sinks = true}},
    {"sinks and window", {{9, 200}}, 4, 1, 8, 8, 1, 16, {}, {.sinks = true}},
    {"sinks without keys", {{3, 0}, {2, 2}}, 2, 1, 8, 8, 0, 0, {}, {.sinks = true}},
    {"bias", {{70, 70}, {20, 300}}, 6, 3, 16, 16, 1, 0, {}, {.bias_size = 41, .left = 40}},
    {"bias on both sides", {{100, 100}, {7, 9}}, 4, 4, 24, 24, 0, 0, {}, {.bias_size = 101, .left = 37}},
    {"bias of one entry", {{5, 5}}, 2, 1, 8, 8, 1, 0, {}, {.bias_size = 1, .left = 0}},
    {"bias far off", {{66, 66}}, 2, 1, 8, 8, 0, 0, {}, {.bias_size = 5, .left = 900}},
    {"softcap", {{40, 90}}, 4, 2, 16, 16, 1, 0, {}, {.softcap = 1.5f}},
    {"every term", {{50, 50}, {1, 700}}, 6, 2, 17, 35, 1, 600, {9, 0}, {true, true, 71, 60, 3}},
};

struct Data {
  int64_t N = 0, M = 0, S = 0;
  std::vector<float> q, k, v, slopes, sinks, bias;
  std::vector<int32_t> query_offsets{0}, key_offsets{0};
  float scale = 0;
};

inline Data data_of(const Case& c) {
  Data d;
  for (auto [queries, keys] : c.lengths) {
    d.query_offsets.push_back(static_cast<int32_t>(d.N += queries));
    d.key_offsets.push_back(static_cast<int32_t>(d.M += keys));
    d.S++;
  }
  d.q = normals(d.N * c.H * c.C, 1, 2.0f);
  d.k = normals(d.M * c.G * c.C, 2);
  d.v = normals(d.M * c.G * c.Cv, 3);
  if (c.terms.slopes) d.slopes = normals(c.H, 4, 0.1f);
  if (c.terms.sinks) d.sinks = normals(c.H, 5, 3.0f);
  d.bias = normals(c.H * c.terms.bias_size, 6);
  d.scale = 1.0f / std::sqrt(static_cast<float>(c.C));
  return d;
}

inline bool sees(const Case& c, int64_t s, int64_t at, int64_t j) {
  if (!c.prefix.empty() && j < c.prefix[s]) return true;
  return (!c.causal || j <= at) && (c.window == 0 || j > at - c.window);
}

// A score as the softmax meets it; distance = key position - query position.
inline double changed(const Case& c, const Data& d, int64_t h, int64_t distance, double score) {
  const Case::Terms& t = c.terms;
  if (t.softcap > 0) score = t.softcap * std::tanh(score / t.softcap);
  if (t.slopes) score += d.slopes[h] * static_cast<double>(distance);
  if (t.bias_size > 0) score += d.bias[h * t.bias_size + std::clamp<int64_t>(distance + t.left, 0, t.bias_size - 1)];
  return score;
}

inline std::vector<float> reference(const Case& c, const Data& d) {
  std::vector<float> y(d.N * c.H * c.Cv, 0.0f);
  for (int64_t s = 0; s < d.S; s++) {
    const auto [queries, keys] = c.lengths[s];
    for (int64_t i = 0; i < queries; i++) {
      for (int64_t h = 0; h < c.H; h++) {
        const int64_t g = h / (c.H / c.G), row = (d.query_offsets[s] + i) * c.H + h;
        std::vector<double> p(keys, 0.0);
        double top = c.terms.sinks ? d.sinks[h] : -INFINITY, sum = 0;
        for (int64_t j = 0; j < keys; j++) {
          const int64_t at = (d.key_offsets[s] + j) * c.G + g;
          for (int64_t x = 0; x < c.C; x++) p[j] += double{d.q[row * c.C + x]} * d.k[at * c.C + x];
          p[j] = changed(c, d, h, j - (keys - queries + i), p[j] * d.scale);
          if (sees(c, s, keys - queries + i, j)) top = std::max(top, p[j]);
        }
        for (int64_t j = 0; j < keys; j++) sum += p[j] = sees(c, s, keys - queries + i, j) ? std::exp(p[j] - top) : 0;
        if (c.terms.sinks) sum += std::exp(d.sinks[h] - top);
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

// The optional operands and the attributes.
inline void add_terms(const Case& c, const Data& d, KernelCall& call) {
  c.prefix.empty() ? call.absent() : call.in({d.S}, c.prefix);
  c.terms.slopes ? call.in({c.H}, d.slopes) : call.absent();
  c.terms.sinks ? call.in({c.H}, d.sinks) : call.absent();
  c.terms.bias_size > 0 ? call.in({c.H, c.terms.bias_size}, d.bias) : call.absent();
  call.attr(double{d.scale}).attr(int64_t{c.causal}).attr(int64_t{c.window});
  call.attr(double{c.terms.softcap}).attr(int64_t{c.terms.left});
}

inline std::vector<float> attend(const Case& c, const Data& d, ThreadPool& pool, Tier tier) {
  std::vector<float> y;
  KernelCall call("attention");
  call.in({d.N, c.H, c.C}, d.q).in({d.M, c.G, c.C}, d.k).in({d.M, c.G, c.Cv}, d.v);
  call.in({d.S + 1}, d.query_offsets).in({d.S + 1}, d.key_offsets);
  add_terms(c, d, call);
  call.out({d.N, c.H, c.Cv}, y).run(pool, tier);
  return y;
}

// How a cache stores numbers; uint8_t: codes with their scales.
template <class T>
T stored(float x) {
  if constexpr (std::is_same_v<T, float>) return x;
  if constexpr (std::is_same_v<T, uint16_t>) return f32_to_f16(x);
  if constexpr (std::is_same_v<T, BF16>) return {f32_to_bf16(x)};
}

inline float scale_of(const float* x, int64_t n) {
  float top = 0;
  for (int64_t i = 0; i < n; i++) top = std::max(top, std::abs(x[i]));
  return top / 127;
}

inline int8_t code_of(float x, float scale) { return static_cast<int8_t>(std::nearbyint(x * (1 / scale))); }

// One row of a head into a page of a cache: channel after channel for keys, row after row for values.
template <class T>
void put_row(const float* x, int64_t n, int64_t size, int64_t place, bool keys, T* page) {
  const auto at = [&](int64_t i) { return keys ? i * size + place : place * n + i; };
  if constexpr (std::is_same_v<T, uint8_t>) {
    const float scale = scale_of(x, n);
    for (int64_t i = 0; i < n; i++) page[at(i)] = static_cast<uint8_t>(code_of(x[i], scale));
    std::memcpy(page + n * size + place * sizeof scale, &scale, sizeof scale);
  } else {
    for (int64_t i = 0; i < n; i++) page[at(i)] = stored<T>(x[i]);
  }
}

// What a cache makes of the rows of x.
template <class T>
void round_rows(std::vector<float>& x, int64_t n) {
  for (size_t row = 0; n > 0 && row < x.size() / n; row++) {
    float* at = x.data() + row * n;
    const float scale = scale_of(at, n);
    for (int64_t i = 0; i < n; i++) {
      if constexpr (std::is_same_v<T, uint8_t>) at[i] = code_of(at[i], scale) * scale;
      if constexpr (std::is_same_v<T, uint16_t>) at[i] = f16_to_f32(f32_to_f16(at[i]));
      if constexpr (std::is_same_v<T, BF16>) at[i] = bf16_to_f32(f32_to_bf16(at[i]));
    }
  }
}

// A paged cache: the keys of `d` in shuffled blocks whose other places hold NaN; blocks that no query sees are not mapped.
template <class T>
struct Pages {
  int64_t blocks = 3, width = 1, size, k_page, v_page;
  std::vector<int32_t> lengths, table;
  std::vector<T> k, v;

  Pages(const Case& c, const Data& d, int size) : size(size) {
    const int64_t extra = std::is_same_v<T, uint8_t> ? sizeof(float) : 0;
    k_page = (c.C + extra) * size, v_page = (c.Cv + extra) * size;
    for (auto [queries, keys] : c.lengths) {
      blocks += (keys + size - 1) / size;
      width = std::max<int64_t>(width, (keys + size - 1) / size);
    }
    std::vector<int32_t> order(blocks);
    table.assign(d.S * width, -1);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    k.resize(blocks * c.G * k_page), v.resize(blocks * c.G * v_page);
    for (std::vector<T>* x : {&k, &v}) std::fill_n(reinterpret_cast<uint8_t*>(x->data()), x->size() * sizeof(T), 0xff);  // NaN in every type
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
          const int64_t from = (d.key_offsets[s] + j) * c.G + g, page = int64_t{block} * c.G + g;
          put_row(d.k.data() + from * c.C, c.C, size, j % size, true, k.data() + page * k_page);
          put_row(d.v.data() + from * c.Cv, c.Cv, size, j % size, false, v.data() + page * v_page);
        }
      }
    }
  }
};

template <class T>
std::vector<float> attend_paged(const Case& c, const Data& d, int size, ThreadPool& pool, Tier tier, bool in_keys = false) {
  const Pages<T> pages(c, d, size);
  std::vector<float> y;
  KernelCall call("paged_attention");
  call.in({d.N, c.H, c.C}, d.q).in({pages.blocks, c.G, pages.k_page / size, size}, pages.k);
  in_keys ? call.absent() : call.in({pages.blocks, c.G, size, pages.v_page / size}, pages.v);
  call.in({d.S + 1}, d.query_offsets).in({d.S}, pages.lengths).in({d.S, pages.width}, pages.table);
  add_terms(c, d, call);
  call.attr(int64_t{in_keys ? c.Cv : 0});
  call.out({d.N, c.H, c.Cv}, y).run(pool, tier);
  return y;
}

inline bool pageable(const Case& c) {
  return std::all_of(c.lengths.begin(), c.lengths.end(), [](auto n) { return n.first <= n.second; });
}

inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double far = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); i++) {
    const double x = std::abs(double{a[i]} - b[i]);
    far = x <= far ? far : x;  // NaN counts as far
  }
  return far;
}

}  // namespace switchyard::test
