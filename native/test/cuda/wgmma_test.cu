// The products of device/wgmma.h and the way back of device/store_matrix.h, in tiny kernels, against plain loops.
#include <vector>

#include "cuda/device/store_matrix.h"
#include "cuda/device/wgmma.h"
#include "formats/half.h"
#include "test/check.h"
#include "test/cuda/compare.h"

using namespace switchyard;
using namespace switchyard::cuda;

namespace {

// Small numbers: all sums are exact, in whatever order.
int digit(int i) { return (i * 7 + i / 16 * 3 + i / 1024 * 5) % 11 - 5; }
std::vector<uint16_t> digits(int n, int salt) {
  std::vector<uint16_t> v(static_cast<size_t>(n));
  for (int i = 0; i < n; i++) v[static_cast<size_t>(i)] = f32_to_bf16(static_cast<float>(digit(i + salt)));
  return v;
}

constexpr int kK = 64;

// D [64, kN] = A [64, 64] · B [kN, 64]ᵀ by one warpgroup, in four products.
template <int kN>
__global__ void product_kernel(const uint16_t* a, const uint16_t* b, float* d) {
  SWITCHYARD_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  for (int i = thread; i < kN * 8; i += 128) copy_16(shared + swizzled_16(i / 8, i % 8), b + i * 8);
  copy_commit();
  copy_wait<0>();
  fence_async();
  __syncthreads();
  uint32_t words[4][4];
  for (int slice = 0; slice < 4; slice++) {
    for (int i = 0; i < 4; i++) {
      const uint16_t* at = a + (16 * warp + g + i % 2 * 8) * kK + 16 * slice + 2 * t + i / 2 * 8;
      words[slice][i] = uint32_t{at[0]} | uint32_t{at[1]} << 16;
    }
  }
  float sums[kN / 2];
  for (float& s : sums) s = 1;
  wgmma_fence();
  for (int slice = 0; slice < 4; slice++) wgmma<kN>(sums, words[slice], operand(shared) + static_cast<uint64_t>(slice) * kNextK);
  wgmma_commit();
  wgmma_wait<0>();
  for (int i = 0; i < kN / 2; i++) {
    d[(16 * warp + g + i % 4 / 2 * 8) * kN + i / 4 * 8 + 2 * t + i % 2] = sums[i] - 1;
  }
}

template <int kN>
void check_product(const Launch& on) {
  const auto a = digits(64 * kK, 0), b = digits(kN * kK, 5);
  const test::DeviceBytes da(a.data(), static_cast<int64_t>(2 * a.size())), db(b.data(), static_cast<int64_t>(2 * b.size()));
  const test::DeviceBytes dd(nullptr, 64 * kN * 4);
  launch(product_kernel<kN>, 1, 128, kN * kOperandRowBytes, on, reinterpret_cast<const uint16_t*>(da.data()),
         reinterpret_cast<const uint16_t*>(db.data()), reinterpret_cast<float*>(dd.data()));
  check(cudaStreamSynchronize(on.stream));
  std::vector<float> got(64 * kN);
  dd.read(got.data());
  bool same = true;
  for (int m = 0; m < 64; m++) {
    for (int n = 0; n < kN; n++) {
      int sum = 0;
      for (int k = 0; k < kK; k++) sum += digit(m * kK + k) * digit(n * kK + k + 5);
      same = same && got[static_cast<size_t>(m * kN + n)] == static_cast<float>(sum);
    }
  }
  CHECK(same);
}

// Four matrices, 8×8, transposed: matrix i [r, c] is word 64i + 8r + c of the input.
__global__ void transpose_kernel(const uint16_t* in, uint16_t* out) {
  SWITCHYARD_SHARED(shared);
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  uint32_t words[4];
  for (int i = 0; i < 4; i++) words[i] = uint32_t{in[64 * i + 8 * g + 2 * t]} | uint32_t{in[64 * i + 8 * g + 2 * t + 1]} << 16;
  store_transposed(words, shared + lane * 16);
  __syncwarp();
  for (int i = 0; i < 8; i++) out[lane * 8 + i] = reinterpret_cast<const uint16_t*>(shared)[lane * 8 + i];
}

void check_transpose(const Launch& on) {
  std::vector<uint16_t> in(256), out(256);
  for (size_t i = 0; i < 256; i++) in[i] = static_cast<uint16_t>(i * 3 + 1);
  const test::DeviceBytes din(in.data(), 512), dout(nullptr, 512);
  launch(transpose_kernel, 1, 32, 512, on, reinterpret_cast<const uint16_t*>(din.data()),
         reinterpret_cast<uint16_t*>(dout.data()));
  check(cudaStreamSynchronize(on.stream));
  dout.read(out.data());
  bool same = true;
  for (size_t i = 0; i < 256; i++) same = same && out[i] == in[i / 64 * 64 + i % 8 * 8 + i / 8 % 8];
  CHECK(same);
}

}  // namespace

int main() {
  Launch on;
  check(cudaStreamCreateWithFlags(&on.stream, cudaStreamNonBlocking));
  check_product<64>(on);
  check_product<128>(on);
  check_product<256>(on);
  check_transpose(on);
  check(cudaStreamDestroy(on.stream));
  return test::report();
}
