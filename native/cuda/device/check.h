// Results of the CUDA runtime as exceptions; the backend's C interface turns them into messages.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace switchyard::cuda {

struct CudaError : std::runtime_error {
  explicit CudaError(cudaError_t e)
      : std::runtime_error(std::string("CUDA says: ") + cudaGetErrorString(e)), code(e) {}
  cudaError_t code;
};

inline void check(cudaError_t e) {
  if (e != cudaSuccess) throw CudaError(e);
}

}  // namespace switchyard::cuda
