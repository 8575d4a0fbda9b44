// What blocks of the persistent kernels (persistent.h) know of their layers.
#pragma once

#include "device/cuda/persistent.h"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

// The layers' arguments in shared memory: of this one, of the next, and of one on its way. Layer n has the
// place n % kLayers, whose barrier is at the end of a phase when they are there.
struct LayerRing {
  static constexpr uint32_t kLayers = 3;
  PersistentLayer layers[kLayers];
  uint64_t ready[kLayers];

#if __CUDA_ARCH__ >= 900
  __device__ __forceinline__ const PersistentLayer& operator[](uint32_t n) const {
    return layers[n % kLayers];
  }
  // One thread calls it, when nobody reads those of layer n - kLayers any more. The barrier waits for
  // other_bytes more, whose copies the caller starts.
  __device__ __forceinline__ void fetch(const PersistentArgs& a, uint32_t n, uint32_t other_bytes = 0) {
    uint64_t* barrier = &ready[n % kLayers];
    barrier_expect(barrier, sizeof(PersistentLayer) + other_bytes);
    bulk_copy(&layers[n % kLayers], a.layers + n, sizeof(PersistentLayer), barrier);
  }
  __device__ __forceinline__ bool is_there(uint32_t n) {
    return barrier_test(&ready[n % kLayers], n / kLayers & 1);
  }
  __device__ __forceinline__ void wait(uint32_t n) { barrier_wait(&ready[n % kLayers], n / kLayers & 1); }
#endif
};

}  // namespace orcd::cuda
