// kv_write and kv_copy.
#include <algorithm>
#include <random>

#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

ThreadPool pool(1);

template <class T>
std::vector<T> start(int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); i++) std::memset(&values[i], static_cast<int>(i % 60 + 1), sizeof(T));
  return values;
}

struct Case {
  int64_t blocks, heads, block, channels, rows;
};

template <class T>
std::vector<int64_t> cache_dims(const Case& c, bool transpose) {
  const int64_t wide = c.channels + (sizeof(T) == 1 ? 4 : 0);
  return transpose ? std::vector<int64_t>{c.blocks, c.heads, wide, c.block} : std::vector<int64_t>{c.blocks, c.heads, c.block, wide};
}

// Slots that may be named twice, and some -1.
std::vector<int32_t> slots_of(const Case& c) {
  std::mt19937 engine(3);
  std::vector<int32_t> slots(static_cast<size_t>(c.rows));
  for (int32_t& s : slots) s = static_cast<int32_t>(engine() % static_cast<uint32_t>(c.blocks * c.block + 1)) - 1;
  return slots;
}

template <class T>
Compare& write_to(Compare& compare, const Case& c, bool transpose, const std::vector<float>& x, const std::vector<int32_t>& slots) {
  const auto dims = cache_dims<T>(c, transpose);
  const int64_t size = dims[0] * dims[1] * dims[2] * dims[3];
  return compare.in(dims, start<T>(size)).in({c.rows, c.heads, c.channels}, x).in({c.rows}, slots).attr(transpose);
}

template <class T>
void write() {
  for (const Case& c : {Case{3, 2, 16, 8, 1}, Case{3, 2, 16, 8, 0}, Case{2, 1, 1, 1, 2}, Case{4, 5, 7, 33, 40}, Case{9, 3, 32, 64, 257}, Case{5, 2, 16, 130, 32}, Case{5, 2, 16, 130, 31}, Case{40, 2, 16, 3, 1500}, Case{0, 1, 16, 8, 0}}) {
    std::vector<float> x = normals(c.rows * c.heads * c.channels, 4);
    const auto slots = slots_of(c);
    for (const bool transpose : {false, true}) {
      Compare in_place("kv_write"), apart("kv_write");
      in_place.shifted(1);
      CHECK(write_to<T>(in_place, c, transpose, x, slots).out_in_place(0).run(pool).template same<T>());
      CHECK(write_to<T>(apart, c, transpose, x, slots).template out<T>(cache_dims<T>(c, transpose)).run(pool).template same<T>());
    }
  }
}

// Rows of codes that are not finite, tiny or zero; halves of the smallest step round to even.
void codes() {
  const Case c{2, 1, 3, 5, 6};
  const float inf = INFINITY;
  const std::vector<float> x = {0, 0, 0, 0, 0, 1e-31f, 0, 0, 0, 0, 1, inf, 2, 3, 4, 1, NAN, 2, 3, 4, 127, 0.5f, 1.5f, -2.5f, -127, 1e38f, -3e38f, 1, 2, 3};
  for (const bool transpose : {false, true}) {
    Compare compare("kv_write");
    CHECK(write_to<uint8_t>(compare, c, transpose, x, {5, 4, 3, 2, 1, 0}).out_in_place(0).run(pool).same<uint8_t>());
  }
}

void wrong_slots() {
  const Case c{2, 2, 3, 5, 2};
  const auto x = normals(20, 5);
  for (const int32_t wrong : {-2, 6, INT32_MAX, INT32_MIN}) {
    Compare bad("kv_write"), good("kv_write");
    write_to<float>(bad, c, false, x, {wrong, 4}).out_in_place(0).run_device();
    write_to<float>(good, c, false, x, {-1, 4}).out_in_place(0).run_device();
    const gpu::ErrorWord& e = bad.error();
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == 0 && e.got == wrong && e.low == -1 && e.high == 5);
    CHECK(same_bits(bad.device<float>(), good.device<float>()));
  }
}

template <class T>
void copy() {
  const std::vector<int32_t> chain = {0, 1, 1, 2, -1, 3, 3, -1, 4, 4, 4, 0}, none;
  for (const int64_t page : {0, 1, 3, 16, 1000}) {
    for (const auto& pairs : {chain, none}) {
      const auto n = static_cast<int64_t>(pairs.size() / 2);
      CHECK(Compare("kv_copy").in({5, page}, start<T>(5 * page)).in({n, 2}, pairs).out_in_place(0).run(pool).template same<T>());
      CHECK(Compare("kv_copy").shifted(1).in({5, page}, start<T>(5 * page)).in({n, 2}, pairs).out_in_place(0).run(pool).template same<T>());
      CHECK(Compare("kv_copy").in({5, page}, start<T>(5 * page)).in({n, 2}, pairs).template out<T>({5, page}).run(pool).template same<T>());
    }
  }
  CHECK(Compare("kv_copy").in({0, 8}, start<T>(0)).in({0, 2}, none).out_in_place(0).run(pool).template same<T>());
  for (const int32_t wrong : {-2, 5, INT32_MIN}) {
    Compare bad("kv_copy"), good("kv_copy");
    bad.in({5, 8}, start<T>(40)).in({2, 2}, std::vector<int32_t>{0, wrong, 1, 2}).out_in_place(0).run_device();
    good.in({5, 8}, start<T>(40)).in({2, 2}, std::vector<int32_t>{0, -1, 1, 2}).out_in_place(0).run_device();
    const gpu::ErrorWord& e = bad.error();
    CHECK(e.kind == static_cast<int32_t>(gpu::ErrorKind::kIndex) && e.place == 1 && e.got == wrong && e.low == -1 && e.high == 4);
    CHECK(same_bits(bad.device<T>(), good.device<T>()));
  }
}

}  // namespace

int main() {
  write<float>();
  write<uint16_t>();
  write<BF16>();
  write<uint8_t>();
  codes();
  wrong_slots();
  copy<float>();
  copy<uint16_t>();
  copy<uint8_t>();
  return report();
}
