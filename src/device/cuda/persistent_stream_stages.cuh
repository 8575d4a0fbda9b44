// The linear stages of the persistent kernel through which weights stream (persistent.h): the input of all
// warps of a block, a warp's items of it into partial results, and the outputs that the block publishes.
#pragma once

#include "device/cuda/persistent_parts.cuh"
#include "device/cuda/persistent_stream_sets.cuh"
#include "device/cuda/row_stats.cuh"
#include "device/cuda/weight_prefetch.cuh"

namespace orcd::cuda {

static_assert(kComputeThreads == kTokenThreads);

#if __CUDA_ARCH__ >= 900
// Eight elements of a group a lane, beside the three lanes that hold the rest of it: the same as
// quantize_part(). Whole warps.
__device__ __forceinline__ QuantizedPart<8> quantize_octet(const float (&x)[8]) {
  uint32_t bits = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) bits = max(bits, numerics::float_bits(x[i]) & 0x7fffffffu);
#pragma unroll
  for (uint32_t lane = 1; lane < 4; lane *= 2) bits = max(bits, __shfl_xor_sync(~0u, bits, lane));
  const float amax = numerics::bits_float(bits);
  if (__builtin_expect(!__all_sync(~0u, is_ordinary(amax) || amax == 0.0f), false)) return quantize_part(x);
  const float2 scales = code_scales(amax);
  QuantizedPart<8> out = {};
  int32_t sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const int32_t q = code_of(x[i], scales.y);
    sum += q;
    out.words[i / 4] |= (static_cast<uint32_t>(q) & 255u) << (8 * (i % 4));
  }
#pragma unroll
  for (uint32_t lane = 1; lane < 4; lane *= 2) sum += __shfl_xor_sync(~0u, sum, lane);
  out.scale = make_float2(scales.x, __fmul_rn(scales.x, static_cast<float>(sum)));
  return out;
}

// A stage's input: the residual, normalised and quantised, a thread eight elements. All see it behind a
// barrier.
__device__ __forceinline__ void normed_octets(uint32_t cols, const InputNorm& norm, const uint64_t* words,
                                              uint32_t tag, float* row, uint8_t* codes, float2* scales) {
  float* red = row + cols;
  const uint32_t tid = thread_here(), n_octets = cols / 8;
  const NormWeights ahead = load_norm_weights(norm, tid < n_octets ? tid * 8 : 0);
  const float near_inverse = near_reciprocal(static_cast<float>(cols));
  constexpr uint32_t kBatch = 8;  // words that a thread asks for together
#pragma unroll 1
  for (uint32_t first = tid; first < cols; first += kBatch * kComputeThreads) {
    const uint32_t n = min(kBatch, (cols - 1 - first) / kComputeThreads + 1);
    float value[kBatch];
    poll<kBatch>([&](uint32_t j) { return words + first + j * kComputeThreads; }, n, tag, value);
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      if (j < n) row[first + j * kComputeThreads] = value[j];
    }
  }
  compute_sync();
  if (tid < numerics::kLanes) {
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t i = tid; i < cols; i += numerics::kLanes) sum = numerics::fma_rn(row[i], row[i], sum);
    red[tid] = sum;
  }
  compute_sync();
  const float inverse = inverse_rms(tree_of_shared(red), cols, near_inverse, norm.eps);
#pragma unroll 1
  for (uint32_t first = tid & ~31u; first < n_octets; first += kComputeThreads) {
    const uint32_t octet = first + (tid & 31);
    const bool inside = octet < n_octets;
    float v[8] = {};
    if (inside) {
      const NormWeights weights = first < kComputeThreads ? ahead : load_norm_weights(norm, octet * 8);
      float x[8];
      load_octet(row + octet * 8, x);
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) v[j] = x[j] * inverse * weights.w[j];
    }
    const QuantizedPart<8> q = quantize_octet(v);
    if (!inside) continue;
    store_octet(q, octet, codes, scales);
  }
}

// What a block's stages work with.
struct StreamParts {
  uint8_t* slots;  // the warp's first; the next ones are slot_step apart
  uint32_t n_slots, slot_step;
  float *parts, *row;
  uint8_t* codes;
  float2* scales;
};
__device__ __forceinline__ StreamParts stream_parts(const StreamShared& at, uint8_t* shared) {
  StreamParts out;
  out.slots = shared + (thread_here() >> 5) * at.slot_bytes;
  out.n_slots = at.n_slots;
  out.slot_step = at.slot_bytes * kTokenWarps;
  out.parts = reinterpret_cast<float*>(shared + at.parts_at);
  out.row = reinterpret_cast<float*>(shared + at.row_at);
  out.codes = shared + at.codes_at;
  out.scales = reinterpret_cast<float2*>(shared + at.scales_at);
  return out;
}

// The warp's items of a stage into partial results, [tile of the block][strip][16 rows]. kTiles: 1 where the
// block has no more. What an item needs is looked up anew: values that are kept over a set would be spilled.
template <TensorType F, uint32_t kTiles>
__device__ __forceinline__ void walk_items(StreamBlock& block, const StageShare& of_block,
                                           const StreamParts& shared, Slots& slots) {
  using T = TokenSet<F, kTiles>;
  const uint32_t warp = thread_here() >> 5, lane = thread_here() & 31;
#pragma unroll 1
  for (uint32_t pair = warp >> of_block.strip_shift; pair < of_block.n_pairs;
       pair += kTokenWarps >> of_block.strip_shift) {
    const StripUnits units = strip_units(of_block, thread_here() >> 5);
    float acc = 0.0f;
#pragma unroll 1
    for (uint32_t unit = units.begin; unit < units.end;) {
      const uint32_t n = units_from(unit, units.end, T::kUnits);
      barrier_wait(&block.set_ready[warp][slots.slot()], slots.parity());
      SetRegisters<F, kTiles> set;
      load_set(shared.slots + slots.slot() * shared.slot_step, lane, &set);
      __syncwarp();
      barrier_arrive(&block.set_read[warp][slots.slot()]);
      slots.next(shared.n_slots);
      acc = chain_set(set, min(2 * n, of_block.n_groups - 2 * unit), shared.codes + unit * kUnit,
                      shared.scales + 2 * unit, lane, acc);
      unit += n;
    }
    const LaneRow own = row_of_lane<kTiles>(lane);
    if (kTiles == 1 && (lane & 2) != 0) continue;
    const uint32_t shift = of_block.strip_shift, strip = thread_here() >> 5 & ((1u << shift) - 1);
    shared.parts[(((2 * pair + own.tile) << shift) + strip) * kTileRows + own.row] = acc;
  }
}

__device__ __forceinline__ const StageShare& share_at(const StreamBlock& block, StagePlace place) {
  return block.share(place.layer(), place.stage());
}

// Logits of the block's tiles, two neighbours' lanes a word of the row's digest.
__device__ __forceinline__ void finish_head(const PersistentArgs& a, const StageShare& share,
                                            const StreamParts& shared) {
  const uint32_t shift = share.strip_shift, n_rows = share.n_rows;
  const RowSampling sampling = row_sampling(a.sample, 0);
  RowStats stats;
  compute_sync();
#pragma unroll 1
  for (uint32_t i = thread_here(); (i & ~31u) < n_rows; i += kComputeThreads) {
    float y[1] = {};
    if (i < n_rows) {
      fold_rows(shared.parts + (i / kTileRows << shift) * kTileRows + i % kTileRows, 0, 1u << shift, y);
      if (share.bias) y[0] = __fadd_rn(y[0], __ldg(share.bias + i));
      y[0] = __fmul_rn(y[0], share.scale);
      if (a.softcap > 0.0f) y[0] = softcap_call(y[0], a.softcap);
      a.logits[share.first_row + i] = y[0];
    }
    const float other = __shfl_down_sync(~0u, y[0], 1);
    if (i < n_rows && i % 2 == 0)
      add_word(a.sample, sampling, (share.first_row + i) / 2, y[0], other, &stats);
  }
  // The normalised row has been used.
  publish_stats<kComputeWarps>(a.sample, 0, stats, reinterpret_cast<RowStats*>(shared.row),
                               [] { compute_sync(); });
}

// Outputs of the block's tiles, a thread a row; gate and up: a warp the 32 rows of a group. What they need
// besides the partial results is read before these are there.
__device__ __forceinline__ void finish_stage(const PersistentArgs& a, StreamBlock& block,
                                             const StreamParts& shared, StagePlace place) {
  const uint32_t stage = place.stage(), tag = block.first_tag + place.layer(), i = thread_here();
  const StageShare& share = share_at(block, place);
  if (place.layer() == a.n_layers) return finish_head(a, share, shared);
  const uint32_t shift = share.strip_shift;
  const float* part = shared.parts + (i / kTileRows << shift) * kTileRows + i % kTileRows;
  if (stage == kGateUpStage) {
    const uint32_t n_rows = share.n_tiles * kTileRows, group = (share.first_row + i) / 32;
    const uint32_t n_groups = block.share(place.layer(), kDownStage).n_groups;
    const model::Activation activation = share.activation;
    compute_sync();
    if (i >= n_rows) return;
    float y[2];  // of the gate and of the up projection
    fold_rows(part, n_rows << shift, 1u << shift, y);
    publish_group(a.exchange.gated, n_groups, group, gated_in_line(activation, y[0], y[1]), tag);
    return;
  }
  const bool has_row = i < share.n_rows, adds = stage != kQkvStage;
  const bool has_bias = has_row && share.bias;
  const float bias = has_bias ? __ldg(share.bias + i) : 0.0f;
  const float residual = has_row && adds ? block.residual[i] : 0.0f, scale = share.scale;
  uint64_t* to = share.out + i;
  compute_sync();
  if (!has_row) return;
  float y[1];
  fold_rows(part, 0, 1u << shift, y);
  if (has_bias) y[0] = __fadd_rn(y[0], bias);
  if (adds) {
    y[0] = __fadd_rn(residual, __fmul_rn(y[0], scale));
    block.residual[i] = y[0];
  }
  if (place.index + 1 == a.n_stages) {
    a.x[share.first_row + i] = y[0];
  } else {
    publish(to, y[0], stage == kDownStage ? tag + 1 : tag);
  }
}

// Asks L2 for the block's piece of a norm's weights.
__device__ __forceinline__ void prefetch_norm(const PersistentLinear& l) {
  const uint32_t bytes = ((l.cols * 4 + gridDim.x - 1) / gridDim.x + 127) / 128 * 128,
                 from = blockIdx.x * bytes;
  if (from < l.cols * 4)
    prefetch_l2(reinterpret_cast<const uint8_t*>(l.norm.weight) + from, min(bytes, l.cols * 4 - from));
}

// The input of a stage of which the block has a share.
__device__ __forceinline__ void prepare_stage(const PersistentArgs& a, StreamBlock& block,
                                              const StreamParts& shared, StagePlace place) {
  const uint32_t n = place.layer(), stage = place.stage();
  const uint32_t tag = block.first_tag + n;
  if (stage == kProjectStage || stage == kDownStage) {
    quantized_words(share_at(block, place).n_groups,
                    stage == kDownStage ? a.exchange.gated : a.exchange.attention, tag, shared.codes,
                    shared.scales);
  } else {
    const PersistentLinear& l = block.layers[n].linears[stage];
    normed_octets(l.cols, l.norm, stage == kQkvStage ? a.exchange.input : a.exchange.middle, tag, shared.row,
                  shared.codes, shared.scales);
  }
}

// The block's part of a stage of a layer. All threads that compute call it. Each part reads again what it
// needs: values that are kept over the others would be spilled.
__device__ __forceinline__ void stream_stage(const PersistentArgs& a, StreamBlock& block, uint8_t* shared,
                                             StagePlace place, Slots& slots) {
  // Norms' weights that will be wanted soon after the row that they are of: a piece a block.
  if (place.stage() == kProjectStage && thread_here() == kComputeThreads - 1) {
    const uint32_t n = place.layer();
    prefetch_norm(block.layers[n].linears[kGateUpStage]);
    if (n + 1 != a.n_entries) prefetch_norm(block.layers[n + 1].linears[kQkvStage]);
  }
  if (share_at(block, place.here()).n_tiles == 0) return;
  prepare_stage(a, block, stream_parts(a.stream, shared), place.here());
  {
    const StageShare& of_block = share_at(block, place.here());
    const TensorType type = of_block.type;
    const bool one_tile = of_block.n_tiles == 1;
    const StreamParts of_stage = stream_parts(a.stream, shared);
    compute_sync();
    if (place.here().index + 1 == a.n_stages) {
      launch_dependents();
      // The next launch begins with these.
      const uint32_t at = thread_here() * kPrefetchChunk;
      if (at < a.prefetch.bytes) prefetch_chunks(a.prefetch, at);
    }
    for_format(type, [&]<TensorType F>() {
      if (one_tile) {
        walk_items<F, 1>(block, of_block, of_stage, slots);
      } else {
        walk_items<F, 2>(block, of_block, of_stage, slots);
      }
    });
  }
  finish_stage(a, block, stream_parts(a.stream, shared), place.here());
  compute_sync();  // the words that all wait for do not queue behind this block's polling
}
#endif

}  // namespace orcd::cuda
