// The wrappers of device/mma.h and device/async.h, each in a tiny kernel, against plain loops.
#include <vector>

#include "cuda/device/async.h"
#include "cuda/device/mma.h"
#include "formats/half.h"
#include "test/check.h"
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::cuda;

namespace {

template <class T>
struct DeviceArray : test::DeviceBytes {
  explicit DeviceArray(const std::vector<T>& from) : DeviceBytes(from.data(), static_cast<int64_t>(from.size() * sizeof(T))) {}
  T* at() const { return reinterpret_cast<T*>(data()); }
  std::vector<T> values(size_t n) const {
    std::vector<T> v(n);
    read(v.data());
    return v;
  }
};

// A small number, and one that differs for neighbours.
int digit(int i) { return (i * 7 + i / 16 * 3) % 11 - 5; }

template <bool kHalf>
__global__ void product_kernel(const uint16_t* a, const uint16_t* b, float* d) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const auto pair = [](const uint16_t* m, int at, int next) { return uint32_t{m[at]} | uint32_t{m[at + next]} << 16; };
  uint32_t af[4], bf[2];
  for (int i = 0; i < 4; i++) af[i] = pair(a, (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8, 1);
  for (int i = 0; i < 2; i++) bf[i] = pair(b, (2 * t + 8 * i) * 8 + g, 8);
  float df[4];
  for (int i = 0; i < 4; i++) df[i] = static_cast<float>(i);
  kHalf ? mma_f16(df, af, bf) : mma_bf16(df, af, bf);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = df[i] - static_cast<float>(i);
}

template <bool kHalf>
void check_product(const Launch& on) {
  std::vector<uint16_t> a(256), b(128);
  std::vector<float> d(128);
  for (int i = 0; i < 256; i++) a[i] = kHalf ? f32_to_f16(static_cast<float>(digit(i))) : f32_to_bf16(static_cast<float>(digit(i)));
  for (int i = 0; i < 128; i++) b[i] = kHalf ? f32_to_f16(static_cast<float>(digit(3 * i))) : f32_to_bf16(static_cast<float>(digit(3 * i)));
  const DeviceArray<uint16_t> da(a), db(b);
  const DeviceArray<float> dd(d);
  launch(product_kernel<kHalf>, 1, 32, 0, on, da.at(), db.at(), dd.at());
  check(cudaStreamSynchronize(on.stream));
  const auto got = dd.values(128);
  bool same = true;
  for (int r = 0; r < 16; r++) {
    for (int c = 0; c < 8; c++) {
      int sum = 0;
      for (int k = 0; k < 16; k++) sum += digit(r * 16 + k) * digit(3 * (k * 8 + c));
      same = same && got[r * 8 + c] == static_cast<float>(sum);
    }
  }
  CHECK(same);
}

template <int kMatrices, bool kTransposed>
__global__ void matrices_kernel(uint32_t* out) {
  SWITCHYARD_SHARED(shared);
  auto* values = reinterpret_cast<uint16_t*>(shared);
  for (int i = static_cast<int>(threadIdx.x); i < kMatrices * 64; i += 32) values[i] = static_cast<uint16_t>(i * 257);
  __syncthreads();
  uint32_t words[kMatrices];
  const uint16_t* row = values + threadIdx.x % (8 * kMatrices) * 8;
  kTransposed ? ldmatrix_transposed(words, row) : ldmatrix(words, row);
  for (int i = 0; i < kMatrices; i++) out[i * 32 + threadIdx.x] = words[i];
}

template <int kMatrices, bool kTransposed>
void check_matrices(const Launch& on) {
  const DeviceArray<uint32_t> out(std::vector<uint32_t>(kMatrices * 32));
  launch(matrices_kernel<kMatrices, kTransposed>, 1, 32, 1024, on, out.at());
  check(cudaStreamSynchronize(on.stream));
  const auto got = out.values(kMatrices * 32);
  bool same = true;
  for (int i = 0; i < kMatrices; i++) {
    for (int lane = 0; lane < 32; lane++) {
      const int g = lane / 4, t = lane % 4;
      for (int high = 0; high < 2; high++) {
        const int at = kTransposed ? (2 * t + high) * 8 + g : g * 8 + 2 * t + high;
        same = same && (got[i * 32 + lane] >> 16 * high & 0xffff) == static_cast<uint16_t>((i * 64 + at) * 257);
      }
    }
  }
  CHECK(same);
}

// Doubles n words (a multiple of 128) by 128 at a time; two groups of copies are under way. Words past `valid` count as 0.
__global__ void groups_kernel(const uint32_t* in, uint32_t* out, int n, int valid) {
  SWITCHYARD_SHARED(shared);
  auto* ring = reinterpret_cast<uint32_t*>(shared);
  const int lane = static_cast<int>(threadIdx.x), pieces = n / 128;
  const auto ask = [&](int piece) {
    const int at = piece * 128 + 4 * lane, left = min(max(valid - at, 0), 4);
    if (piece < pieces) copy_16(ring + piece % 3 * 128 + 4 * lane, in + at, 4 * left);
    copy_commit();
  };
  ask(0), ask(1);
  for (int piece = 0; piece < pieces; piece++) {
    ask(piece + 2);
    copy_wait<2>();
    __syncthreads();
    for (int i = 0; i < 4; i++) out[piece * 128 + i * 32 + lane] = 2 * ring[piece % 3 * 128 + i * 32 + lane];
    __syncthreads();
  }
}

// The same by bulk copies: warp 0 asks, warps 1 and 2 double the pieces of 256 words in turn, through a ring of 2 pieces.
__global__ void bulk_kernel(const uint32_t* in, uint32_t* out, int pieces) {
  SWITCHYARD_SHARED(shared);
  auto* ring = reinterpret_cast<uint32_t*>(shared);
  auto* full = reinterpret_cast<Barrier*>(ring + 512);
  Barrier* empty = full + 2;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; i++) init(full[i], 1), init(empty[i], 2);
    fence_barriers();
  }
  __syncthreads();
  if (warp == 0) {
    if (lane != 0) return;
    for (int p = 0; p < pieces; p++) {
      wait(empty[p % 2], (p / 2 + 1) & 1);
      arrive_expecting(full[p % 2], 1024);
      for (int part = 0; part < 2; part++) copy_bulk(ring + p % 2 * 256 + 128 * part, in + p * 256 + 128 * part, 512, full[p % 2]);
    }
    return;
  }
  for (int p = 0; p < pieces; p++) {
    wait(full[p % 2], p / 2 & 1);
    for (int i = lane; i < 128; i += 32) {
      const int at = (warp - 1) * 128 + i;
      out[p * 256 + at] = 2 * ring[p % 2 * 256 + at];
    }
    __syncwarp();
    if (lane == 0) arrive(empty[p % 2]);
    block_barrier(1, 64);
  }
}

void check_copies(const Launch& on) {
  for (const int pieces : {1, 2, 7}) {
    const int n = pieces * 256;
    std::vector<uint32_t> values(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) values[i] = static_cast<uint32_t>(i + 1) * 2654435761u >> 1;
    const DeviceArray<uint32_t> in(values), out(std::vector<uint32_t>(values.size(), 1));
    for (const int valid : {n, n - 3, n / 2, 0}) {
      launch(groups_kernel, 1, 32, 3 * 512, on, in.at(), out.at(), n, valid);
      check(cudaStreamSynchronize(on.stream));
      const auto got = out.values(values.size());
      bool same = true;
      for (int i = 0; i < n; i++) same = same && got[i] == (i < valid ? 2 * values[i] : 0);
      CHECK(same);
    }
    launch(bulk_kernel, 1, 96, 2048 + 32, on, in.at(), out.at(), pieces);
    check(cudaStreamSynchronize(on.stream));
    const auto got = out.values(values.size());
    bool same = true;
    for (int i = 0; i < n; i++) same = same && got[i] == 2 * values[i];
    CHECK(same);
  }
}

__global__ void fill_kernel(uint32_t* words, int n) {
  start_next_grid();
  SWITCHYARD_GRID_STRIDE(i, n) words[i] = static_cast<uint32_t>(i) * 3;
}
__global__ void add_kernel(uint32_t* words, int n) {
  wait_for_previous_grid();
  SWITCHYARD_GRID_STRIDE(i, n) words[n - 1 - i]++;
}

void check_early_start(const Launch& on) {
  constexpr int kWords = 100'000;
  const DeviceArray<uint32_t> words(std::vector<uint32_t>(kWords, 0));
  launch(fill_kernel, 100, 256, 0, on, words.at(), kWords);
  launch(Start::kEarly, add_kernel, 100, 256, 0, on, words.at(), kWords);
  check(cudaStreamSynchronize(on.stream));
  const auto got = words.values(kWords);
  bool same = true;
  for (int i = 0; i < kWords; i++) same = same && got[i] == static_cast<uint32_t>(i) * 3 + 1;
  CHECK(same);
}

}  // namespace

int main() {
  const DeviceLimits limits = test::device_limits();
  Launch on;
  check(cudaStreamCreateWithFlags(&on.stream, cudaStreamNonBlocking));
  on.device = &limits;
  check_product<false>(on), check_product<true>(on);
  check_matrices<4, false>(on), check_matrices<4, true>(on), check_matrices<2, false>(on), check_matrices<2, true>(on);
  check_copies(on);
  check_early_start(on);
  check(cudaStreamDestroy(on.stream));
  return test::report();
}
