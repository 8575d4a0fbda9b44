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
  // One thread calls it, when nobody reads those of layer n - kLayers any more.
  __device__ __forceinline__ void fetch(const PersistentArgs& a, uint32_t n) {
    uint64_t* barrier = &ready[n % kLayers];
    barrier_expect(barrier, sizeof(PersistentLayer));
    bulk_copy(&layers[n % kLayers], a.layers + n, sizeof(PersistentLayer), barrier);
  }
  __device__ __forceinline__ bool is_there(uint32_t n) {
    return barrier_test(&ready[n % kLayers], n / kLayers & 1);
  }
  __device__ __forceinline__ void wait(uint32_t n) { barrier_wait(&ready[n % kLayers], n / kLayers & 1); }
#endif
};

// A block's part of a stage: tiles of one segment; GLU: as many of the gate and then of the up projection.
struct PersistentShare {
  uint32_t segment, first_tile, n_tiles;
};
__device__ __forceinline__ PersistentShare share_of(const PersistentLinear& l, bool glu) {
  uint32_t segment = 0, block = blockIdx.x;
  while (segment + 1 < (glu ? 1 : l.n_segments) && block >= l.segments[segment].n_blocks)
    block -= l.segments[segment++].n_blocks;
  const Segment& s = l.segments[segment];
  if (block >= s.n_blocks) return {segment, 0, 0};
  const uint32_t step = glu ? 2 : 1;
  const uint32_t first = (block * s.steps_per_block + min(block, s.extra_steps)) * step;
  const uint32_t n = (s.steps_per_block + (block < s.extra_steps ? 1 : 0)) * step;
  return {segment, first, min(n, s.n_tiles - first)};
}

}  // namespace orcd::cuda
