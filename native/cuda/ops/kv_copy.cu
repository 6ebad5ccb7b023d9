// `kv_copy`: whole blocks of a paged cache to other blocks, in place.
#include "cuda/device/report.h"
#include "cuda/device/widest.h"

namespace switchyard::cuda {
namespace {

// A thread does all pairs in order for its piece of the pages: a block may be a target first and a source later.
template <class T>
__global__ void copy_kernel(T* cache, const int32_t* pairs, int64_t n, int64_t blocks, int64_t page, ErrorWord* error,
                            uint32_t instruction) {
  SWITCHYARD_GRID_STRIDE(piece, page) {
    for (int64_t i = 0; i < n; i++) {
      const int64_t from = pairs[2 * i], to = pairs[2 * i + 1];
      const bool reads = in_range_or_none(error, instruction, 2 * i, from, blocks);
      const bool writes = in_range_or_none(error, instruction, 2 * i + 1, to, blocks);
      if (reads && writes && from != to) cache[to * page + piece] = cache[from * page + piece];
    }
  }
}

void run(const Instruction& in, const Launch& on) {
  const Operand &cache = *in.out[0], &pairs = *in.in[1];
  const int64_t blocks = cache.shape[0], bytes = cache.shape.size() * dtype_size(cache.dtype);
  if (bytes == 0) return;
  if (cache.data != in.in[0]->data) {
    check(cudaMemcpyAsync(cache.data, in.in[0]->data, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on.stream));
  }
  with_widest(address(cache.data) | static_cast<uint64_t>(bytes / blocks), [&]<class T>() {
    const int64_t page = bytes / blocks / static_cast<int64_t>(sizeof(T));
    launch(copy_kernel<T>, grid_for(page, 128, on), 128, 0, on, cache.as<T>(), pairs.as<int32_t>(), pairs.shape[0], blocks, page,
           on.error, in.number);
  });
}

}  // namespace

void register_kv_copy(KernelTable& t) { t.add({"kv_copy", run}); }

}  // namespace switchyard::cuda
