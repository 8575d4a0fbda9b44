// What blocks of the persistent kernels (persistent.h) know of their layers.
#pragma once

#include "device/cuda/persistent.h"

namespace orcd::cuda {

// Layers whose arguments are in shared memory: this one, the next, and one on its way.
inline constexpr uint32_t kRing = 3;

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
