// The linear stages of the persistent kernel whose weights are resident (persistent.h): a block's tiles lie
// whole in shared memory. A warp walks one strip of a pair of tiles at a time, as where weights stream; the
// strips of a row are folded and published by a thread.
#pragma once

#include "device/cuda/exact_math.cuh"
#include "device/cuda/exchange.cuh"
#include "device/cuda/linear_token.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_layers.cuh"
#include "device/cuda/persistent_parts.cuh"

namespace orcd::cuda {

#if __CUDA_ARCH__ >= 900
// Barriers at which all of them tell the loading warp what they have read, without waiting for it: of the
// linear stages, and last of the attention. It waits there.
__device__ __forceinline__ void tell_loader(uint32_t stage) {
  asm volatile("bar.arrive %0, %1;" ::"r"(2 + stage), "n"(kComputeThreads + 32) : "memory");
}
__device__ __forceinline__ void wait_for_readers(uint32_t stage) {
  asm volatile("bar.sync %0, %1;" ::"r"(2 + stage), "n"(kComputeThreads + 32) : "memory");
}

// Starts the copy of the block's share into its slot: stream 1 of all tiles, then stream 2. Without a share
// the barrier is arrived at all the same: who computes is never more than a layer ahead.
__device__ __forceinline__ void fetch_share(const PersistentLinear& l, uint32_t stage, uint8_t* slot,
                                            uint64_t* barrier) {
  const bool glu = stage == kGateUpStage;
  const PersistentShare share = share_of(l, glu, blockIdx.x);
  if (share.n_tiles == 0) return barrier_arrive(barrier);
  const PackedShape shape = packed_shape(l.types[share.segment]);
  const uint32_t n_matrices = glu ? 2 : 1;
  const uint32_t unit_bytes = share.n_tiles * l.n_units * shape.unit_bytes;
  const uint32_t super_bytes = share.n_tiles * l.segments[share.segment].super_stride;
  barrier_expect(barrier, (unit_bytes + super_bytes) * n_matrices);
#pragma unroll 1
  for (uint32_t i = 0; i < n_matrices; ++i) {
    const Segment& s = l.segments[share.segment + i];
    bulk_copy(slot + i * unit_bytes,
              s.data + static_cast<uint64_t>(share.first_tile) * l.n_units * shape.unit_bytes, unit_bytes,
              barrier);
    if (super_bytes != 0) {
      bulk_copy(slot + n_matrices * unit_bytes + i * super_bytes,
                s.data + s.super_at + static_cast<uint64_t>(share.first_tile) * s.super_stride, super_bytes,
                barrier);
    }
  }
}

// A stage's input: the residual, normalised and quantised, by the threads that have a lane of its sum, each
// the values that it has polled: a group's lie in the lanes of a warp. The others have nothing to do. All see
// it behind a barrier.
__device__ __forceinline__ void normed_input(const InputNorm& norm, uint32_t cols, const uint64_t* words,
                                             uint32_t tag, float* red, uint8_t* codes, float2* scales) {
  constexpr uint32_t kLanes = numerics::kLanes, kMost = kMostResidentCols / kLanes;
  const uint32_t tid = thread_here(), lane = tid & 31;
  const bool has_lane = tid < kLanes;
  // Of the thread's values; whole warps have them or not.
  const uint32_t n = has_lane && (tid & ~31u) < cols ? (cols - 1 - (tid & ~31u)) / kLanes + 1 : 0;
  float x[kMost], weight[kMost];
  if (has_lane) {
#pragma unroll
    for (uint32_t j = 0; j < kMost; ++j) weight[j] = j < n ? __ldg(norm.weight + tid + j * kLanes) : 0.0f;
    float sum = 0.0f;
    poll<kMost>([&](uint32_t j) { return words + tid + j * kLanes; }, n, tag, x);
#pragma unroll
    for (uint32_t j = 0; j < kMost; ++j)
      if (j < n) sum = numerics::fma_rn(x[j], x[j], sum);
    red[tid] = sum;
  }
  const float near_inverse = near_reciprocal(static_cast<float>(cols));
  compute_sync();
  if (!has_lane) return;
  const float inverse = inverse_rms(tree_of_shared(red), cols, near_inverse, norm.eps);
#pragma unroll
  for (uint32_t j = 0; j < kMost; ++j) x[j] = j < n ? x[j] * inverse * weight[j] : 0.0f;
  QuantizedLane q[kMost];
  quantize_lanes(x, q);
#pragma unroll
  for (uint32_t j = 0; j < kMost; ++j) {
    if (j >= n) break;
    const uint32_t group = tid / 32 + j * (kLanes / 32);
    codes[group * 32 + chunk_byte(lane)] = static_cast<uint8_t>(q[j].q);
    if (lane == 0) scales[group] = q[j].scale;
  }
}

// What the warps of a block walk: n_tiles tiles in its slot, a unit after the other, then their pieces of
// stream 2. GLU: tiles of the gate, then as many of the up projection.
struct ResidentTiles {
  const uint8_t* slot;
  uint32_t n_tiles, n_units, n_groups, super_stride, strip_shift;
  const uint8_t* codes;
  const float2* scales;
  float* parts;  // [tile][strip][16 rows]
};

// A set of units of kTiles neighbouring tiles. Units past the strip's end, or the slot's last, are read and
// not used.
template <TensorType F, uint32_t kTiles>
__device__ __forceinline__ void load_resident(const ResidentTiles& tiles, uint32_t tile, uint32_t unit,
                                              uint32_t lane, SetRegisters<F, kTiles>* set) {
  using T = TokenSet<F, kTiles>;
  const LaneRow own = row_of_lane<kTiles>(lane);
  const uint32_t tile_bytes = tiles.n_units * T::kShape.unit_bytes;
  const uint8_t* first = tiles.slot + tile * tile_bytes + unit * T::kShape.unit_bytes;
  const uint8_t* of_row = first + own.tile * tile_bytes;
#pragma unroll
  for (uint32_t half = 0; half < kTiles; ++half) {
    const uint8_t* at = first + half * tile_bytes;
#pragma unroll
    for (uint32_t u = 0; u < T::kUnits; ++u) {
      const uint8_t* unit_at = at + u * T::kShape.unit_bytes;
      set->bits[half][u] = load_bits<F>(unit_at, lane);
      if (half == 0) set->scales[u] = load_row_scales<F>(of_row + u * T::kShape.unit_bytes, own.row);
      if constexpr (F == TensorType::kQ2_K) {
        set->weights[half][u][0] = load_row_scales<F>(unit_at, lane >> 2).words[0];
        set->weights[half][u][1] = load_row_scales<F>(unit_at, (lane >> 2) + 8).words[0];
      }
    }
  }
  set->super =
      load_row_super<F>(tiles.slot + tiles.n_tiles * tile_bytes + (tile + own.tile) * tiles.super_stride +
                            unit / 4 * T::kShape.super_bytes,
                        own.row);
}

template <TensorType F, uint32_t kTiles>
__device__ __forceinline__ void walk_resident(const ResidentTiles& tiles) {
  using T = TokenSet<F, kTiles>;
  const uint32_t lane = thread_here() & 31, shift = tiles.strip_shift;
  const uint32_t n_walks = tiles.n_tiles / kTiles << shift;
#pragma unroll 1
  for (uint32_t walk = thread_here() >> 5; walk < n_walks; walk += kComputeWarps) {
    const uint32_t tile = (walk >> shift) * kTiles, strip = walk & ((1u << shift) - 1);
    const uint32_t end = (tiles.n_units * (strip + 1)) >> shift;
    float acc = 0.0f;
#pragma unroll 1
    for (uint32_t unit = (tiles.n_units * strip) >> shift; unit < end;) {
      // One piece of stream 2 serves a set.
      const uint32_t n =
          T::kShape.super_bytes != 0 ? units_from(unit, end, T::kUnits) : min(T::kUnits, end - unit);
      SetRegisters<F, kTiles> set;
      load_resident(tiles, tile, unit, lane, &set);
      acc = chain_set(set, min(2 * n, tiles.n_groups - 2 * unit), tiles.codes + unit * kUnit,
                      tiles.scales + 2 * unit, lane, acc);
      unit += n;
    }
    const LaneRow own = row_of_lane<kTiles>(lane);
    if (kTiles == 1 && (lane & 2) != 0) continue;
    tiles.parts[(((tile + own.tile) << shift) + strip) * kTileRows + own.row] = acc;
  }
}

struct StageShared {
  uint8_t* base;
  const PersistentShared& at;
  const uint32_t& first_tag;
  float* residual;  // of the block's rows
};

// The block's part of a stage, whose weights are there when its barrier comes to the layer's phase. ready:
// [kLinearStages].
__device__ __forceinline__ void linear_stage(const PersistentArgs& a, const PersistentLinear& l,
                                             StagePlace place, uint64_t* ready, const StageShared& shared) {
  const uint32_t stage = place.stage();
  const bool glu = stage == kGateUpStage, adds = stage == kProjectStage || stage == kDownStage;
  const PersistentShare share = share_of(l, glu, blockIdx.x);
  if (share.n_tiles == 0) {
    // The loading warp goes on with the next layer when all have been here, so nobody misses a phase.
    barrier_wait(&ready[stage], place.layer() & 1);
    tell_loader(stage);
    return;
  }
  const PersistentExchange& words = a.exchange;
  const Segment& s = l.segments[share.segment];
  const TensorType type = l.types[share.segment];
  uint8_t* codes = shared.base + shared.at.codes_at;
  float2* scales = reinterpret_cast<float2*>(shared.base + shared.at.scales_at);
  float* parts = reinterpret_cast<float*>(shared.base + shared.at.parts_at);
  const uint32_t n_tiles = share.n_tiles * (glu ? 2 : 1);
  barrier_wait(&ready[stage], place.layer() & 1);
  const uint32_t tag = shared.first_tag + place.layer();
  if (adds) {
    quantized_words(l.n_groups, stage == kDownStage ? words.gated : words.attention, tag, codes, scales);
  } else {
    normed_input(l.norm, l.cols, stage == kQkvStage ? words.input : words.middle, tag,
                 reinterpret_cast<float*>(shared.base + shared.at.red_at), codes, scales);
  }
  compute_sync();
  const ResidentTiles tiles = {shared.base + shared.at.slots_at[stage],
                               n_tiles,
                               l.n_units,
                               l.n_groups,
                               s.super_stride,
                               s.strip_shift,
                               codes,
                               scales,
                               parts};
  for_format(type, [&]<TensorType F>() {
    if (n_tiles % 2 != 0) {
      walk_resident<F, 1>(tiles);
    } else {
      walk_resident<F, 2>(tiles);
    }
  });
  // What the outputs need besides is read while others walk. The last warps begin, since the first ones go on
  // to wait for the next stage's input.
  uint32_t i = thread_here() ^ (kComputeThreads / 2);
  const uint32_t shift = s.strip_shift, first_row = share.first_tile * kTileRows, rows = s.rows;
  const auto part_of = [&](uint32_t row) {
    return parts + (row / kTileRows << shift) * kTileRows + row % kTileRows;
  };
  if (glu) {
    const uint32_t n_rows = share.n_tiles * kTileRows;
    const model::Activation activation = l.activation;
    compute_sync();
#pragma unroll 1
    for (; i < n_rows; i += kComputeThreads) {
      float y[2];  // of the gate and of the up projection
      fold_rows(part_of(i), n_rows << shift, 1u << shift, y);
      publish_group(words.gated, rows / 32, (first_row + i) / 32, gated_in_line(activation, y[0], y[1]),
                    shared.first_tag + place.here().layer());
    }
    tell_loader(place.here().stage());
    return;
  }
  const uint32_t n_rows = min(n_tiles * kTileRows, rows - first_row);
  const float* bias = s.bias;
  const float scale = l.scale;
  uint64_t* to = l.outputs[share.segment];
  const float b = bias && i < n_rows ? __ldg(bias + first_row + i) : 0.0f;
  compute_sync();
#pragma unroll 1
  for (; i < n_rows; i += kComputeThreads) {
    float y[1];
    fold_rows(part_of(i), 0, 1u << shift, y);
    if (bias) y[0] = __fadd_rn(y[0], i < kComputeThreads ? b : __ldg(bias + first_row + i));
    if (adds) {
      y[0] = __fadd_rn(shared.residual[i], __fmul_rn(y[0], scale));
      shared.residual[i] = y[0];
    }
    if (place.here().index + 1 == a.n_layers * kLinearStages) {
      a.x[first_row + i] = y[0];
    } else {
      publish(to + first_row + i, y[0],
              shared.first_tag + place.here().layer() + (place.here().stage() == kDownStage ? 1 : 0));
    }
  }
  tell_loader(place.here().stage());  // a tenth of a microsecond, for which the words need not wait
}
#endif

}  // namespace orcd::cuda
