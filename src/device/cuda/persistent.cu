// See persistent.h. Rules N3, N4 and N5, in the same chains as the kernels of a step's launches.
#include <algorithm>

#include "device/cuda/attention_page.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_exchange.cuh"
#include "device/cuda/persistent_linear.cuh"
#include "device/cuda/weight_prefetch.cuh"

namespace orcd::cuda {
namespace {

static_assert(sizeof(DecodeShared) <= kAttentionShared && kHeads == kPersistentQueries);

// Layers whose arguments are in shared memory: this one, the next, and one on its way.
constexpr uint32_t kRing = 3;

// What a block knows of a step's attention: all layers have the same window.
struct StepAttention {
  uint32_t position, begin, first_split, n_splits;
  // The block's item: a split, counted from the first, and two query heads of a KV head.
  bool attends;
  uint32_t local_split, kv_head, chunk;
};

// What a block has in shared memory besides PersistentShared.
struct BlockShared {
  PersistentLayer layers[kRing];  // layer n at n % kRing
  uint64_t layer_ready[kRing];
  // Of the linear stages, and last of the attention.
  uint64_t ready[kLinearStages + 1];
  int32_t page_ids[kPages];
  float residual[kMostResiduals];
};

#if __CUDA_ARCH__ >= 900
// The last blocks attend, an item each.
__device__ __forceinline__ StepAttention step_attention(const PersistentArgs& a) {
  StepAttention step;
  step.position = static_cast<uint32_t>(__ldcg(a.step.position));
  step.begin = numerics::first_visible(step.position, a.window);
  step.first_split = step.begin / kSplitKeys;
  step.n_splits = step.position / kSplitKeys - step.first_split + 1;
  const uint32_t chunks = (a.n_heads / a.n_kv_heads + kHeads - 1) / kHeads, queries = a.n_kv_heads * chunks;
  const uint32_t first_block = gridDim.x - queries * step.n_splits;
  step.attends = blockIdx.x >= first_block;
  const uint32_t item = blockIdx.x - first_block, query = item % queries;
  step.local_split = item / queries;
  step.kv_head = query / chunks;
  step.chunk = query % chunks;
  return step;
}

// Starts the copy of the pages of an item; page_ids: of its split, -1 where nothing is visible.
template <uint32_t kDim>
__device__ __forceinline__ void fetch_pages(const PersistentArgs& a, const PersistentLayer& layer,
                                            const int32_t* page_ids, uint32_t kv_head, uint8_t* slot,
                                            uint64_t* barrier) {
  constexpr uint32_t kBytes = 2 * kDim * kPageKeys * 2;
  uint32_t n = 0;
#pragma unroll
  for (uint32_t page = 0; page < kPages; ++page) n += page_ids[page] >= 0 ? 1 : 0;
  barrier_expect(barrier, n * kBytes);
#pragma unroll 1
  for (uint32_t page = 0; page < kPages; ++page) {
    if (page_ids[page] < 0) continue;
    const uint64_t at =
        (static_cast<uint64_t>(page_ids[page]) * a.n_kv_heads + kv_head) * 2 * kDim * kPageKeys;
    bulk_copy(slot + page * kBytes, layer.pages + at, kBytes, barrier);
  }
}

// A block's item of a layer's attention: one split of two query heads of a KV head. s lies where the links of
// the linear stages do.
template <uint32_t kDim>
__device__ __forceinline__ void attention_stage(const PersistentArgs& a, const PersistentLayer& layer,
                                                const StepAttention& step, const int32_t* page_ids,
                                                DecodeShared& s, uint8_t* slot, uint64_t* ready,
                                                uint32_t parity, uint32_t tag) {
  constexpr uint32_t kPageBytes = 2 * kDim * kPageKeys * 2, kOutputs = kHeads * kDim;
  const PersistentExchange& words = a.exchange;
  const uint32_t tid = threadIdx.x, warp = __shfl_sync(~0u, tid >> 5, 0), lane = tid & 31;
  const uint32_t per_kv = a.n_heads / a.n_kv_heads, kv_head = step.kv_head, local_split = step.local_split;
  const uint32_t first_head = kv_head * per_kv + step.chunk * kHeads;
  const uint32_t n_heads = min(kHeads, (kv_head + 1) * per_kv - first_head);
  const uint32_t split = step.first_split + local_split, base = split * kSplitKeys;
  const uint32_t end = step.position + 1;
  const uint32_t first_page = step.begin > base ? (step.begin - base) / kPageKeys : 0;
  const uint32_t end_page = min(kPages, (end - base + kPageKeys - 1) / kPageKeys);
  const bool has_new = step.position / kSplitKeys == split;
  const uint32_t new_page = step.position % kSplitKeys / kPageKeys, new_key = step.position % kPageKeys;

  RopeArgs r = {};
  r.head_dim = kDim;
  r.n_dims = layer.n_dims;
  r.halves = layer.halves;
  r.eps = layer.qk_eps;
  r.scale = layer.q_scale;
  r.table = layer.rope_table;
  const float2* angles = angles_of(r, step.position);
  for (uint32_t i = tid; i < r.n_dims / 2; i += kPersistentThreads) s.angles[i] = __ldg(angles + i);
  for (uint32_t d = tid; d < kDim; d += kPersistentThreads) {
    if (layer.q_norm) s.q_norm[d] = __ldg(layer.q_norm + d);
    if (layer.k_norm) s.k_norm[d] = __ldg(layer.k_norm + d);
  }
  compute_sync();
  // The heads, a warp each: two of q, one of k, one of v.
  if (warp < kHeads + 2) {
    const bool is_q = warp < kHeads;
    float* mine = is_q ? s.q[warp] : warp == kHeads ? s.k : s.v;
    if (!is_q || warp < n_heads) {
      const uint64_t* from =
          is_q ? words.q + (first_head + warp) * kDim : (warp == kHeads ? words.k : words.v) + kv_head * kDim;
      float value[kDim / 32];
      poll<kDim / 32>([&](uint32_t i) { return from + lane + 32 * i; }, kDim / 32, tag, value);
#pragma unroll
      for (uint32_t i = 0; i < kDim / 32; ++i) mine[lane + 32 * i] = value[i];
    } else {
      for (uint32_t d = lane; d < kDim; d += 32) mine[d] = 0.0f;
    }
    __syncwarp();
    if (is_q) {
      finish_head(r, mine, layer.q_norm ? s.q_norm : nullptr, s.angles);
      for (uint32_t d = lane; d < kDim; d += 32) mine[d] = mine[d] * r.scale;
    } else if (warp == kHeads) {
      finish_head(r, mine, layer.k_norm ? s.k_norm : nullptr, s.angles);
    }
  }
  barrier_wait(ready, parity);
  compute_sync();
  if (has_new) {
    uint16_t* k = reinterpret_cast<uint16_t*>(slot + new_page * kPageBytes);
    uint16_t* v = k + kDim * kPageKeys;
    if (tid < kDim) {
      const uint16_t key = numerics::float_to_half(s.k[tid]), value = numerics::float_to_half(s.v[tid]);
      k[tid * kPageKeys + new_key] = key;
      v[new_key * kDim + tid] = value;
      if (step.chunk == 0) {
        uint16_t* page = layer.pages + (static_cast<uint64_t>(page_ids[new_page]) * a.n_kv_heads + kv_head) *
                                           2 * kDim * kPageKeys;
        page[tid * kPageKeys + new_key] = key;
        page[(kPageKeys + new_key) * kDim + tid] = value;
      }
    }
    compute_sync();
  }
  const auto first_of = [&](uint32_t page) {
    const uint32_t page_base = base + page * kPageKeys;
    return step.begin > page_base ? min(step.begin - page_base, kPageKeys) : 0;
  };
  const auto last_of = [&](uint32_t page) {
    return page < end_page ? min(end - base - page * kPageKeys, kPageKeys) : 0;
  };
  if (warp < kHeads * kPages) {
    const uint32_t page = warp % kPages, head = warp / kPages;
    float2 score[1] = {};
    if (page >= first_page && page < end_page)
      page_scores<kDim, 1>(s, slot + page * kPageBytes, kDim, head, score);
    page_softmax(s, score, head, page, first_of(page), last_of(page), first_page, [] { compute_sync(); });
  } else {
    compute_sync();  // of page_softmax
  }
  compute_sync();
  const bool direct = step.n_splits == 1;
  const uint32_t head = tid / kDim, d = tid % kDim;
  const bool mine = tid < kOutputs && head < n_heads;
  uint64_t* partial = words.partial + (static_cast<uint64_t>(first_head + head) * a.max_splits) * (kDim + 2);
  if (mine) {
    float o[1] = {0.0f};
#pragma unroll 1
    for (uint32_t page = first_page; page < end_page; ++page) {
      const uint16_t* v = reinterpret_cast<const uint16_t*>(slot + page * kPageBytes) + kDim * kPageKeys;
      page_values<1>(s, v + d, kDim, head, page, first_of(page), last_of(page), o);
    }
    const numerics::SoftmaxState state = split_state(s, head, first_page, end_page);
    if (direct) {
      publish_group(words.attention, a.n_heads * kDim / 32, ((first_head + head) * kDim + d) / 32,
                    o[0] * (1.0f / state.sum), tag);
    } else {
      uint64_t* to = partial + local_split * (kDim + 2);
      publish(to + d, o[0], tag);
      if (d == 0) {
        publish(to + kDim, state.max, tag);
        publish(to + kDim + 1, state.sum, tag);
      }
    }
  }
  fence_async_shared();  // the new key and value were written where the next pages go
  compute_sync();
  tell_loader(kLinearStages);
  // The first block of a head merges.
  if (!direct && local_split == 0 && mine) {
    constexpr uint32_t kBatch = 4;
    float o = 0.0f;
    numerics::SoftmaxState state = {0.0f, 0.0f};
#pragma unroll 1
    for (uint32_t first = 0; first < step.n_splits; first += kBatch) {
      const uint32_t n = min(kBatch, step.n_splits - first);
      const uint64_t* from = partial + first * (kDim + 2);
      float word[3 * kBatch];  // element, maximum and sum of each
      poll<3 * kBatch>(
          [&](uint32_t i) { return from + i / 3 * (kDim + 2) + (i % 3 == 0 ? d : kDim + i % 3 - 1); }, 3 * n,
          tag, word);
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        if (i >= n) break;
        const float part = word[3 * i], max = word[3 * i + 1], sum = word[3 * i + 2];
        if (first + i == 0) {
          state = {max, sum};
          o = part;
          continue;
        }
        merge_split(&state, &o, max, sum, part);
      }
    }
    publish_group(words.attention, a.n_heads * kDim / 32, ((first_head + head) * kDim + d) / 32,
                  o * (1.0f / state.sum), tag);
  }
}

// One warp has the weights, the pages and the layers' arguments on their way, as soon as what they replace
// has been read. Its first lane starts the copies.
template <uint32_t kDim>
__device__ __forceinline__ void load_layers(const PersistentArgs& a, const StepAttention& step,
                                            BlockShared& block, uint8_t* shared) {
  const bool starts = threadIdx.x % 32 == 0;
  const auto fetch_layer = [&](uint32_t n) {
    if (n >= a.n_layers || !starts) return;
    barrier_expect(&block.layer_ready[n % kRing], sizeof(PersistentLayer));
    bulk_copy(&block.layers[n % kRing], a.layers + n, sizeof(PersistentLayer), &block.layer_ready[n % kRing]);
  };
  fetch_layer(0);
  fetch_layer(1);
#pragma unroll 1
  for (uint32_t n = 0; n <= a.n_layers; ++n) {
    const PersistentLayer& layer = block.layers[n % kRing];
    const bool is_layer = n < a.n_layers;
    if (is_layer) barrier_wait(&block.layer_ready[n % kRing], n / kRing & 1);
    if (n + 1 == a.n_layers && blockIdx.x < a.prefetch.n_ranges && starts) {
      // The memory has little else to do, and the next launch begins with these.
      for (uint32_t at = 0; at < a.prefetch.bytes; at += kPrefetchChunk)
        prefetch_chunk(a.prefetch, blockIdx.x, at);
    }
#pragma unroll 1
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      __syncwarp();
      // The layer before has read its weights of this stage.
      if (n != 0) wait_for_readers(stage);
      // Then nobody reads the arguments of the layer before that.
      if (stage == kQkvStage && n != 0) fetch_layer(n + 1);
      if (is_layer && starts)
        fetch_share(layer.linears[stage], stage, shared + a.shared.slots_at[stage], &block.ready[stage]);
      if (stage == kQkvStage && step.attends) {
        if (n == 0) {
          wait_for_inputs();  // the pages are those of steps before
        } else {
          __syncwarp();
          wait_for_readers(kLinearStages);
        }
        if (is_layer && starts) {
          fetch_pages<kDim>(a, layer, block.page_ids, step.kv_head, shared + a.shared.pages_at,
                            &block.ready[kLinearStages]);
        }
      }
    }
  }
}
#endif

template <uint32_t kDim>
__global__ void __launch_bounds__(kPersistentThreads + 32, 1)
    persistent_kernel(const __grid_constant__ PersistentArgs a) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ __align__(16) uint8_t block_bytes[sizeof(BlockShared)];
  BlockShared& block = *reinterpret_cast<BlockShared*>(block_bytes);
  const uint32_t tid = threadIdx.x;
  if (tid <= kLinearStages) barrier_init(&block.ready[tid]);
  if (tid < kRing) barrier_init(&block.layer_ready[tid]);
  // The step's words were there before its first kernel.
  const StepAttention step = step_attention(a);
  if (step.attends && tid < kPages) {
    const uint32_t page = (step.first_split + step.local_split) * kPages + tid;
    const bool visible = page >= step.begin / kPageKeys && page <= step.position / kPageKeys;
    block.page_ids[tid] =
        visible ? __ldcg(a.step.pages + static_cast<uint64_t>(__ldcg(a.step.sequence)) * a.step.page_stride +
                         page)
                : -1;
  }
  __syncthreads();
  if (tid >= kPersistentThreads) {
    load_layers<kDim>(a, step, block, shared);
    __syncthreads();
    return;
  }
  wait_for_inputs();
  const uint32_t first_tag = __ldcg(a.exchange.epoch) + 1;
  const StageShared stage_shared = {shared, a.shared, block.residual};
#pragma unroll 1
  for (uint32_t n = 0; n < a.n_layers; ++n) {
    barrier_wait(&block.layer_ready[n % kRing], n / kRing & 1);
    const PersistentLayer& layer = block.layers[n % kRing];
    const uint32_t tag = first_tag + n;
#pragma unroll 1
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      // The links of q, k and v have been read before others come in their place.
      if (stage == kProjectStage) compute_sync();
      if (stage == kProjectStage && step.attends) {
        attention_stage<kDim>(a, layer, step, block.page_ids,
                              *reinterpret_cast<DecodeShared*>(shared + a.shared.links_at),
                              shared + a.shared.pages_at, &block.ready[kLinearStages], n & 1, tag);
      }
      if (n + 1 == a.n_layers && stage == kDownStage) launch_dependents();
      linear_stage(a, layer.linears[stage], stage, n == 0, n + 1 == a.n_layers, tag, &block.ready[stage],
                   n & 1, stage_shared);
    }
  }
  if (blockIdx.x == 0 && tid == 0) *a.exchange.epoch = first_tag + a.n_layers;
  __syncthreads();  // nobody leaves before the loading warp has been at the last barriers
#endif
}

using PersistentKernel = void (*)(PersistentArgs);

PersistentKernel kernel_for(uint32_t head_dim) {
  return head_dim == 64 ? persistent_kernel<64> : persistent_kernel<128>;
}

}  // namespace

void prepare_persistent(Calls* calls) {
  for (const uint32_t head_dim : {64u, 128u})
    calls->allow_shared(reinterpret_cast<const void*>(kernel_for(head_dim)), kMostPersistentShared);
}

void launch_persistent(Calls* calls, uint32_t n_blocks, const PersistentArgs& args) {
  LaunchShape shape;
  shape.grid = dim3(n_blocks);
  shape.block = dim3(kPersistentThreads + 32);
  shape.shared_bytes = args.shared.bytes;
  shape.together = true;
  calls->launch("layers, one token", kernel_for(args.head_dim), shape, args);
}

}  // namespace orcd::cuda
