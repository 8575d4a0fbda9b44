// What is known of a row of logits before its token is drawn: its digest, whether it is sound, its best
// adjusted logit (sampling/rules.h).
#pragma once

#include "device/cuda/ops.h"
#include "device/cuda/ptx.cuh"
#include "sampling/rules.h"

namespace orcd::cuda {

using sampling::SamplingParams;

__device__ __forceinline__ bool is_seen(const SampleArgs& a, uint32_t slot, uint32_t id) {
  return (__ldcg(a.seen + static_cast<uint64_t>(slot) * a.seen_words + id / 32) >> (id % 32)) & 1;
}

__device__ __forceinline__ float adjusted(const SampleArgs& a, const SamplingParams& params, uint32_t slot,
                                          uint32_t id, float logit) {
  const bool seen = params.repetition_penalty != 1.0f && is_seen(a, slot, id);
  return sampling::adjust_logit(logit, params.temperature, params.repetition_penalty, seen);
}

// Of a row: the slot that samples it, or -1, and how.
struct RowSampling {
  int32_t slot;
  SamplingParams params;
};
__device__ __forceinline__ RowSampling row_sampling(const SampleArgs& a, uint32_t row) {
  RowSampling out;
  out.slot = __ldcg(a.step.row_slot + row);
  if (out.slot >= 0) out.params = a.slots[out.slot].params;
  return out;
}

// Of a part of a row. best: its key, then its id with all bits turned, so that the least id is the largest.
struct RowStats {
  numerics::Digest digest;
  uint64_t best = 0;
  uint32_t broken = 0;
};

// Word i of the row: logits 2 i and 2 i + 1, which is 0 past the end.
__device__ __forceinline__ void add_word(const SampleArgs& a, const RowSampling& row, uint32_t i, float first,
                                         float second, RowStats* stats) {
  numerics::digest_add(&stats->digest, numerics::digest_word(first, second), i);
  const float value[2] = {first, second};
#pragma unroll
  for (uint32_t h = 0; h < 2; ++h) {
    const uint32_t id = 2 * i + h;
    if (id >= a.n_vocab) break;
    stats->broken |= !sampling::is_valid_logit(value[h]);
    if (row.slot < 0) continue;
    const uint64_t key =
        static_cast<uint64_t>(sampling::order_key(adjusted(a, row.params, row.slot, id, value[h]))) << 32 |
        static_cast<uint32_t>(~id);
    stats->best = key > stats->best ? key : stats->best;
  }
}

// What the threads of kWarps warps have of a row, added to its result. of_warps: [kWarps] in shared memory;
// barrier: of these warps. Integer atomics only, one of each a block: those of an address queue.
template <uint32_t kWarps, typename Barrier>
__device__ __forceinline__ void publish_stats(const SampleArgs& a, uint32_t row, RowStats stats,
                                              RowStats* of_warps, Barrier barrier) {
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const auto reduce = [&](uint32_t n_lanes) {
    for (uint32_t stride = n_lanes / 2; stride > 0; stride /= 2) {
      stats.digest.a += __shfl_down_sync(~0u, stats.digest.a, stride);
      stats.digest.b += __shfl_down_sync(~0u, stats.digest.b, stride);
      const uint64_t other = __shfl_down_sync(~0u, stats.best, stride);
      stats.best = other > stats.best ? other : stats.best;
    }
    stats.broken = __any_sync(~0u, stats.broken != 0);
  };
  reduce(32);
  if (lane == 0) of_warps[warp] = stats;
  barrier();
  if (warp != 0) return;
  stats = lane < kWarps ? of_warps[lane] : RowStats();
  reduce(kWarps);
  if (lane != 0) return;
  RowResult* result = a.results + row;
  atomicAdd(reinterpret_cast<unsigned long long*>(&result->digest.a),
            static_cast<unsigned long long>(stats.digest.a));
  atomicAdd(reinterpret_cast<unsigned long long*>(&result->digest.b),
            static_cast<unsigned long long>(stats.digest.b));
  if (stats.broken != 0) atomicOr(&result->non_finite, 1u);
  if (stats.best != 0)
    atomicMax(reinterpret_cast<unsigned long long*>(a.row_best + row),
              static_cast<unsigned long long>(stats.best));
}

}  // namespace orcd::cuda
