// Asking L2 for weights that launches to come will read (WeightPrefetch).
#pragma once

#include "device/cuda/ops.h"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kPrefetchChunk = 4096;

// The chunk at `from` < bytes of a range of a piece, as far as the weights reach.
__device__ __forceinline__ void prefetch_chunk(const WeightPrefetch::Piece& piece, uint32_t range,
                                               uint32_t from) {
  const uint64_t begin = (range * piece.steps + min(range, piece.extra_steps)) * piece.step_bytes + from;
  const uint64_t end = begin + min(kPrefetchChunk, piece.bytes - from);
  if (begin < piece.size)
    prefetch_l2(piece.data + begin, static_cast<uint32_t>(min(end, piece.size) - begin));
}

// The same of the ranges that are dealt to this block.
__device__ __forceinline__ void prefetch_chunks(const WeightPrefetch::Piece& piece, uint32_t from) {
#pragma unroll 1
  for (uint32_t range = blockIdx.x; range < piece.n_ranges; range += gridDim.x)
    prefetch_chunk(piece, range, from);
}

}  // namespace orcd::cuda
