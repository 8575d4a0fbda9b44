// The attention of the persistent kernels (persistent.h, rule N4): a block takes one split of one or two
// query heads of a KV head at a time.
#pragma once

#include "device/cuda/attention_page.cuh"
#include "device/cuda/exchange.cuh"
#include "device/cuda/persistent.h"

namespace orcd::cuda {

static_assert(sizeof(DecodeShared) <= kAttentionShared && kHeads == kPersistentQueries);

// What a block knows of a step's attention: all layers have the same window.
struct StepAttention {
  uint32_t position, begin, first_split, n_splits;
  // Items: the splits of each query, which is one or two heads of a KV head: the fewer, the sooner it is
  // done.
  uint32_t heads, n_queries, chunks, n_items;
};
// The splits of a query are n_queries items apart; local_split: counted from the first.
struct AttentionItem {
  uint32_t local_split, kv_head, chunk;
};

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ StepAttention step_attention(const PersistentArgs& a) {
  StepAttention step;
  step.position = static_cast<uint32_t>(__ldcg(a.step.position));
  step.begin = numerics::first_visible(step.position, a.window);
  step.first_split = step.begin / kSplitKeys;
  step.n_splits = step.position / kSplitKeys - step.first_split + 1;
  step.heads = a.n_heads * step.n_splits <= a.n_attending ? 1 : kHeads;
  step.chunks = (a.n_heads / a.n_kv_heads + step.heads - 1) / step.heads;
  step.n_queries = a.n_kv_heads * step.chunks;
  step.n_items = step.n_queries * step.n_splits;
  return step;
}
// The first item of a block: the last blocks attend, which have less to do in the linear stages.
__device__ __forceinline__ uint32_t first_item() { return gridDim.x - 1 - blockIdx.x; }
__device__ __forceinline__ uint32_t items_of_block(const StepAttention& step) {
  return first_item() < step.n_items ? (step.n_items - first_item() - 1) / gridDim.x + 1 : 0;
}
__device__ __forceinline__ AttentionItem item_at(const StepAttention& step, uint32_t index) {
  const uint32_t query = index % step.n_queries;
  return {index / step.n_queries, query / step.chunks, query % step.chunks};
}
// A page of an item; -1 where nothing is visible.
__device__ __forceinline__ int32_t page_id(const PersistentArgs& a, const StepAttention& step,
                                           const AttentionItem& item, uint32_t page_of_split) {
  const uint32_t page = (step.first_split + item.local_split) * kPages + page_of_split;
  if (page < step.begin / kPageKeys || page > step.position / kPageKeys) return -1;
  return __ldcg(a.step.pages + static_cast<uint64_t>(__ldcg(a.step.sequence)) * a.step.page_stride + page);
}

// Keys and then values of a page of a KV head.
template <uint32_t kDim>
inline constexpr uint32_t kPageBytes = 2 * kDim* kPageKeys * 2;
template <uint32_t kDim>
__device__ __forceinline__ uint16_t* page_data(const PersistentArgs& a, const PersistentLayer& layer,
                                               int32_t page_id, uint32_t kv_head) {
  return layer.pages + (static_cast<uint64_t>(page_id) * a.n_kv_heads + kv_head) * 2 * kDim * kPageKeys;
}

// Starts the copy of the pages of an item; page_ids: of its split, -1 where nothing is visible.
template <uint32_t kDim>
__device__ __forceinline__ void fetch_pages(const PersistentArgs& a, const PersistentLayer& layer,
                                            const int32_t* page_ids, uint32_t kv_head, uint8_t* slot,
                                            uint64_t* barrier) {
  constexpr uint32_t kBytes = kPageBytes<kDim>;
  uint32_t n = 0;
#pragma unroll
  for (uint32_t page = 0; page < kPages; ++page) n += page_ids[page] >= 0 ? 1 : 0;
  barrier_expect(barrier, n * kBytes);
#pragma unroll 1
  for (uint32_t page = 0; page < kPages; ++page) {
    if (page_ids[page] < 0) continue;
    bulk_copy(slot + page * kBytes, page_data<kDim>(a, layer, page_ids[page], kv_head), kBytes, barrier);
  }
}

// An item of a layer's attention, whose pages are in their slot when `ready` comes to `parity`: published
// where it is all of its query, or else to be merged. Ends with the barrier of those that compute, behind
// which other pages may come.
template <uint32_t kDim>
__device__ __forceinline__ void attend(const PersistentArgs& a, const PersistentLayer& layer,
                                       const StepAttention& step, const AttentionItem& item,
                                       const int32_t* page_ids, DecodeShared& s, uint8_t* slot,
                                       uint64_t* ready, uint32_t parity, uint32_t tag) {
  constexpr uint32_t kBytes = kPageBytes<kDim>, kOutputs = kHeads * kDim;
  const PersistentExchange& words = a.exchange;
  const uint32_t tid = thread_here(), warp = __shfl_sync(~0u, tid >> 5, 0), lane = tid & 31;
  const uint32_t per_kv = a.n_heads / a.n_kv_heads, kv_head = item.kv_head, local_split = item.local_split;
  const uint32_t first_head = kv_head * per_kv + item.chunk * step.heads;
  const uint32_t n_heads = min(step.heads, (kv_head + 1) * per_kv - first_head);
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
  for (uint32_t i = tid; i < r.n_dims / 2; i += kComputeThreads) s.angles[i] = __ldg(angles + i);
  for (uint32_t d = tid; d < kDim; d += kComputeThreads) {
    if (layer.q_norm) s.q_norm[d] = __ldg(layer.q_norm + d);
    if (layer.k_norm) s.k_norm[d] = __ldg(layer.k_norm + d);
  }
  compute_sync();
  // The heads, a warp each: one or two of q, one of k, one of v.
  const bool is_q = warp < kHeads;
  if (is_q ? warp < n_heads : warp < kHeads + 2) {
    float* mine = is_q ? s.q[warp] : warp == kHeads ? s.k : s.v;
    const uint64_t* from =
        is_q ? words.q + (first_head + warp) * kDim : (warp == kHeads ? words.k : words.v) + kv_head * kDim;
    float value[kDim / 32];
    poll<kDim / 32>([&](uint32_t i) { return from + lane + 32 * i; }, kDim / 32, tag, value);
#pragma unroll
    for (uint32_t i = 0; i < kDim / 32; ++i) mine[lane + 32 * i] = value[i];
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
    uint16_t* k = reinterpret_cast<uint16_t*>(slot + new_page * kBytes);
    uint16_t* v = k + kDim * kPageKeys;
    if (tid < kDim) {
      const uint16_t key = numerics::float_to_half(s.k[tid]), value = numerics::float_to_half(s.v[tid]);
      k[tid * kPageKeys + new_key] = key;
      v[new_key * kDim + tid] = value;
      if (item.chunk == 0) {
        uint16_t* page = page_data<kDim>(a, layer, page_ids[new_page], kv_head);
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
  const uint32_t scored_page = warp % kPages, scored_head = warp / kPages;
  const bool scores = scored_head < n_heads && scored_page >= first_page && scored_page < end_page;
  if (scores) {
    float2 score[1] = {};
    page_scores<kDim, 1>(s, slot + scored_page * kBytes, kDim, scored_head, score);
    page_maximum(s, score, scored_head, scored_page, first_of(scored_page), last_of(scored_page));
  }
  compute_sync();
  if (scores) {
    page_weights<1>(s, scored_head, scored_page, first_of(scored_page), last_of(scored_page), first_page);
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
      const uint16_t* v = reinterpret_cast<const uint16_t*>(slot + page * kBytes) + kDim * kPageKeys;
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
}

// The splits of an item's query, by the block that has its first one.
template <uint32_t kDim>
__device__ __forceinline__ void merge_splits(const PersistentArgs& a, const StepAttention& step,
                                             const AttentionItem& item, uint32_t tag) {
  const PersistentExchange& words = a.exchange;
  const uint32_t per_kv = a.n_heads / a.n_kv_heads,
                 first_head = item.kv_head * per_kv + item.chunk * step.heads;
  const uint32_t tid = thread_here(), head = tid / kDim, d = tid % kDim;
  if (head >= step.heads || first_head + head >= (item.kv_head + 1) * per_kv) return;
  const uint64_t* partial =
      words.partial + (static_cast<uint64_t>(first_head + head) * a.max_splits) * (kDim + 2);
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
#endif

}  // namespace orcd::cuda
