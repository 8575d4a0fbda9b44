// The attention of the persistent kernels (persistent.h, rule N4): a block takes one split of one or two
// query heads of a KV head at a time.
#pragma once

#include "device/cuda/attention_heads.cuh"
#include "device/cuda/exchange.cuh"
#include "device/cuda/persistent.h"

namespace orcd::cuda {

// What a block shares of an item: heads of q, and room for norms of heads; weights of the split, and what is
// known of half pages and pages.
struct AttentionShared {
  static constexpr uint32_t kMostDim = 128;
  float q[kPersistentQueries][kMostDim];
  float scratch[kPersistentQueries + 2][kMostDim];
  float p[kPersistentQueries][kSplitKeys];
  float half_max[kPersistentQueries][2 * kPages];
  float correction[kPersistentQueries][kPages];
  float inverse[kPersistentQueries];  // 1 / sum
};
static_assert(sizeof(AttentionShared) <= kAttentionShared);

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
  step.heads = a.n_heads * step.n_splits <= a.n_attending ? 1 : kPersistentQueries;
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

// A head of q or k by one warp: a lane has pairs of elements that rotate together, or of those that do not.
// Pair i of a head, of which the first n_rotated rotate.
__device__ __forceinline__ uint2 pair_elements(uint32_t i, uint32_t n_rotated, bool halves) {
  return halves && i < n_rotated ? make_uint2(i, i + n_rotated) : make_uint2(2 * i, 2 * i + 1);
}
template <uint32_t kDim>
struct HeadPairs {
  static constexpr uint32_t kPairs = kDim / 64;
  uint2 at[kPairs];
  float2 x[kPairs];
};

// Waits for a head's words, then its norm and rotation. weight: of the norm, or nullptr; angles: of the
// position, [n_rotated]; scratch: [kDim] in shared memory, used where there is a norm. What does not depend
// on the words is loaded before they are there. Whole warps.
template <uint32_t kDim>
__device__ __forceinline__ void receive_head(const uint64_t* words, uint32_t tag, const float* weight,
                                             float eps, uint32_t n_rotated, bool halves, const float2* angles,
                                             float* scratch, HeadPairs<kDim>& head) {
  constexpr uint32_t kPairs = HeadPairs<kDim>::kPairs;
  const uint32_t lane = thread_here() & 31;
  float2 angle[kPairs], w[kPairs];
#pragma unroll
  for (uint32_t m = 0; m < kPairs; ++m) {
    const uint32_t i = lane + 32 * m;
    head.at[m] = pair_elements(i, n_rotated, halves);
    angle[m] = i < n_rotated ? __ldg(angles + i) : make_float2(1.0f, 0.0f);
    w[m] = weight ? make_float2(__ldg(weight + head.at[m].x), __ldg(weight + head.at[m].y))
                  : make_float2(1.0f, 1.0f);
  }
  float value[2 * kPairs];
  poll<2 * kPairs>([&](uint32_t j) { return words + (j % 2 == 0 ? head.at[j / 2].x : head.at[j / 2].y); },
                   2 * kPairs, tag, value);
#pragma unroll
  for (uint32_t m = 0; m < kPairs; ++m) head.x[m] = make_float2(value[2 * m], value[2 * m + 1]);
  if (weight) {
#pragma unroll
    for (uint32_t m = 0; m < kPairs; ++m) {
      scratch[head.at[m].x] = head.x[m].x;
      scratch[head.at[m].y] = head.x[m].y;
    }
    __syncwarp();
    float sums[8] = {};
#pragma unroll
    for (uint32_t m = 0; m < kDim / 32; ++m) {
      const float x = scratch[lane + 32 * m];
      sums[m] = __fmaf_rn(x, x, 0.0f);
    }
    __syncwarp();
    constexpr auto kCols = static_cast<float>(kDim);
    const float inverse = inverse_rms(warp_tree_256(sums), kDim, near_reciprocal(kCols), eps);
#pragma unroll
    for (uint32_t m = 0; m < kPairs; ++m)
      head.x[m] = make_float2(head.x[m].x * inverse * w[m].x, head.x[m].y * inverse * w[m].y);
  }
#pragma unroll
  for (uint32_t m = 0; m < kPairs; ++m) {
    if (lane + 32 * m < n_rotated) numerics::rotate_pair(&head.x[m].x, &head.x[m].y, angle[m].x, angle[m].y);
  }
}

// A batch of dimensions of a lane's key.
inline constexpr uint32_t kKeyBatch = 16;
struct KeyBatch {
  float x[kKeyBatch];
};
__device__ __forceinline__ KeyBatch load_key(const uint16_t* key, uint32_t d) {
  KeyBatch batch;
#pragma unroll
  for (uint32_t i = 0; i < kKeyBatch; ++i) batch.x[i] = half_value(key + (d + i) * kPageKeys);
  return batch;
}
// The chain of a score, dimensions ascending; one: the first batch. Others come while those before are added.
template <uint32_t kDim>
__device__ __forceinline__ float key_score(const float* q, const uint16_t* key, KeyBatch one) {
  float score = 0.0f;
  const auto add = [&](uint32_t d, const KeyBatch& batch) {
#pragma unroll
    for (uint32_t i = 0; i < kKeyBatch; i += 4) {
      const float4 query = *reinterpret_cast<const float4*>(q + d + i);
      score = __fmaf_rn(query.x, batch.x[i], score);
      score = __fmaf_rn(query.y, batch.x[i + 1], score);
      score = __fmaf_rn(query.z, batch.x[i + 2], score);
      score = __fmaf_rn(query.w, batch.x[i + 3], score);
    }
  };
#pragma unroll
  for (uint32_t d = 0; d < kDim; d += 2 * kKeyBatch) {
    const KeyBatch other = load_key(key, d + kKeyBatch);
    add(d, one);
    if (d + 2 * kKeyBatch < kDim) one = load_key(key, d + 2 * kKeyBatch);
    add(d + kKeyBatch, other);
  }
  return score;
}

// The largest of a warp's numbers: as integers in the order of the numbers. With a NaN among them it is any:
// what is made of it is NaN then.
__device__ __forceinline__ float warp_maximum(float x) {
  const auto bits = static_cast<int32_t>(numerics::float_bits(x));
  const int32_t most = __reduce_max_sync(~0u, bits ^ ((bits >> 31) & 0x7fffffff));
  return numerics::bits_float(static_cast<uint32_t>(most ^ ((most >> 31) & 0x7fffffff)));
}

// The chain of an element over keys [first, last) of a split, v: the element in the values of page 0. Batches
// of values come while those before are added. Keys that cannot be seen have weights of 0 and count as 0: an
// element that is -0 may become 0 by them, which neither a merge nor a code tells apart.
template <uint32_t kDim>
__device__ __forceinline__ float split_values(const float* weights, const float* correction,
                                              const uint16_t* v, uint32_t first, uint32_t last) {
  constexpr uint32_t kBatch = 16, kPageStep = kPageBytes<kDim> / 2;
  float o = 0.0f, one[kBatch], other[kBatch];
  const auto load = [&](const uint16_t* from, float(&value)[kBatch]) {
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) value[i] = half_value(from + i * kDim);
  };
  const auto add = [&](const float* p, const float(&value)[kBatch]) {
#pragma unroll
    for (uint32_t i = 0; i < kBatch; i += 4) {
      const float4 weight = *reinterpret_cast<const float4*>(p + i);
      o = __fmaf_rn(weight.x, value[i], o);
      o = __fmaf_rn(weight.y, value[i + 1], o);
      o = __fmaf_rn(weight.z, value[i + 2], o);
      o = __fmaf_rn(weight.w, value[i + 3], o);
    }
  };
  uint32_t page = first / kPageKeys;
  v += page * kPageStep;
  load(v, one);
#pragma unroll 1
  for (; page * kPageKeys < last; ++page) {
    const float* p = weights + page * kPageKeys;
    const uint16_t* next = page + 1 < kPages ? v + kPageStep : v;
    o = o * correction[page];
    if (first <= page * kPageKeys && (page + 1) * kPageKeys <= last) {
      load(v + kBatch * kDim, other);
      add(p, one);
      load(v + 2 * kBatch * kDim, one);
      add(p + kBatch, other);
      load(v + 3 * kBatch * kDim, other);
      add(p + 2 * kBatch, one);
      load(next, one);
      add(p + 3 * kBatch, other);
    } else {
      const uint32_t begin = page * kPageKeys;
      const uint32_t from = first > begin ? (first - begin) / kBatch * kBatch : 0,
                     to = min(last - begin, kPageKeys);
#pragma unroll 1
      for (uint32_t j = from; j < to; j += kBatch) {
#pragma unroll
        for (uint32_t i = 0; i < kBatch; ++i) {
          const uint32_t key = begin + j + i;
          other[i] = key >= first && key < last ? half_value(v + (j + i) * kDim) : 0.0f;
        }
        add(p + j, other);
      }
      load(next, one);
    }
    v = next;
  }
  return o;
}

// The softmax of a head over pages [first_page, end_page) of a split, by a warp, whose lanes all have it: all
// sums side by side, then the chain.
__device__ __forceinline__ numerics::SoftmaxState split_state(const AttentionShared& s, uint32_t head,
                                                              uint32_t first_page, uint32_t end_page) {
  float2 p[kPages];
#pragma unroll
  for (uint32_t page = 0; page < kPages; ++page)
    p[page] = *reinterpret_cast<const float2*>(&s.p[head][page * kPageKeys + 2 * (thread_here() & 31)]);
#pragma unroll
  for (uint32_t stride = 16; stride > 0; stride /= 2) {
#pragma unroll
    for (float2& of_page : p) {
      of_page.x = of_page.x + __shfl_xor_sync(~0u, of_page.x, stride);
      of_page.y = of_page.y + __shfl_xor_sync(~0u, of_page.y, stride);
    }
  }
  numerics::SoftmaxState state = {numerics::bits_float(0xff800000u), 0.0f};
#pragma unroll
  for (uint32_t page = 0; page < kPages; ++page) {
    if (page < first_page || page >= end_page) continue;
    state.max = larger(state.max, larger(s.half_max[head][2 * page], s.half_max[head][2 * page + 1]));
    state.sum = __fmaf_rn(state.sum, s.correction[head][page], p[page].x + p[page].y);
  }
  return state;
}

// An item of a layer's attention, whose pages are in their slot when `ready` comes to `parity`: published
// where it is all of its query, or else to be merged. Its last barrier of those that compute is one behind
// which other pages may come.
template <uint32_t kDim>
__device__ __forceinline__ void attend(const PersistentArgs& a, const PersistentLayer& layer,
                                       const StepAttention& step, const AttentionItem& item,
                                       const int32_t* page_ids, AttentionShared& s, uint8_t* slot,
                                       uint64_t* ready, uint32_t parity, uint32_t tag) {
  constexpr uint32_t kBytes = kPageBytes<kDim>, kHalfKeys = kPageKeys / 2, kHalves = 2 * kPages;
  constexpr uint32_t kFirstHeadWarp = kComputeWarps - kPersistentQueries - 2;
  static_assert(kPersistentQueries * kHalves <= kComputeWarps && kHalfKeys == 32);
  const float kNone = numerics::bits_float(0xff800000u);
  const PersistentExchange& words = a.exchange;
  const uint32_t tid = thread_here(), warp = __shfl_sync(~0u, tid >> 5, 0), lane = tid & 31;
  const uint32_t per_kv = a.n_heads / a.n_kv_heads, kv_head = item.kv_head, local_split = item.local_split;
  const uint32_t first_head = kv_head * per_kv + item.chunk * step.heads;
  const uint32_t n_heads = min(step.heads, (kv_head + 1) * per_kv - first_head);
  const uint32_t split = step.first_split + local_split, base = split * kSplitKeys;
  // Keys of the split that can be seen.
  const uint32_t first = step.begin > base ? step.begin - base : 0;
  const uint32_t last = min(step.position + 1 - base, kSplitKeys);
  const bool has_new = step.position / kSplitKeys == split;
  const uint32_t new_key = step.position % kSplitKeys;

  // Half a page of a head's scores a warp, a key a lane.
  const uint32_t half = warp % kHalves, scored_head = warp / kHalves, scored_page = half / 2;
  const uint32_t key = half * kHalfKeys + lane;
  const bool scores =
      scored_head < n_heads && scored_page >= first / kPageKeys && scored_page * kPageKeys < last;
  const uint16_t* const key_at =
      reinterpret_cast<const uint16_t*>(slot + scored_page * kBytes) + key % kPageKeys;
  const bool is_new = scores && has_new && half == new_key / kHalfKeys;
  if (warp >= kFirstHeadWarp) {
    const uint32_t role = warp - kFirstHeadWarp;
    const bool is_q = role < kPersistentQueries, is_k = role == kPersistentQueries;
    if (is_q ? role < n_heads : has_new) {
      const uint32_t n_rotated = is_q || is_k ? layer.n_dims / 2 : 0;
      const auto* angles = reinterpret_cast<const float2*>(layer.rope_table) +
                           static_cast<uint64_t>(step.position) * n_rotated;
      const uint64_t* from =
          is_q ? words.q + (first_head + role) * kDim : (is_k ? words.k : words.v) + kv_head * kDim;
      HeadPairs<kDim> head;
      receive_head<kDim>(from, tag,
                         is_q   ? layer.q_norm
                         : is_k ? layer.k_norm
                                : nullptr,
                         layer.qk_eps, n_rotated, layer.halves, angles, s.scratch[role], head);
      if (!is_q) barrier_wait(ready, parity);
      const uint32_t in_page = new_key % kPageKeys;
      uint16_t* here = reinterpret_cast<uint16_t*>(slot + new_key / kPageKeys * kBytes);
      uint16_t* there = !is_q && item.chunk == 0
                            ? page_data<kDim>(a, layer, page_ids[new_key / kPageKeys], kv_head)
                            : nullptr;
#pragma unroll
      for (uint32_t j = 0; j < kDim / 32; ++j) {
        const uint32_t d = j % 2 == 0 ? head.at[j / 2].x : head.at[j / 2].y;
        const float x = j % 2 == 0 ? head.x[j / 2].x : head.x[j / 2].y;
        if (is_q) {
          s.q[role][d] = x * layer.q_scale;
        } else {
          const uint16_t bits = half_bits(x);
          const uint32_t place = is_k ? d * kPageKeys + in_page : (kPageKeys + in_page) * kDim + d;
          here[place] = bits;
          if (there) there[place] = bits;
        }
      }
    }
  }
  barrier_wait(ready, parity);
  KeyBatch ahead = {};
  if (scores && !is_new) ahead = load_key(key_at, 0);
  compute_sync();
  const bool is_seen = key >= first && key < last;
  float score = kNone;
  if (scores) {
    if (is_new) ahead = load_key(key_at, 0);
    const float of_key = key_score<kDim>(s.q[scored_head], key_at, ahead);
    score = is_seen ? of_key : kNone;
  }
  if (scored_head < n_heads) {
    const float most = warp_maximum(score);
    if (lane == 0) s.half_max[scored_head][half] = most;
  }
  compute_sync();
  if (scores) {
    float before = kNone, most = kNone;
#pragma unroll
    for (uint32_t i = 0; i < kHalves; ++i) {
      const float of_half = s.half_max[scored_head][i];
      before = larger(before, i / 2 < scored_page ? of_half : kNone);
      most = larger(most, i / 2 <= scored_page ? of_half : kNone);
    }
    const float weight = exp_nonpositive(score - most), correction = exp_nonpositive(before - most);
    s.p[scored_head][key] = weight;
    if (lane == 0) s.correction[scored_head][scored_page] = correction;
  }
  compute_sync();
  const uint32_t first_page = first / kPageKeys, end_page = (last + kPageKeys - 1) / kPageKeys;
  const uint32_t head = tid / kDim, d = tid % kDim;
  const bool has_output = head < n_heads;
  // Beside warps that have values of two heads, not of one.
  constexpr uint32_t kFirstSumWarp = kPersistentQueries * kDim / 32 + 2;
  static_assert(kFirstSumWarp + kPersistentQueries <= kComputeWarps);
  const bool direct = step.n_splits == 1;
  uint64_t* const partial =
      words.partial + (static_cast<uint64_t>(first_head) * a.max_splits + local_split) * (kDim + 2);
  const uint32_t apart = a.max_splits * (kDim + 2);  // of heads
  float o = 0.0f;
  if (has_output) {
    o = split_values<kDim>(s.p[head], s.correction[head],
                           reinterpret_cast<const uint16_t*>(slot) + kDim * kPageKeys + d, first, last);
  } else if (warp >= kFirstSumWarp && warp - kFirstSumWarp < n_heads) {
    const uint32_t of_head = warp - kFirstSumWarp;
    const numerics::SoftmaxState state = split_state(s, of_head, first_page, end_page);
    if (direct) {
      if (lane == 0) s.inverse[of_head] = reciprocal(state.sum);
    } else if (lane < 2) {
      publish(partial + of_head * apart + kDim + lane, lane == 0 ? state.max : state.sum, tag);
    }
  }
  fence_async_shared();  // the new key and value were written where the next pages go
  compute_sync();
  if (!has_output) return;
  if (direct) {
    publish_group(words.attention, a.n_heads * kDim / 32, ((first_head + head) * kDim + d) / 32,
                  o * s.inverse[head], tag);
  } else {
    publish(partial + head * apart + d, o, tag);
  }
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
                o * reciprocal(state.sum), tag);
}
#endif

}  // namespace orcd::cuda
