#include "trap.h"

#include <cuda_runtime.h>

namespace orcd::test {
namespace {

__global__ void trap_kernel() { asm volatile("trap;"); }

}  // namespace

const char* destroy_context(int device) {
  cudaSetDevice(device);
  trap_kernel<<<1, 1>>>();
  return cudaGetErrorName(cudaDeviceSynchronize());
}

}  // namespace orcd::test
