// Attention where every sequence of the step has one token (rule N4): rotation, KV write, scores, values and
// the merge of splits in one kernel. A block is one split of two query heads of a KV head; it loads the
// split's pages before its inputs are ready, since only the token's own key and value are new.
#include <algorithm>

#include "device/cuda/attention_page.cuh"
#include "device/cuda/ptx.cuh"
#include "device/cuda/weight_prefetch.cuh"

namespace orcd::cuda {
namespace {

// A thread an element of the output, where that is neither too few nor too many; a warp scores one page for
// one head or both.
template <uint32_t kDim>
constexpr uint32_t kThreads = kDim == 64 ? 128 : 256;
// Blocks of a multiprocessor, by registers: what keeps every value of a thread in one.
template <uint32_t kDim>
constexpr uint32_t kBlocks = kDim == 64 ? 4 : 2;
template <uint32_t kDim>
constexpr uint32_t kWarpHeads = kHeads* kPages / (kThreads<kDim> / 32);
constexpr uint32_t kSlotBudget = 96 * 1024;  // of shared memory for pages; two blocks a multiprocessor
constexpr uint32_t kPrefetchBlocks = 32;     // at least, where there is something to prefetch
constexpr uint32_t kPrefetchQueries = 64;    // more keep the memory busy themselves

// kDim: the head dimension where a kernel was made for it, or 0.
template <uint32_t kDim>
__device__ __forceinline__ uint32_t dim_of(const DecodeArgs& a) {
  return kDim != 0 ? kDim : a.rope.head_dim;
}
template <uint32_t kDim>
__device__ __forceinline__ uint32_t slots_of(const DecodeArgs& a) {
  constexpr uint32_t kFit = kDim == 0 ? 1 : kSlotBudget / (kDim * kPageKeys * 2);
  return kDim == 0 ? a.n_slots : kFit >= 2 * kPages ? 2 * kPages : kFit >= kPages ? kFit : kPages;
}

// Pages of keys and then of values pass through slots of shared memory in order: K0 .. K3, V0 .. V3. Starts
// the copy of load i; one group, also where there is nothing to copy.
template <uint32_t kDim>
__device__ __forceinline__ void load_page(const DecodeArgs& a, const DecodeShared& s, uint8_t* slots,
                                          uint32_t i) {
  constexpr uint32_t kStep = kThreads<kDim> * 16;
  const uint32_t bytes = dim_of<kDim>(a) * kPageKeys * 2;
  const uint8_t* page = s.pages[i % kPages];
  if (page) {
    const uint8_t* from = page + (i / kPages) * bytes + threadIdx.x * 16;
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(slots)) +
                        (i % slots_of<kDim>(a)) * bytes + threadIdx.x * 16;
#pragma unroll 4
    for (uint32_t at = 0; at < bytes; at += kStep)
      if (kDim * kPageKeys * 2 % kStep == 0 && kDim != 0) {
        copy_async16(to + at, from + at);
      } else if (at + threadIdx.x * 16 < bytes) {
        copy_async16(to + at, from + at);
      }
  }
  copy_async_commit();
}
// Until at most `pending` (or fewer) loads are on their way; a barrier must follow.
__device__ __forceinline__ void wait_loads(uint32_t pending) {
  if (pending >= 4) {
    copy_async_wait<4>();
  } else if (pending >= 2) {
    copy_async_wait<2>();
  } else if (pending == 1) {
    copy_async_wait<1>();
  } else {
    copy_async_wait<0>();
  }
}

__device__ __forceinline__ void store_output(const DecodeArgs& a, uint32_t token, uint32_t head, uint32_t d,
                                             float value, bool inside) {
  const uint32_t column = head * a.rope.head_dim + d;
  if (!a.out_q) {
    if (inside) a.out[static_cast<uint64_t>(token) * a.rope.q_stride + column] = value;
    return;
  }
  // head_dim is a multiple of 32 here: a warp holds one group.
  const QuantizedLane q = quantize_lane(value);
  if (!inside) return;
  const uint32_t group = column / 32, e = column % 32, n_groups = a.rope.q_stride / 32;
  if (gridDim.y == 1) {
    a.out_q[group * 32 + chunk_byte(e)] = static_cast<uint8_t>(q.q);
    if (e == 0) a.out_s[group] = q.scale;
  } else {
    const uint64_t tile8 = token / 8;
    a.out_q[(tile8 * ((n_groups + 1) / 2) + group / 2) * 512 + fragment_byte(group, e, token % 8 * 4)] =
        static_cast<uint8_t>(q.q);
    if (e == 0) a.out_s[(tile8 * n_groups + group) * 8 + token % 8] = q.scale;
  }
}

// One element of a head over all splits: the left fold of merge_splits, then the division.
__device__ __forceinline__ float merge_element(const DecodeArgs& a, const float* partial, uint32_t head,
                                               uint32_t stride, uint32_t n_splits, uint32_t d) {
  constexpr uint32_t kBatch = 8;
  float o = 0.0f;
  numerics::SoftmaxState state = {0.0f, 0.0f};
#pragma unroll 1
  for (uint32_t first = 0; first < n_splits; first += kBatch) {
    float part[kBatch];
    float2 other[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const float* from = partial + min(first + i, n_splits - 1) * stride;
      part[i] = __ldcg(from + d);
      other[i] = __ldcg(reinterpret_cast<const float2*>(from + stride - 2));
    }
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      if (first + i >= n_splits) break;
      if (first + i == 0) {
        state = {other[0].x, other[0].y};
        o = part[0];
        continue;
      }
      merge_split(&state, &o, other[i].x, other[i].y, part[i]);
    }
  }
  if (a.sinks) {
    const float2 with_sink = add_sink(__ldg(a.sinks + head), state.max, state.sum);
    o = o * with_sink.x;
    state.sum = with_sink.y;
  }
  return o * (1.0f / state.sum);
}

// One row of q, k or v by one warp: every load is on its way before the first is used.
template <uint32_t kDim>
__device__ __forceinline__ void load_row(const float* from, bool there, uint32_t head_dim, float* to) {
  constexpr uint32_t kBatch = kDim != 0 ? kDim / 32 : 4;
  const uint32_t lane = threadIdx.x & 31;
#pragma unroll 1
  for (uint32_t first = 0; first < head_dim; first += 32 * kBatch) {
    float value[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t d = first + 32 * i + lane;
      value[i] = there && d < head_dim ? __ldcg(from + d) : 0.0f;
    }
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t d = first + 32 * i + lane;
      if (d < head_dim) to[d] = value[i];
    }
  }
}

// What blocks without a split do: the weights of the launches to come on their way into L2, behind the pages
// of this one.
__device__ __forceinline__ void prefetch_weights(const WeightPrefetch& a, uint32_t block, uint32_t n_blocks) {
  wait_for_inputs();
#pragma unroll 1
  for (uint32_t i = 0; i < a.n_pieces; ++i) {
    const WeightPrefetch::Piece& piece = a.pieces[i];
    const uint32_t chunks = (piece.bytes + kPrefetchChunk - 1) / kPrefetchChunk;
#pragma unroll 1
    for (uint32_t at = threadIdx.x * n_blocks + block; at < chunks * piece.n_ranges;
         at += blockDim.x * n_blocks) {
      prefetch_chunk(piece, at % piece.n_ranges, at / piece.n_ranges * kPrefetchChunk);
    }
  }
}

// The next kernel starts when this one's blocks have ended: its first fetches would stand before their loads,
// and cost more than they bring.
template <uint32_t kDim>
__global__ void __launch_bounds__(kThreads<kDim>, kBlocks<kDim>) decode_kernel(const DecodeArgs a) {
  constexpr uint32_t kBlock = kThreads<kDim>, kScored = kWarpHeads<kDim>;
  // Elements of a thread: both heads of kItems dimensions; with few dimensions, one of one head.
  constexpr bool kOneHead = kDim != 0 && kDim * kHeads <= kBlock;
  constexpr uint32_t kItems = ((kDim != 0 ? kDim : kMaxHeadDim) + kBlock - 1) / kBlock;
  constexpr uint32_t kOwn = kOneHead ? 1 : kHeads;
  extern __shared__ __align__(128) uint8_t slots[];
  __shared__ __align__(16) DecodeShared s;
  const RopeArgs& r = a.rope;
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31, head_dim = dim_of<kDim>(a);
  const uint32_t my_page = warp % kPages, scored_head = warp / kPages * kScored;
  const uint32_t n_slots = slots_of<kDim>(a), slot_bytes = head_dim * kPageKeys * 2;
  const uint32_t per_kv = r.n_heads / r.n_kv_heads, chunks = (per_kv + kHeads - 1) / kHeads;
  const uint32_t kv_head = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
  const uint32_t first_head = kv_head * per_kv + chunk * kHeads;
  const uint32_t n_heads = min(kHeads, (kv_head + 1) * per_kv - first_head);
  const uint32_t token = blockIdx.y;
  // The step's words were there before the first kernel of the step.
  const uint32_t position = static_cast<uint32_t>(__ldcg(r.step.position + token));
  const uint32_t begin = numerics::first_visible(position, a.window), end = position + 1;
  const uint32_t first_split = begin / kSplitKeys, n_splits = (end - 1) / kSplitKeys - first_split + 1;
  const uint32_t n_blocks = min(a.n_blocks, n_splits);
  const bool direct = n_splits == 1 && !a.sinks;  // a sink joins where splits are merged
  if (blockIdx.z >= n_blocks) {
    const uint32_t idle = gridDim.x * gridDim.y * (gridDim.z - a.n_blocks);
    if (blockIdx.z >= a.n_blocks)
      prefetch_weights(a.prefetch,
                       ((blockIdx.z - a.n_blocks) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x, idle);
    return;
  }
  const uint32_t my_head = kOneHead ? threadIdx.x / head_dim : 0,
                 my_d = kOneHead ? threadIdx.x % head_dim : threadIdx.x;

  bool ready = false;
#pragma unroll 1
  for (uint32_t split = first_split + blockIdx.z; split < first_split + n_splits; split += n_blocks) {
    const uint32_t base = split * kSplitKeys;
    const uint32_t first_page = begin > base ? (begin - base) / kPageKeys : 0;
    const uint32_t end_page = min(kPages, (end - base + kPageKeys - 1) / kPageKeys);
    __syncthreads();  // the last split's slots and weights have been read
    if (threadIdx.x < kPages) {
      const uint8_t* page = nullptr;
      if (threadIdx.x >= first_page && threadIdx.x < end_page) {
        const int64_t id = __ldcg(
            r.step.pages + static_cast<uint64_t>(__ldcg(r.step.sequence + token)) * r.step.page_stride +
            base / kPageKeys + threadIdx.x);
        page = reinterpret_cast<const uint8_t*>(r.pages +
                                                (id * r.n_kv_heads + kv_head) * 2 * head_dim * kPageKeys);
      }
      s.pages[threadIdx.x] = page;
    }
    __syncthreads();
    uint32_t issued = min(n_slots, 2 * kPages);
#pragma unroll 1
    for (uint32_t i = 0; i < issued; ++i) load_page<kDim>(a, s, slots, i);
    if (!ready) {
      const float2* angles = angles_of(r, position);
#pragma unroll 1
      for (uint32_t i = threadIdx.x; i < r.n_dims / 2; i += kBlock) s.angles[i] = __ldg(angles + i);
#pragma unroll 1
      for (uint32_t d = threadIdx.x; d < head_dim; d += kBlock) {
        if (r.q_norm) s.q_norm[d] = __ldg(r.q_norm + d);
        if (r.k_norm) s.k_norm[d] = __ldg(r.k_norm + d);
      }
      __syncthreads();
      wait_for_inputs();
      ready = true;
      // The heads, a warp each: two of q, one of k, one of v.
      if (warp < kHeads + 2) {
        const bool is_q = warp < kHeads;
        float* mine = is_q ? s.q[warp] : warp == kHeads ? s.k : s.v;
        const float* from =
            is_q ? r.q + static_cast<uint64_t>(token) * r.q_stride + (first_head + warp) * head_dim
                 : (warp == kHeads ? r.k : r.v) + static_cast<uint64_t>(token) * r.kv_stride +
                       kv_head * head_dim;
        load_row<kDim>(from, !is_q || warp < n_heads, head_dim, mine);
        __syncwarp();
        if (is_q) finish_head(r, mine, r.q_norm ? s.q_norm : nullptr, s.angles);
        if (warp == kHeads) finish_head(r, mine, r.k_norm ? s.k_norm : nullptr, s.angles);
        if (is_q)
#pragma unroll 1
          for (uint32_t d = lane; d < head_dim; d += 32) mine[d] = mine[d] * r.scale;
      }
    }
    const bool has_new = position / kSplitKeys == split;
    const uint32_t new_page = position % kSplitKeys / kPageKeys, new_key = position % kPageKeys;
    float2 score[kScored] = {};
    // Keys: as many pages at a time as there are slots, each by its warps.
#pragma unroll 1
    for (uint32_t page = 0; page < kPages;) {
      const uint32_t wave = min(kPages - page, n_slots);
      wait_loads(issued - page - wave);
      __syncthreads();
      if (has_new && new_page >= page && new_page < page + wave) {
        uint16_t* k = reinterpret_cast<uint16_t*>(slots + new_page % n_slots * slot_bytes);
#pragma unroll 1
        for (uint32_t d = threadIdx.x; d < head_dim; d += kBlock)
          k[d * kPageKeys + new_key] = numerics::float_to_half(s.k[d]);
        __syncthreads();
      }
      if (my_page >= page && my_page < page + wave && my_page >= first_page && my_page < end_page)
        page_scores<kDim>(s, slots + my_page % n_slots * slot_bytes, head_dim, scored_head, score);
      page += wave;
      if (issued < 2 * kPages) {
        __syncthreads();  // the slots have been read
#pragma unroll 1
        for (uint32_t i = 0; i < wave && issued < 2 * kPages; ++i) load_page<kDim>(a, s, slots, issued++);
      }
    }
    if (a.softcap > 0.0f) {
#pragma unroll
      for (float2& one : score)
        one = make_float2(softcap_call(one.x, a.softcap), softcap_call(one.y, a.softcap));
    }
    const auto first_of = [&](uint32_t page) {
      const uint32_t page_base = base + page * kPageKeys;
      return begin > page_base ? min(begin - page_base, kPageKeys) : 0;
    };
    const auto last_of = [&](uint32_t page) {
      return page < end_page ? min(end - base - page * kPageKeys, kPageKeys) : 0;
    };
    const uint32_t first = first_of(my_page), last = last_of(my_page);
    if (first < last) page_maximum(s, score, scored_head, my_page, first, last);
    __syncthreads();
    if (first < last) page_weights<kScored>(s, scored_head, my_page, first, last, first_page);
    // Values, page by page.
    float o[kItems][kOwn] = {};
#pragma unroll 1
    for (uint32_t page = 0; page < kPages; ++page) {
      wait_loads(issued - kPages - page - 1);
      __syncthreads();
      if (page >= first_page && page < end_page) {
        uint16_t* v = reinterpret_cast<uint16_t*>(slots + (kPages + page) % n_slots * slot_bytes);
        if (has_new && page == new_page) {
#pragma unroll 1
          for (uint32_t d = threadIdx.x; d < head_dim; d += kBlock)
            v[new_key * head_dim + d] = numerics::float_to_half(s.v[d]);
          __syncthreads();
        }
#pragma unroll
        for (uint32_t i = 0; i < kItems; ++i) {
          const uint32_t d = my_d + i * kBlock;
          if (d < head_dim)
            page_values<kOwn>(s, v + d, head_dim, my_head, page, first_of(page), last_of(page), o[i]);
        }
      }
      if (issued < 2 * kPages) {
        __syncthreads();
        load_page<kDim>(a, s, slots, issued++);
      }
    }
    if (has_new && chunk == 0) {
      uint16_t* page = r.pages + (s.pages[new_page] - reinterpret_cast<const uint8_t*>(r.pages)) / 2;
#pragma unroll 1
      for (uint32_t d = threadIdx.x; d < head_dim; d += kBlock) {
        page[d * kPageKeys + new_key] = numerics::float_to_half(s.k[d]);
        page[(kPageKeys + new_key) * head_dim + d] = numerics::float_to_half(s.v[d]);
      }
    }
    // The split's state, and its place.
#pragma unroll
    for (uint32_t n = 0; n < kOwn; ++n) {
      const uint32_t head = my_head + n;
      const numerics::SoftmaxState state = split_state(s, head, first_page, end_page);
      float* to = a.partial +
                  ((static_cast<uint64_t>(token) * r.n_heads + first_head + head) * a.max_splits + split) *
                      (head_dim + 2);
#pragma unroll
      for (uint32_t i = 0; i < kItems; ++i) {
        const uint32_t d = my_d + i * kBlock;
        const bool inside = d < head_dim && head < n_heads;
        if (direct) {
          if (d / 32 * 32 < head_dim)
            store_output(a, token, first_head + head, d, o[i][n] * (1.0f / state.sum), inside);
        } else if (inside) {
          to[d] = o[i][n];
          if (d == 0) *reinterpret_cast<float2*>(to + head_dim) = make_float2(state.max, state.sum);
        }
      }
    }
  }
  if (direct) return;
  // The last block to arrive merges.
  if (!is_last_to_arrive(a.arrivals + token * r.n_heads + blockIdx.x, n_blocks, &s.last)) return;
#pragma unroll 1
  for (uint32_t d = my_d; d / 32 * 32 < head_dim; d += kBlock) {
#pragma unroll 1
    for (uint32_t n = 0; n < kOwn; ++n) {
      const uint32_t head = my_head + n;
      const bool inside = d < head_dim && head < n_heads;
      const float* partial =
          a.partial +
          ((static_cast<uint64_t>(token) * r.n_heads + first_head + head) * a.max_splits + first_split) *
              (head_dim + 2);
      store_output(a, token, first_head + head, d,
                   inside ? merge_element(a, partial, first_head + head, head_dim + 2, n_splits, d) : 0.0f,
                   inside);
    }
  }
}

using DecodeKernel = void (*)(DecodeArgs);

DecodeKernel kernel_for(uint32_t head_dim) {
  switch (head_dim) {
    case 64:
      return decode_kernel<64>;
    case 128:
      return decode_kernel<128>;
    case 256:
      return decode_kernel<256>;
    default:
      return decode_kernel<0>;
  }
}

}  // namespace

void prepare_decode(Calls* calls) {
  for (const uint32_t head_dim : {0u, 64u, 128u, 256u})
    calls->allow_shared(reinterpret_cast<const void*>(kernel_for(head_dim)), 200 * 1024);
}

void launch_decode(Calls* calls, uint32_t n_tokens, uint32_t n_blocks, DecodeArgs args) {
  const RopeArgs& r = args.rope;
  const uint32_t slot_bytes = r.head_dim * kPageKeys * 2;
  const uint32_t chunks = (r.n_heads / r.n_kv_heads + kHeads - 1) / kHeads;
  args.n_slots = std::clamp(kSlotBudget / slot_bytes, 1u, 2 * kPages);
  if (args.n_slots < kPages && kPages * slot_bytes <= 2 * kSlotBudget) args.n_slots = kPages;
  args.n_blocks = n_blocks;
  const uint32_t n_queries = r.n_kv_heads * chunks * n_tokens;
  const bool prefetches = args.prefetch.n_pieces != 0 && n_queries <= kPrefetchQueries;
  const uint32_t idle = prefetches ? (kPrefetchBlocks + n_queries - 1) / n_queries : 0;
  calls->launch("attention, decode", kernel_for(r.head_dim),
                {dim3(r.n_kv_heads * chunks, n_tokens, n_blocks + idle),
                 dim3(r.head_dim == 64 ? kThreads<64> : kThreads<0>), args.n_slots * slot_bytes},
                args);
}

}  // namespace orcd::cuda
