// The persistent kernel through which weights stream (persistent.h), to each warp those that it works on, of
// all stages and layers. Rules N3, N4 and N5, in the same chains as the kernels of a step's launches.
#include "device/cuda/linear_token.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_attention.cuh"
#include "device/cuda/persistent_share.cuh"
#include "device/cuda/weight_prefetch.cuh"

namespace orcd::cuda {
namespace {

static_assert(kComputeThreads == kTokenThreads);
static_assert(sizeof(DecodeShared) <= kTokenWarps * kTokenSumBytes, "it lies where the sums do");

// What a warp reads of a stage: items, each one strip of a pair of tiles, every pair_step-th pair. Pairs of
// the gate, then as many of the up projection.
struct WarpShare {
  PersistentShare block;
  uint32_t n_pairs, of_gate;  // of_gate: pairs before those of the up projection
  uint32_t first_pair, pair_step;
  uint32_t strip, begin, end;  // units of the strip
};

// What a block has in shared memory besides StreamShared.
struct BlockShared {
  LayerRing layers;
  // All warps are in a layer, and read no arguments of the one before; the attention of a layer is over, and
  // sets may come where its pages were.
  uint64_t layer_begun, attention_over;
  uint64_t pages_ready;
  uint64_t set_ready[kTokenWarps][kMostSlots], set_read[kTokenWarps][kMostSlots];
  StepAttention step;
  uint32_t n_own;  // items of the block
  AttentionItem own[kMostItems];
  int32_t page_ids[kMostItems][kPages];
  float residual[kMostResiduals];
};

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ WarpShare warp_share(const PersistentLinear& l, bool glu, uint32_t warp) {
  WarpShare out;
  out.block = share_of(l, glu);
  const Segment& s = l.segments[out.block.segment];
  out.of_gate = (out.block.n_tiles + 1) / 2;
  out.n_pairs = out.of_gate * (glu ? 2 : 1);
  out.first_pair = warp >> s.strip_shift;
  out.pair_step = kTokenWarps >> s.strip_shift;
  out.strip = warp & (s.strips - 1);
  out.begin = (l.n_units * out.strip) >> s.strip_shift;
  out.end = (l.n_units * (out.strip + 1)) >> s.strip_shift;
  return out;
}
__device__ __forceinline__ PairData pair_at(const PersistentLinear& l, const WarpShare& share, uint32_t pair,
                                            uint32_t unit_bytes) {
  const bool up = pair >= share.of_gate;
  const uint32_t first = 2 * (up ? pair - share.of_gate : pair);  // tile of the share
  const Segment& s = l.segments[share.block.segment + (up ? 1 : 0)];
  PairData data;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    const uint64_t tile = share.block.first_tile + first + half;
    data.units[half] = first + half < share.block.n_tiles ? s.data + tile * l.n_units * unit_bytes : nullptr;
    data.super[half] = s.data + s.super_at + tile * s.super_stride;
  }
  return data;
}

// How many units the set that begins at a unit has: sets end where a multiple of so many units does, so that
// one piece of stream 2 serves them, or where the strip does.
__device__ __forceinline__ uint32_t units_from(uint32_t unit, uint32_t end, uint32_t units_of_set) {
  return min(end - unit, units_of_set - (unit & (units_of_set - 1)));
}

// The slots of a warp in turn.
struct Slots {
  uint32_t n, slot = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++slot == n) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// Asks L2 for a warp's first set of the projection, for which its slots have no room yet.
__device__ __forceinline__ void prefetch_first(const PersistentLinear& l, uint32_t warp) {
  const WarpShare share = warp_share(l, false, warp);
  if (share.first_pair >= share.n_pairs) return;
  const SetShape shape = l.sets[share.block.segment];
  const PairData data = pair_at(l, share, share.first_pair, shape.unit_bytes);
  const uint32_t bytes = units_from(share.begin, share.end, shape.units) * shape.unit_bytes;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    if (data.units[half]) prefetch_l2(data.units[half] + share.begin * shape.unit_bytes, bytes);
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
  Slots next = {a.stream.n_slots, 0, 1};  // parity 1: slots begin as read
  for (;;) {
    const bool fetches = unit != end && barrier_test(&block.set_read[warp][next.slot], next.parity);
    if (fetches) {
      const uint32_t n = units_from(unit, end, shape.units), bytes = n * shape.unit_bytes;
      uint64_t* ready = &block.set_ready[warp][next.slot];
      uint8_t* to = slots + next.slot * a.stream.slot_bytes;
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
      next.next();
    }
    if (__any_sync(~0u, fetches)) continue;
    // The next item.
    while (!over && unit == end) {
      if (layer == a.n_layers) {
        over = true;
        break;
      }
      const PersistentLinear& l = block.layers[layer].linears[stage];
      if (!has_share) {
        if (!block.layers.is_there(layer)) break;
        // The pages of a block that attends stand where the sets do.
        if (attends && stage == kProjectStage && !barrier_test(&block.attention_over, layer & 1)) break;
        share = warp_share(l, stage == kGateUpStage, warp);
        shape = l.sets[share.block.segment];
        pair = share.first_pair;
        has_share = true;
      }
      if (pair < share.n_pairs) {
        const PairData data = pair_at(l, share, pair, shape.unit_bytes);
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
          prefetch_first(block.layers[layer].linears[stage], warp);
        }
      }
    }
    __syncwarp();
    if (n_fetched < a.n_layers && (n_fetched < 2 || barrier_test(&block.layer_begun, n_fetched & 1))) {
      if (lane == 0) block.layers.fetch(a, n_fetched);
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
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) v[j] = row[octet * 8 + j] * inverse * weights.w[j];
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
  int32_t* sums;  // of the warp
  float *parts, *row, *residual;
  uint8_t* codes;
  float2* scales;
};
__device__ __forceinline__ StageShared stage_shared(const StreamShared& at, uint8_t* shared,
                                                    BlockShared& block) {
  StageShared out;
  out.slots = shared + (thread_here() >> 5) * at.slot_bytes * at.n_slots;
  out.slot_bytes = at.slot_bytes;
  out.sums = reinterpret_cast<int32_t*>(shared + at.sums_at + (thread_here() >> 5) * kTokenSumBytes);
  out.parts = reinterpret_cast<float*>(shared + at.parts_at);
  out.row = reinterpret_cast<float*>(shared + at.sums_at);
  out.residual = block.residual;
  out.codes = shared + at.codes_at;
  out.scales = reinterpret_cast<float2*>(shared + at.scales_at);
  return out;
}

// The warp's items of a stage into partial results, [tile of the block][strip][16 rows].
template <TensorType F>
__device__ __forceinline__ void walk_items(BlockShared& block, const PersistentLinear& l,
                                           const WarpShare& share, const StageShared& shared, Slots& slots) {
  using T = TokenSet<F>;
  const uint32_t warp = thread_here() >> 5, lane = thread_here() & 31, n_groups = l.n_groups;
  const uint32_t shift = l.segments[share.block.segment].strip_shift;
#pragma unroll 1
  for (uint32_t pair = share.first_pair; pair < share.n_pairs; pair += share.pair_step) {
    float acc = 0.0f;
#pragma unroll 1
    for (uint32_t unit = share.begin; unit < share.end;) {
      const uint32_t n = units_from(unit, share.end, T::kUnits);
      barrier_wait(&block.set_ready[warp][slots.slot], slots.parity);
      SetRegisters<F> set;
      load_set<F>(shared.slots + slots.slot * shared.slot_bytes, lane, &set);
      __syncwarp();
      barrier_arrive(&block.set_read[warp][slots.slot]);
      slots.next();
      sum_set<F>(unit, set, shared.codes, lane, shared.sums);
      __syncwarp();  // the sums are there
      acc = chain_set<F>(set, min(2 * n, n_groups - 2 * unit), shared.scales + 2 * unit, shared.sums + lane,
                         acc);
      __syncwarp();  // the sums have been read
      unit += n;
    }
    shared.parts[(((2 * pair + lane / 16) << shift) + share.strip) * kTileRows + lane % 16] = acc;
  }
}

// The strips of kN rows, whose partial results stand `apart` floats from each other, folded left.
template <uint32_t kN>
__device__ __forceinline__ void fold_rows(const float* part, uint32_t apart, uint32_t strips,
                                          float (&y)[kN]) {
  constexpr uint32_t kBatch = 8;  // whose loads are on their way together
#pragma unroll
  for (uint32_t r = 0; r < kN; ++r) y[r] = part[r * apart];
#pragma unroll 1
  for (uint32_t first = 1; first < strips; first += kBatch) {
    float v[kN][kBatch];
#pragma unroll
    for (uint32_t r = 0; r < kN; ++r) {
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i)
        v[r][i] = part[r * apart + min(first + i, strips - 1) * kTileRows];
    }
#pragma unroll
    for (uint32_t r = 0; r < kN; ++r) {
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        const float next = __fadd_rn(y[r], v[r][i]);
        y[r] = first + i < strips ? next : y[r];
      }
    }
  }
}

// Outputs of the block's tiles, a thread a row; gate and up: a warp the 32 rows of a group.
__device__ __forceinline__ void finish_stage(const PersistentArgs& a, const PersistentLinear& l,
                                             uint32_t stage, bool is_last, const PersistentShare& share,
                                             const StageShared& shared, uint32_t tag) {
  const Segment& s = l.segments[share.segment];
  const uint32_t first_row = share.first_tile * kTileRows, n_rows = share.n_tiles * kTileRows;
  const uint32_t strips = s.strips, shift = s.strip_shift, rows = s.rows;
  if (stage == kGateUpStage) {
#pragma unroll 1
    for (uint32_t i = thread_here(); i < n_rows; i += kComputeThreads) {
      float y[2];  // of the gate and of the up projection
      fold_rows(shared.parts + (i / kTileRows << shift) * kTileRows + i % kTileRows, n_rows << shift, strips,
                y);
      publish_group(a.exchange.gated, rows / 32, (first_row + i) / 32,
                    gated_in_line(l.activation, y[0], y[1]), tag);
    }
    return;
  }
#pragma unroll 1
  for (uint32_t i = thread_here(); i < n_rows; i += kComputeThreads) {
    const uint32_t row = first_row + i;
    if (row >= rows) return;
    const float bias = s.bias ? __ldg(s.bias + row) : 0.0f;
    float y[1];
    fold_rows(shared.parts + (i / kTileRows << shift) * kTileRows + i % kTileRows, 0, strips, y);
    if (s.bias) y[0] = __fadd_rn(y[0], bias);
    if (stage != kQkvStage) {
      y[0] = __fadd_rn(shared.residual[i], __fmul_rn(y[0], l.scale));
      shared.residual[i] = y[0];
    }
    if (stage == kDownStage && is_last) {
      a.x[row] = y[0];
    } else {
      publish(l.outputs[share.segment] + row, y[0], stage == kDownStage ? tag + 1 : tag);
    }
  }
}

// Asks L2 for the block's piece of a norm's weights.
__device__ __forceinline__ void prefetch_norm(const PersistentLinear& l) {
  const uint32_t bytes = ((l.cols * 4 + gridDim.x - 1) / gridDim.x + 127) / 128 * 128,
                 from = blockIdx.x * bytes;
  if (from < l.cols * 4)
    prefetch_l2(reinterpret_cast<const uint8_t*>(l.norm.weight) + from, min(bytes, l.cols * 4 - from));
}

// The block's part of a stage of layer n. All threads that compute call it. Each part reads again what it
// needs: values that are kept over the others would be spilled.
__device__ __forceinline__ void linear_stage(const PersistentArgs& a, BlockShared& block, uint8_t* shared,
                                             uint32_t n, uint32_t stage, uint32_t tag, Slots& slots) {
  const bool is_first = n == 0, is_last = n + 1 == a.n_layers;
  const PersistentLinear& l = block.layers[n].linears[stage];
  const WarpShare share = warp_share(l, stage == kGateUpStage, thread_here() >> 5);
  const TensorType type = l.types[share.block.segment];
  {
    const uint32_t tid = thread_here();
    // Norms' weights that will be wanted soon after the row that they are of: a piece a block.
    if (stage == kProjectStage && tid == kComputeThreads - 1) {
      prefetch_norm(block.layers[n].linears[kGateUpStage]);
      if (!is_last) prefetch_norm(block.layers[(n + 1)].linears[kQkvStage]);
    }
    if (share.block.n_tiles == 0) return;
    if (stage == kProjectStage && is_first) {
      const uint32_t row = share.block.first_tile * kTileRows + tid;
      if (tid < share.block.n_tiles * kTileRows && row < l.segments[0].rows)
        block.residual[tid] = __ldcg(a.x + row);
    }
    const StageShared of_stage = stage_shared(a.stream, shared, block);
    if (stage == kProjectStage || stage == kDownStage) {
      quantized_words(l.n_groups, stage == kDownStage ? a.exchange.gated : a.exchange.attention, tag,
                      of_stage.codes, of_stage.scales);
    } else {
      normed_octets(l.cols, l.norm, stage == kQkvStage && is_first ? a.x : nullptr,
                    stage == kQkvStage ? a.exchange.input : a.exchange.middle, tag, of_stage.row,
                    of_stage.codes, of_stage.scales);
    }
  }
  compute_sync();
  if (is_last && stage == kDownStage) {
    launch_dependents();
    // The next launch begins with these.
    const uint32_t at = thread_here() * kPrefetchChunk;
    if (blockIdx.x < a.prefetch.n_ranges && at < a.prefetch.bytes) prefetch_chunk(a.prefetch, blockIdx.x, at);
  }
  {
    const StageShared of_stage = stage_shared(a.stream, shared, block);
    for_format(type, [&]<TensorType F>() { walk_items<F>(block, l, share, of_stage, slots); });
  }
  compute_sync();
  finish_stage(a, l, stage, is_last, share.block, stage_shared(a.stream, shared, block), tag);
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
  const bool attends = block.n_own != 0;
  if (tid >= kComputeThreads) {
    load_layers(a, attends, block, shared);
    return;
  }
  const StepAttention& step = block.step;
  if (tid < block.n_own * kPages) {
    const AttentionItem item = item_at(step, first_item() + tid / kPages * gridDim.x);
    block.own[tid / kPages] = item;
    block.page_ids[tid / kPages][tid % kPages] = page_id(a, step, item, tid % kPages);
  }
  compute_sync();
  auto& of_attention = *reinterpret_cast<DecodeShared*>(shared + a.stream.sums_at);
  Slots slots = {a.stream.n_slots};
  block.layers.wait(0);
  wait_for_inputs();
  const uint32_t first_tag = __ldcg(a.exchange.epoch) + 1;
#pragma unroll 1
  for (uint32_t n = 0; n < a.n_layers; ++n) {
    // Arguments of the layer to come are there, and those of the layer before are not read any more. Nobody
    // tells of a layer before all have told of the one before.
    if (n + 1 < a.n_layers) block.layers.wait(n + 1);
    if (n != 0) barrier_wait(&block.layer_begun, (n - 1) & 1);
    __syncwarp();
    if ((thread_here() & 31) == 0) barrier_arrive(&block.layer_begun);
    const uint32_t tag = first_tag + n;
#pragma unroll 1
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      if (stage == kProjectStage && attends) {
        const PersistentLayer& layer = block.layers[n];
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
      }
      linear_stage(a, block, shared, n, stage, tag, slots);
    }
  }
  if (blockIdx.x == 0 && tid == 0) *a.exchange.epoch = first_tag + a.n_layers;
#endif
}

}  // namespace

PersistentKernel streamed_kernel(uint32_t head_dim) {
  return head_dim == 64 ? stream_kernel<64> : stream_kernel<128>;
}

}  // namespace orcd::cuda
