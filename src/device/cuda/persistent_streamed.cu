// The persistent kernel through which weights stream (persistent.h), to each warp those that it works on, of
// all stages and layers. Rules N3, N4 and N5, in the same chains as the kernels of a step's launches.
#include "device/cuda/linear_token.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_attention.cuh"
#include "device/cuda/persistent_layers.cuh"
#include "device/cuda/weight_prefetch.cuh"

namespace orcd::cuda {
namespace {

static_assert(kComputeThreads == kTokenThreads);

// What a warp reads of a stage: items, each one strip of a pair of tiles, every pair_step-th pair. Pairs of
// the gate, then as many of the up projection.
struct WarpShare {
  uint32_t n_pairs, of_gate;  // of_gate: pairs before those of the up projection
  uint32_t first_pair, pair_step;
  uint32_t strip, begin, end;  // units of the strip
};

// What a block has in shared memory besides StreamShared.
struct BlockShared {
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
__device__ __forceinline__ WarpShare warp_share(const StageShare& s, bool glu, uint32_t warp) {
  const uint32_t shift = s.strip_shift, n_units = s.n_units;
  WarpShare out;
  out.of_gate = (s.n_tiles + 1) / 2;
  out.n_pairs = glu ? 2 * out.of_gate : out.of_gate;
  out.first_pair = warp >> shift;
  out.pair_step = kTokenWarps >> shift;
  out.strip = warp & ((1u << shift) - 1);
  out.begin = (n_units * out.strip) >> shift;
  out.end = (n_units * (out.strip + 1)) >> shift;
  return out;
}
__device__ __forceinline__ PairData pair_at(const StageShare& s, const WarpShare& share, uint32_t pair) {
  const bool up = pair >= share.of_gate;
  const uint32_t first = 2 * (up ? pair - share.of_gate : pair);  // tile of the share
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

// How many units the set that begins at a unit has: sets end where a multiple of so many units does, so that
// one piece of stream 2 serves them, or where the strip does.
__device__ __forceinline__ uint32_t units_from(uint32_t unit, uint32_t end, uint32_t units_of_set) {
  return min(end - unit, units_of_set - (unit & (units_of_set - 1)));
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
  const WarpShare share = warp_share(s, false, warp);
  if (share.first_pair >= share.n_pairs) return;
  const PairData data = pair_at(s, share, share.first_pair);
  const uint32_t bytes = units_from(share.begin, share.end, s.set.units) * s.set.unit_bytes;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    if (data.units[half]) prefetch_l2(data.units[half] + share.begin * s.set.unit_bytes, bytes);
  }
}

// The loading warps have all sets of units on their way as soon as what they replace has been read, a lane
// those of one warp. Lanes go on each for itself, since their warps do. The first of them has the layers'
// arguments too.
__device__ __forceinline__ void load_layers(const PersistentArgs& a, bool attends, BlockShared& block,
                                            uint8_t* shared) {
  constexpr uint32_t kLanes = kTokenWarps / kLoadingWarps;
  const uint32_t lane = threadIdx.x & 31, loader = (threadIdx.x - kComputeThreads) >> 5;
  const uint32_t warp = loader * kLanes + lane % kLanes;
  uint8_t* const slots = shared + warp * a.stream.slot_bytes * a.stream.n_slots;
  uint32_t n_fetched = loader == 0 ? 0 : a.n_layers;  // layers whose arguments are there or on their way
  uint32_t n_begun = 0;                               // layers that all lanes have come to
  bool over = lane >= kLanes;
  uint32_t layer = 0, stage = 0, pair = 0;
  bool has_share = false;
  WarpShare share;
  // The item whose sets come next: one strip of a pair of tiles.
  uint32_t unit = 0, end = 0;
  SetShape shape = {};
  const uint8_t *units[2], *super[2];
  Slots next = {1};  // slots begin as read
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
      uint8_t* to = slots + next.slot() * a.stream.slot_bytes;
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
      if (layer == a.n_layers) {
        over = true;
        break;
      }
      const StageShare& s = block.share(layer, stage);
      if (!has_share) {
        if (!block.layers.is_there(layer)) break;
        // The pages of a block that attends stand where the sets do.
        if (attends && stage == kProjectStage && !barrier_test(&block.attention_over, layer & 1)) break;
        share = warp_share(s, stage == kGateUpStage, warp);
        shape = s.set;
        pair = share.first_pair;
        has_share = true;
      }
      if (pair < share.n_pairs) {
        const PairData data = pair_at(s, share, pair);
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
          units[half] = data.units[half] ? data.units[half] + share.begin * shape.unit_bytes : nullptr;
          super[half] = data.super[half] + share.begin / 4 * shape.super_bytes;
        }
        pair += share.pair_step;
        unit = share.begin;
        end = share.end;
      } else {
        has_share = false;
        if (++stage == kLinearStages) {
          stage = 0;
          ++layer;
        } else if (stage == kProjectStage && attends) {
          prefetch_first(block.share(layer, stage), warp);
        }
      }
    }
    __syncwarp();
    if (n_fetched < a.n_layers && (n_fetched < 2 || barrier_test(&block.layer_begun, n_fetched & 1))) {
      if (lane == 0) {
        const uint32_t at = n_fetched % LayerRing::kLayers;
        block.layers.fetch(a, n_fetched, sizeof(BlockShares));
        bulk_copy(&block.shares[at], a.shares + n_fetched * gridDim.x + blockIdx.x, sizeof(BlockShares),
                  &block.layers.ready[at]);
      }
      ++n_fetched;
    }
    if (n_begun < a.n_layers && __all_sync(~0u, over || layer >= n_begun) &&
        (n_begun == 0 || barrier_test(&block.layer_begun, (n_begun - 1) & 1))) {
      if (lane == 0) barrier_arrive(&block.layer_begun);
      ++n_begun;
    }
    if (n_begun == a.n_layers && __all_sync(~0u, over)) break;
    __syncwarp();
  }
}

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
__device__ __forceinline__ void normed_octets(uint32_t cols, const InputNorm& norm, const float* plain,
                                              const uint64_t* words, uint32_t tag, float* row, uint8_t* codes,
                                              float2* scales) {
  float* red = row + cols;
  const uint32_t tid = thread_here(), n_octets = cols / 8;
  const NormWeights ahead = load_norm_weights(norm, tid < n_octets ? tid * 8 : 0);
  const float near_inverse = near_reciprocal(static_cast<float>(cols));
  constexpr uint32_t kBatch = 8;  // words that a thread asks for together
#pragma unroll 1
  for (uint32_t first = tid; first < cols; first += kBatch * kComputeThreads) {
    const uint32_t n = min(kBatch, (cols - 1 - first) / kComputeThreads + 1);
    float value[kBatch];
    if (plain) {
#pragma unroll
      for (uint32_t j = 0; j < kBatch; ++j)
        value[j] = __ldcg(plain + first + min(j, n - 1) * kComputeThreads);
    } else {
      poll<kBatch>([&](uint32_t j) { return words + first + j * kComputeThreads; }, n, tag, value);
    }
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
      // Whole float4s: by single words, lanes eight words apart meet in the same banks.
      float x[8];
      *reinterpret_cast<float4*>(x) = *reinterpret_cast<const float4*>(row + octet * 8);
      *reinterpret_cast<float4*>(x + 4) = *reinterpret_cast<const float4*>(row + octet * 8 + 4);
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) v[j] = x[j] * inverse * weights.w[j];
    }
    const QuantizedPart<8> q = quantize_octet(v);
    if (!inside) continue;
    store_octet(q, octet, codes, scales);
  }
}

// The same where it was published quantised.
__device__ __forceinline__ void quantized_words(uint32_t n_groups, const uint64_t* words, uint32_t tag,
                                                uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 10;
  const uint32_t n_codes = n_groups * 8, n_words = n_groups * 10;
#pragma unroll 1
  for (uint32_t first = thread_here(); first < n_words; first += kBatch * kComputeThreads) {
    uint32_t bits[kBatch];
    const uint32_t n = min(kBatch, (n_words - 1 - first) / kComputeThreads + 1);
    poll_bits<kBatch>([&](uint32_t i) { return words + first + i * kComputeThreads; }, n, tag, bits);
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kComputeThreads;
      if (j >= n) break;
      if (i < n_codes) {
        reinterpret_cast<uint32_t*>(codes)[i] = bits[j];
      } else {
        reinterpret_cast<uint32_t*>(scales)[i - n_codes] = bits[j];
      }
    }
  }
}

// What a block's stages work with.
struct StageShared {
  uint8_t* slots;  // of the warp
  uint32_t slot_bytes;
  float *parts, *row, *residual;
  uint8_t* codes;
  float2* scales;
};
__device__ __forceinline__ StageShared stage_shared(const StreamShared& at, uint8_t* shared,
                                                    BlockShared& block) {
  StageShared out;
  out.slots = shared + (thread_here() >> 5) * at.slot_bytes * at.n_slots;
  out.slot_bytes = at.slot_bytes;
  out.parts = reinterpret_cast<float*>(shared + at.parts_at);
  out.row = reinterpret_cast<float*>(shared + at.row_at);
  out.residual = block.residual;
  out.codes = shared + at.codes_at;
  out.scales = reinterpret_cast<float2*>(shared + at.scales_at);
  return out;
}

// The warp's items of a stage into partial results, [tile of the block][strip][16 rows]. kTiles: 1 where the
// block has no more.
template <TensorType F, uint32_t kTiles>
__device__ __forceinline__ void walk_items(BlockShared& block, const StageShare& of_block,
                                           const WarpShare& share, const StageShared& shared,
                                           uint32_t n_slots, Slots& slots) {
  using T = TokenSet<F>;
  const uint32_t warp = thread_here() >> 5, lane = thread_here() & 31, n_groups = of_block.n_groups;
  const uint32_t shift = of_block.strip_shift;
#pragma unroll 1
  for (uint32_t pair = share.first_pair; pair < share.n_pairs; pair += share.pair_step) {
    float acc = 0.0f;
#pragma unroll 1
    for (uint32_t unit = share.begin; unit < share.end;) {
      const uint32_t n = units_from(unit, share.end, T::kUnits);
      barrier_wait(&block.set_ready[warp][slots.slot()], slots.parity());
      SetRegisters<F, kTiles> set;
      load_set(shared.slots + slots.slot() * shared.slot_bytes, lane, &set);
      __syncwarp();
      barrier_arrive(&block.set_read[warp][slots.slot()]);
      slots.next(n_slots);
      acc = chain_set(set, min(2 * n, n_groups - 2 * unit), shared.codes + unit * kUnit,
                      shared.scales + 2 * unit, lane, acc);
      unit += n;
    }
    const LaneRow own = row_of_lane<kTiles>(lane);
    if (kTiles == 1 && (lane & 2) != 0) continue;
    shared.parts[(((2 * pair + own.tile) << shift) + share.strip) * kTileRows + own.row] = acc;
  }
}

// The strips of kN rows, whose partial results stand `apart` floats from each other, folded left. All loads
// are on their way before the first sum.
template <uint32_t kStrips, uint32_t kN>
__device__ __forceinline__ void fold_strips(const float* part, uint32_t apart, float (&y)[kN]) {
  float v[kStrips][kN];
#pragma unroll
  for (uint32_t i = 0; i < kStrips; ++i) {
#pragma unroll
    for (uint32_t r = 0; r < kN; ++r) v[i][r] = part[r * apart + i * kTileRows];
  }
#pragma unroll
  for (uint32_t i = 0; i < kStrips; ++i) {
#pragma unroll
    for (uint32_t r = 0; r < kN; ++r) y[r] = i == 0 ? v[0][r] : __fadd_rn(y[r], v[i][r]);
  }
}
template <uint32_t kN>
__device__ __forceinline__ void fold_rows(const float* part, uint32_t apart, uint32_t strips,
                                          float (&y)[kN]) {
  static_assert(numerics::kMaxStrips == 16);
  if (strips == 16) return fold_strips<16>(part, apart, y);
  if (strips == 8) return fold_strips<8>(part, apart, y);
  if (strips == 4) return fold_strips<4>(part, apart, y);
  if (strips == 2) return fold_strips<2>(part, apart, y);
  fold_strips<1>(part, apart, y);
}

// Which stage of which layer. As the thread's index, it is looked at anew where it is needed.
struct Place {
  uint32_t index;
  __device__ __forceinline__ Place here() const { return {value_here(index)}; }
  __device__ __forceinline__ uint32_t layer() const { return index / kLinearStages; }
  __device__ __forceinline__ uint32_t stage() const { return index % kLinearStages; }
  __device__ __forceinline__ const StageShare& share(const BlockShared& block) const {
    return block.share(layer(), stage());
  }
};

// Outputs of the block's tiles, a thread a row; gate and up: a warp the 32 rows of a group. What they need
// besides the partial results is read before these are there.
__device__ __forceinline__ void finish_stage(const PersistentArgs& a, BlockShared& block,
                                             const StageShared& shared, Place place) {
  const uint32_t stage = place.stage(), tag = block.first_tag + place.layer(), i = thread_here();
  const StageShare& share = place.share(block);
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
  const float residual = has_row && adds ? shared.residual[i] : 0.0f, scale = share.scale;
  uint64_t* to = share.out + i;
  compute_sync();
  if (!has_row) return;
  float y[1];
  fold_rows(part, 0, 1u << shift, y);
  if (has_bias) y[0] = __fadd_rn(y[0], bias);
  if (adds) {
    y[0] = __fadd_rn(residual, __fmul_rn(y[0], scale));
    shared.residual[i] = y[0];
  }
  if (place.index + 1 == a.n_layers * kLinearStages) {
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
__device__ __forceinline__ void prepare_stage(const PersistentArgs& a, BlockShared& block,
                                              const StageShared& shared, Place place) {
  const uint32_t n = place.layer(), stage = place.stage(), tid = thread_here();
  const bool is_first = n == 0;
  if (stage == kProjectStage && is_first) {
    const StageShare& share = place.share(block);
    if (tid < share.n_rows) block.residual[tid] = __ldcg(a.x + share.first_row + tid);
  }
  const uint32_t tag = block.first_tag + n;
  if (stage == kProjectStage || stage == kDownStage) {
    quantized_words(place.share(block).n_groups,
                    stage == kDownStage ? a.exchange.gated : a.exchange.attention, tag, shared.codes,
                    shared.scales);
  } else {
    const PersistentLinear& l = block.layers[n].linears[stage];
    normed_octets(l.cols, l.norm, stage == kQkvStage && is_first ? a.x : nullptr,
                  stage == kQkvStage ? a.exchange.input : a.exchange.middle, tag, shared.row, shared.codes,
                  shared.scales);
  }
}

// The block's part of a stage of a layer. All threads that compute call it. Each part reads again what it
// needs: values that are kept over the others would be spilled.
__device__ __forceinline__ void linear_stage(const PersistentArgs& a, BlockShared& block, uint8_t* shared,
                                             Place place, Slots& slots) {
  // Norms' weights that will be wanted soon after the row that they are of: a piece a block.
  if (place.stage() == kProjectStage && thread_here() == kComputeThreads - 1) {
    const uint32_t n = place.layer();
    prefetch_norm(block.layers[n].linears[kGateUpStage]);
    if (n + 1 != a.n_layers) prefetch_norm(block.layers[n + 1].linears[kQkvStage]);
  }
  if (place.here().share(block).n_tiles == 0) return;
  prepare_stage(a, block, stage_shared(a.stream, shared, block), place.here());
  {
    const StageShare& of_block = place.here().share(block);
    const WarpShare share = warp_share(of_block, place.here().stage() == kGateUpStage, thread_here() >> 5);
    const TensorType type = of_block.type;
    const bool one_tile = of_block.n_tiles == 1;
    const StageShared of_stage = stage_shared(a.stream, shared, block);
    compute_sync();
    if (place.here().index + 1 == a.n_layers * kLinearStages) {
      launch_dependents();
      // The next launch begins with these.
      const uint32_t at = thread_here() * kPrefetchChunk;
      if (blockIdx.x < a.prefetch.n_ranges && at < a.prefetch.bytes)
        prefetch_chunk(a.prefetch, blockIdx.x, at);
    }
    for_format(type, [&]<TensorType F>() {
      if (one_tile) {
        walk_items<F, 1>(block, of_block, share, of_stage, a.stream.n_slots, slots);
      } else {
        walk_items<F, 2>(block, of_block, share, of_stage, a.stream.n_slots, slots);
      }
    });
  }
  finish_stage(a, block, stage_shared(a.stream, shared, block), place.here());
  compute_sync();  // the words that all wait for do not queue behind this block's polling
}

// Arguments of the layer to come are there, and those of the layer before are not read any more. Nobody tells
// of a layer before all have told of the one before.
__device__ __forceinline__ void begin_layer(const PersistentArgs& a, BlockShared& block, uint32_t n) {
  if (n + 1 < a.n_layers) block.layers.wait(n + 1);
  if (n != 0) barrier_wait(&block.layer_begun, (n - 1) & 1);
  __syncwarp();
  if ((thread_here() & 31) == 0) barrier_arrive(&block.layer_begun);
}

// The block's items of a layer's attention.
template <uint32_t kDim>
__device__ __forceinline__ void attention_stage(const PersistentArgs& a, BlockShared& block, uint8_t* shared,
                                                uint32_t n) {
  auto& of_attention = *reinterpret_cast<DecodeShared*>(shared + a.stream.row_at);
  const StepAttention& step = block.step;
  const PersistentLayer& layer = block.layers[n];
  const uint32_t tag = block.first_tag + n;
#pragma unroll 1
  for (uint32_t i = 0; i < block.n_own; ++i) {
    const AttentionItem item = block.own[i];
    // Behind a barrier since what was there has been read.
    if (thread_here() == kComputeThreads - 32)
      fetch_pages<kDim>(a, layer, block.page_ids[i], item.kv_head, shared, &block.pages_ready);
    attend<kDim>(a, layer, step, item, block.page_ids[i], of_attention, shared, &block.pages_ready,
                 (n * block.n_own + i) & 1, tag);
  }
  if (thread_here() == 0) {
    // The loading warps have seen that the attention before this one was over.
    barrier_wait(&block.layer_begun, n & 1);
    barrier_arrive(&block.attention_over);
  }
  const AttentionItem item = block.own[0];
  if (step.n_splits > 1 && item.local_split == 0) merge_splits<kDim>(a, step, item, tag);
  compute_sync();  // as at the end of a linear stage
}
#endif

template <uint32_t kDim>
__global__ void __launch_bounds__(kStreamThreads, 1) stream_kernel(const __grid_constant__ PersistentArgs a) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ __align__(16) uint8_t block_bytes[sizeof(BlockShared)];
  BlockShared& block = *reinterpret_cast<BlockShared*>(block_bytes);
  const uint32_t tid = threadIdx.x;
  if (tid < LayerRing::kLayers) barrier_init(&block.layers.ready[tid]);
  if (tid < kTokenWarps * kMostSlots) {
    barrier_init(&block.set_ready[0][0] + tid);
    barrier_init(&block.set_read[0][0] + tid, 32);
  }
  if (tid == 0) {
    barrier_init(&block.layer_begun, kComputeWarps + kLoadingWarps);
    barrier_init(&block.attention_over);
    barrier_init(&block.pages_ready);
    // The step's words were there before its first kernel.
    const StepAttention step = step_attention(a);
    block.step = step;
    block.n_own = first_item() < step.n_items ? (step.n_items - first_item() - 1) / gridDim.x + 1 : 0;
  }
  __syncthreads();
  if (tid >= kComputeThreads) {
    load_layers(a, block.n_own != 0, block, shared);
    return;
  }
  const StepAttention& step = block.step;
  if (tid < block.n_own * kPages) {
    const AttentionItem item = item_at(step, first_item() + tid / kPages * gridDim.x);
    block.own[tid / kPages] = item;
    block.page_ids[tid / kPages][tid % kPages] = page_id(a, step, item, tid % kPages);
  }
  compute_sync();
  Slots slots = {0};
  block.layers.wait(0);
  wait_for_inputs();
  if (tid == 0) block.first_tag = __ldcg(a.exchange.epoch) + 1;
  compute_sync();
#pragma unroll 1
  for (Place place = {0}; place.index != a.n_layers * kLinearStages; ++place.index) {
    if (place.stage() == kQkvStage) begin_layer(a, block, place.here().layer());
    if (place.stage() == kProjectStage && block.n_own != 0)
      attention_stage<kDim>(a, block, shared, place.here().layer());
    linear_stage(a, block, shared, place, slots);
  }
  if (blockIdx.x == 0 && thread_here() == 0) *a.exchange.epoch = block.first_tag + a.n_layers;
#endif
}

}  // namespace

PersistentKernel streamed_kernel(uint32_t head_dim) {
  return head_dim == 64 ? stream_kernel<64> : stream_kernel<128>;
}

}  // namespace orcd::cuda
