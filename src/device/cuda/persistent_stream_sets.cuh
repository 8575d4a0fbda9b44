// How weights come to the warps of the persistent kernel through which they stream (persistent.h): sets of
// units, each to the slot of the warp that works on it, in the order in which it will, across stages and
// layers.
#pragma once

#include "device/cuda/linear_token.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_attention.cuh"
#include "device/cuda/persistent_layers.cuh"

namespace orcd::cuda {

// What a block has in shared memory besides StreamShared.
struct StreamBlock {
  LayerRing layers;
  BlockShares shares[LayerRing::kLayers];  // beside the layers' arguments
  // All warps are in a layer, and read no arguments of the one before; the attention of a layer is over, and
  // sets may come where its pages were.
  uint64_t layer_begun, attention_over;
  uint64_t pages_ready;
  uint64_t set_ready[kTokenWarps][kMostSlots], set_read[kTokenWarps][kMostSlots];
  StepAttention step;
  uint32_t first_tag;
  uint32_t n_own;  // items of the block
  AttentionItem own[kMostItems];
  int32_t page_ids[kMostItems][kPages];
  float residual[kMostResiduals];

  __device__ __forceinline__ const StageShare& share(uint32_t layer, uint32_t stage) const {
    return shares[layer % LayerRing::kLayers].stages[stage];
  }
};

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ PairData pair_at(const StageShare& s, uint32_t pair) {
  const uint32_t of_gate = (s.n_tiles + 1) / 2;
  const bool up = pair >= of_gate;
  const uint32_t first = 2 * (up ? pair - of_gate : pair);  // tile of the share
  const uint64_t tile_bytes = static_cast<uint64_t>(s.n_units) * s.set.unit_bytes;
  PairData data;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t tile = first + half;
    data.units[half] = tile < s.n_tiles ? s.units[up] + tile * tile_bytes : nullptr;
    data.super[half] = s.super[up] + static_cast<uint64_t>(tile) * s.super_stride;
  }
  return data;
}

// The slots of a warp in turn, and the parity of their barriers: one word, since the warps that compute have
// no register to spare.
struct Slots {
  uint32_t word;  // 2 * slot + parity
  __device__ __forceinline__ uint32_t slot() const { return word >> 1; }
  __device__ __forceinline__ uint32_t parity() const { return word & 1; }
  __device__ __forceinline__ void next(uint32_t n) {
    word += 2;
    if (word >= 2 * n) word = (word & 1) ^ 1;
  }
};

// Asks L2 for a warp's first set of the projection, for which its slots have no room yet.
__device__ __forceinline__ void prefetch_first(const StageShare& s, uint32_t warp) {
  const StripUnits strip = strip_units(s, warp);
  const uint32_t pair = warp >> s.strip_shift;
  if (pair >= s.n_pairs) return;
  const PairData data = pair_at(s, pair);
  const uint32_t bytes = units_from(strip.begin, strip.end, s.set.units) * s.set.unit_bytes;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    if (data.units[half]) prefetch_l2(data.units[half] + strip.begin * s.set.unit_bytes, bytes);
  }
}

// A layer's arguments and the block's shares of it on their way, by one thread.
__device__ __forceinline__ void fetch_entry(const PersistentArgs& a, StreamBlock& block, uint32_t n) {
  const uint32_t at = n % LayerRing::kLayers;
  block.layers.fetch(a, n, sizeof(BlockShares));
  bulk_copy(&block.shares[at], a.shares + n * gridDim.x + blockIdx.x, sizeof(BlockShares),
            &block.layers.ready[at]);
}

// The loading warps have all sets of units on their way as soon as what they replace has been read, a lane
// those of one warp. Lanes go on each for itself, since their warps do. The first of them has the arguments
// of layers too, from the third on.
__device__ __forceinline__ void load_sets(const PersistentArgs& a, StreamBlock& block, uint8_t* shared) {
  constexpr uint32_t kLanes = kTokenWarps / kLoadingWarps;
  const uint32_t lane = threadIdx.x & 31, loader = (threadIdx.x - kComputeThreads) >> 5;
  const uint32_t warp = loader * kLanes + lane % kLanes;
  const bool attends = items_of_block(step_attention(a)) != 0;
  uint8_t* const slots = shared + warp * a.stream.slot_bytes;
  const uint32_t slot_step = kTokenWarps * a.stream.slot_bytes;
  uint32_t n_fetched = loader == 0 ? 2 : a.n_entries;  // entries whose arguments are there or on their way
  uint32_t n_begun = 0;                                // layers that all lanes have come to
  bool over = lane >= kLanes;
  uint32_t layer = 0, stage = 0, pair = 0;
  bool has_share = false;
  StripUnits strip = {};
  uint32_t n_pairs = 0, first_pair = 0, pair_step = 0;
  // The item whose sets come next: one strip of a pair of tiles.
  uint32_t unit = 0, end = 0;
  SetShape shape = {};
  const uint8_t *units[2], *super[2];
  Slots next = {1};   // slots begin as read
  bool held = false;  // attention is not over: one slot alone is free
  for (;;) {
    // Lane after lane: racecheck follows what was read before an arrival to a lane that asks for it alone.
    bool fetches = false;
#pragma unroll 1
    for (uint32_t turn = 0; turn < kLanes; ++turn) {
      if (lane != turn || unit == end) continue;
      fetches = barrier_test(&block.set_read[warp][next.slot()], next.parity());
      if (!fetches) continue;
      const uint32_t n = units_from(unit, end, shape.units), bytes = n * shape.unit_bytes;
      uint64_t* ready = &block.set_ready[warp][next.slot()];
      uint8_t* to = slots + next.slot() * slot_step;
      barrier_expect(ready, (bytes + shape.super_bytes) << (units[1] ? 1 : 0));
      bulk_copy(to, units[0], bytes, ready);
      if (units[1]) bulk_copy(to + shape.tile_bytes, units[1], bytes, ready);
      if (shape.super_bytes != 0) {
        to += shape.tile_bytes - shape.super_bytes;
        bulk_copy(to, super[0], shape.super_bytes, ready);
        if (units[1]) bulk_copy(to + shape.tile_bytes, super[1], shape.super_bytes, ready);
      }
      unit += n;
      units[0] += bytes;
      if (units[1]) units[1] += bytes;
      if (unit % 4 == 0) {
        super[0] += shape.super_bytes;
        super[1] += shape.super_bytes;
      }
      next.next(a.stream.n_slots);
    }
    if (__any_sync(~0u, fetches)) continue;
    // The next item.
    while (!over && unit == end) {
      if (layer * kLinearStages + stage == a.n_stages) {
        over = true;
        break;
      }
      const StageShare& s = block.share(layer, stage);
      if (!has_share) {
        if (!block.layers.is_there(layer)) break;
        // The pages of a block that attends stand where the sets do: of its first set there may be room
        // beside them.
        held = attends && stage == kProjectStage;
        if (held && !a.stream.pages_beside) {
          if (!barrier_test(&block.attention_over, layer & 1)) break;
          held = false;
        }
        strip = strip_units(s, warp);
        shape = s.set;
        n_pairs = s.n_pairs;
        pair_step = kTokenWarps >> s.strip_shift;
        first_pair = pair = warp >> s.strip_shift;
        has_share = true;
      }
      if (held && (pair != first_pair || pair >= n_pairs)) {
        if (!barrier_test(&block.attention_over, layer & 1)) break;
        held = false;
        if (pair != first_pair && end != strip.end) {
          end = strip.end;
          continue;
        }
      }
      if (pair < n_pairs) {
        const PairData data = pair_at(s, pair);
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
          units[half] = data.units[half] ? data.units[half] + strip.begin * shape.unit_bytes : nullptr;
          super[half] = data.super[half] + strip.begin / 4 * shape.super_bytes;
        }
        pair += pair_step;
        unit = strip.begin;
        end = held ? unit + units_from(unit, strip.end, shape.units) : strip.end;
      } else {
        has_share = false;
        if (++stage == kLinearStages) {
          stage = 0;
          ++layer;
        } else if (stage == kProjectStage && attends && layer != a.n_layers && !a.stream.pages_beside) {
          prefetch_first(block.share(layer, stage), warp);
        }
      }
    }
    __syncwarp();
    if (n_fetched < a.n_entries && barrier_test(&block.layer_begun, n_fetched & 1)) {
      if (lane == 0) fetch_entry(a, block, n_fetched);
      ++n_fetched;
    }
    if (n_begun < a.n_entries && __all_sync(~0u, over || layer >= n_begun) &&
        (n_begun == 0 || barrier_test(&block.layer_begun, (n_begun - 1) & 1))) {
      if (lane == 0) barrier_arrive(&block.layer_begun);
      ++n_begun;
    }
    if (n_begun == a.n_entries && __all_sync(~0u, over)) break;
    __syncwarp();
  }
}

#endif

}  // namespace orcd::cuda
