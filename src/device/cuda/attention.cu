// Rotation with the KV write, and attention over pages (rule N4).
#include "device/cuda/attention_heads.cuh"
#include "device/cuda/ptx.cuh"
#include "kv/layout.h"

namespace orcd::cuda {
namespace {

constexpr uint32_t kRopeWarps = 8;
constexpr uint32_t kKeyTokens = 32;  // of a block that writes keys

// A warp is one query head of one token.
__global__ void __launch_bounds__(kRopeWarps * 32) queries_kernel(const RopeArgs a) {
  __shared__ float heads[kRopeWarps][kMaxHeadDim];
  wait_for_inputs();
  const uint32_t lane = threadIdx.x & 31, token = blockIdx.y;
  const uint32_t head = blockIdx.x * kRopeWarps + (threadIdx.x >> 5);
  if (head >= a.n_heads) return;
  float* global = a.q + static_cast<uint64_t>(token) * a.q_stride + head * a.head_dim;
  float* x = heads[threadIdx.x >> 5];
  for (uint32_t d = lane; d < a.head_dim; d += 32) x[d] = __ldcg(global + d);
  __syncwarp();
  finish_head(a, x, a.q_norm, angles_of(a, static_cast<uint32_t>(__ldcg(a.step.position + token))));
  for (uint32_t d = lane; d < a.head_dim; d += 32) global[d] = x[d] * a.scale;
}

// Values that a key has room for in shared memory: an odd number of words, for neighbouring keys to meet
// different banks.
__host__ __device__ constexpr uint32_t key_row(uint32_t head_dim) { return head_dim / 4 * 4 + 6; }

// A block is one KV head of kKeyTokens tokens, a warp one of them at a time. Keys pass through shared memory:
// when they are written a lane is a token, and neighbours in a page lie side by side.
__global__ void __launch_bounds__(kRopeWarps * 32) keys_kernel(const RopeArgs a) {
  extern __shared__ float heads[];  // [kRopeWarps][head_dim]
  uint16_t* keys = reinterpret_cast<uint16_t*>(heads + kRopeWarps * a.head_dim);
  const uint32_t key_stride = key_row(a.head_dim);
  wait_for_inputs();
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31, kv_head = blockIdx.x;
  const uint32_t first = blockIdx.y * kKeyTokens, n = min(kKeyTokens, a.n_tokens - first);
  const auto position_of = [&](uint32_t token) {
    return static_cast<uint32_t>(__ldcg(a.step.position + token));
  };
  float* x = heads + warp * a.head_dim;
#pragma unroll 1
  for (uint32_t t = warp; t < n; t += kRopeWarps) {
    const uint32_t token = first + t, position = position_of(token);
    const uint64_t at = static_cast<uint64_t>(token) * a.kv_stride + kv_head * a.head_dim;
    uint16_t* v = place_of_key(a, token, position, kv_head).v;
#pragma unroll 4
    for (uint32_t d = lane; d < a.head_dim; d += 32) {
      x[d] = __ldcg(a.k + at + d);
      v[d] = numerics::float_to_half(__ldcg(a.v + at + d));
    }
    __syncwarp();
    finish_head(a, x, a.k_norm, angles_of(a, position));
#pragma unroll 4
    for (uint32_t d = lane; d < a.head_dim; d += 32) keys[t * key_stride + d] = numerics::float_to_half(x[d]);
    __syncwarp();
  }
  __syncthreads();
  if (lane >= n) return;
  uint16_t* k = place_of_key(a, first + lane, position_of(first + lane), kv_head).k;
#pragma unroll 4
  for (uint32_t d = warp; d < a.head_dim; d += kRopeWarps) k[d * kPageKeys] = keys[lane * key_stride + d];
}

constexpr uint32_t kHeads = 4;  // query heads of one KV head that share its reads
constexpr uint32_t kThreads = 256;
constexpr uint32_t kMaxItems =
    kHeads * kMaxHeadDim / 2 / kThreads;  // pairs of output elements a thread holds

struct AttentionShared {
  float q[kHeads][kMaxHeadDim];
  float p[kHeads][kSplitKeys];
  float correction[kHeads][numerics::kPagesPerSplit];
  float max[kHeads], sum[kHeads];
  uint32_t last;
};

// Scores of a split's visible keys: two keys and two heads a thread, each a chain over d ascending.
__device__ __forceinline__ void scores(const AttentionArgs& a, AttentionShared& s,
                                       const uint16_t* const (&pages)[4], uint32_t base, uint32_t begin,
                                       uint32_t end) {
  const uint32_t pair = threadIdx.x & 127, head = (threadIdx.x >> 7) * 2, page = pair / 32,
                 key = 2 * (pair % 32);
  const uint32_t first = base + 2 * pair;  // absolute position of the pair's first key
  if (first + 1 < begin || first >= end) return;
  const uint16_t* k = pages[page] + key;
  const float* q0 = s.q[head];
  const float* q1 = s.q[head + 1];
  float s00 = 0.0f, s01 = 0.0f, s10 = 0.0f, s11 = 0.0f;
  // Loads of a batch are all in flight before the first is used.
  constexpr uint32_t kBatch = 16;
  for (uint32_t d0 = 0; d0 < a.rope.head_dim; d0 += kBatch) {
    uint32_t raw[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i)
      raw[i] = *reinterpret_cast<const uint32_t*>(k + min(d0 + i, a.rope.head_dim - 1) * kPageKeys);
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      if (d0 + i >= a.rope.head_dim) break;
      const float2 kv = half_pair(raw[i]);
      s00 = __fmaf_rn(q0[d0 + i], kv.x, s00);
      s01 = __fmaf_rn(q0[d0 + i], kv.y, s01);
      s10 = __fmaf_rn(q1[d0 + i], kv.x, s10);
      s11 = __fmaf_rn(q1[d0 + i], kv.y, s11);
    }
  }
  if (a.softcap > 0.0f) {
    s00 = numerics::softcap(s00, a.softcap);
    s01 = numerics::softcap(s01, a.softcap);
    s10 = numerics::softcap(s10, a.softcap);
    s11 = numerics::softcap(s11, a.softcap);
  }
  s.p[head][2 * pair] = s00;
  s.p[head][2 * pair + 1] = s01;
  s.p[head + 1][2 * pair] = s10;
  s.p[head + 1][2 * pair + 1] = s11;
}

// Online softmax of one head by one warp, page by page.
__device__ __forceinline__ void softmax(AttentionShared& s, uint32_t head, uint32_t base, uint32_t begin,
                                        uint32_t end) {
  const uint32_t lane = threadIdx.x & 31;
  const float kNone = numerics::bits_float(0xff800000u);
  float max = kNone, sum = 0.0f;
  for (uint32_t page = 0; page < numerics::kPagesPerSplit; ++page) {
    const uint32_t page_base = base + page * kPageKeys;
    if (page_base >= end || page_base + kPageKeys <= begin) continue;
    const uint32_t k0 = page_base + lane, k1 = k0 + 32;
    const bool in0 = k0 >= begin && k0 < end, in1 = k1 >= begin && k1 < end;
    float* p = s.p[head] + page * kPageKeys;
    const float s0 = in0 ? p[lane] : kNone, s1 = in1 ? p[lane + 32] : kNone;
    float page_max = max;
    page_max = s0 > page_max ? s0 : page_max;
    page_max = s1 > page_max ? s1 : page_max;
#pragma unroll
    for (int stride = 16; stride > 0; stride /= 2) {
      const float other = __shfl_xor_sync(~0u, page_max, stride);
      page_max = other > page_max ? other : page_max;
    }
    const float correction = numerics::exp_f32(max - page_max);
    const float p0 = in0 ? numerics::exp_f32(s0 - page_max) : 0.0f;
    const float p1 = in1 ? numerics::exp_f32(s1 - page_max) : 0.0f;
    p[lane] = p0;
    p[lane + 32] = p1;
    float tree = p0 + p1;
#pragma unroll
    for (int stride = 16; stride > 0; stride /= 2) tree = tree + __shfl_down_sync(~0u, tree, stride);
    sum = __fmaf_rn(sum, correction, __shfl_sync(~0u, tree, 0));
    max = page_max;
    if (lane == 0) s.correction[head][page] = correction;
  }
  if (lane == 0) {
    s.max[head] = max;
    s.sum[head] = sum;
  }
}

// o of one pair of elements of a head over the split's visible keys.
__device__ __forceinline__ float2 values(const AttentionArgs& a, const AttentionShared& s,
                                         const uint16_t* const (&pages)[4], uint32_t head, uint32_t pair,
                                         uint32_t base, uint32_t begin, uint32_t end) {
  float2 o = make_float2(0.0f, 0.0f);
  for (uint32_t page = 0; page < numerics::kPagesPerSplit; ++page) {
    const uint32_t page_base = base + page * kPageKeys;
    if (page_base >= end || page_base + kPageKeys <= begin) continue;
    const uint32_t first = begin > page_base ? begin - page_base : 0, last = min(end - page_base, kPageKeys);
    const float correction = s.correction[head][page];
    const bool whole = first == 0 && last == kPageKeys;
    o.x = o.x * correction;
    o.y = o.y * correction;
    const uint16_t* v = pages[page] + a.rope.head_dim * kPageKeys + 2 * pair;
    const float* p = s.p[head] + page * kPageKeys;
    constexpr uint32_t kBatch = 32;
    for (uint32_t j0 = 0; j0 < kPageKeys; j0 += kBatch) {
      if (j0 >= last || j0 + kBatch <= first) continue;
      uint32_t raw[kBatch];
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i)
        raw[i] = *reinterpret_cast<const uint32_t*>(v + (j0 + i) * a.rope.head_dim);
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        const float2 value = half_pair(raw[i]);
        if (whole) {
          o.x = __fmaf_rn(p[j0 + i], value.x, o.x);
          o.y = __fmaf_rn(p[j0 + i], value.y, o.y);
          continue;
        }
        const bool in = j0 + i >= first && j0 + i < last;  // a key outside is not touched at all
        const float x = __fmaf_rn(p[j0 + i], value.x, o.x), y = __fmaf_rn(p[j0 + i], value.y, o.y);
        o.x = in ? x : o.x;
        o.y = in ? y : o.y;
      }
    }
  }
  return o;
}

// Folds the split (max_b, sum_b, o_b) into a; `started` false: takes it over.
__device__ __forceinline__ void merge(bool started, numerics::SoftmaxState* a, float2* oa, float max_b,
                                      float sum_b, float2 ob) {
  if (!started) {
    *a = {max_b, sum_b};
    *oa = ob;
    return;
  }
  const MergeFactors factors = merge_factors(a->max, max_b);
  a->sum = __fmaf_rn(a->sum, factors.a, sum_b * factors.b);
  oa->x = __fmaf_rn(oa->x, factors.a, ob.x * factors.b);
  oa->y = __fmaf_rn(oa->y, factors.a, ob.y * factors.b);
  a->max = factors.max;
}

__global__ void __launch_bounds__(kThreads) attention_kernel(const AttentionArgs a) {
  __shared__ AttentionShared s;
  const RopeArgs& r = a.rope;
  wait_for_inputs();
  const uint32_t per_kv = r.n_heads / r.n_kv_heads, chunks = (per_kv + kHeads - 1) / kHeads;
  const uint32_t kv_head = blockIdx.x / chunks, first_head = kv_head * per_kv + blockIdx.x % chunks * kHeads;
  const uint32_t n_heads = min(kHeads, (kv_head + 1) * per_kv - first_head);
  const uint32_t token = blockIdx.y, n_pairs = r.head_dim / 2;
  const uint32_t position = static_cast<uint32_t>(__ldcg(r.step.position + token));
  const int32_t* table =
      r.step.pages + static_cast<uint64_t>(__ldcg(r.step.sequence + token)) * r.step.page_stride;
  const uint32_t begin = numerics::first_visible(position, a.window), end = position + 1;
  const uint32_t n_splits = min(gridDim.z, (end - 1) / kSplitKeys - begin / kSplitKeys + 1);
  if (blockIdx.z >= n_splits) return;
  const uint64_t head_elements = uint64_t{2} * r.head_dim * kPageKeys;
  for (uint32_t i = threadIdx.x; i < kHeads * r.head_dim; i += kThreads) {
    const uint32_t head = i / r.head_dim, d = i % r.head_dim;
    s.q[head][d] =
        head < n_heads
            ? __ldcg(r.q + static_cast<uint64_t>(token) * r.q_stride + (first_head + head) * r.head_dim + d)
            : 0.0f;
  }
  float2 total[kMaxItems] = {};
  numerics::SoftmaxState state[kMaxItems] = {};
  bool started = false;
  for (uint32_t split = begin / kSplitKeys + blockIdx.z; split * kSplitKeys < end; split += n_splits) {
    const uint32_t base = split * kSplitKeys;
    const uint16_t* pages[4];
#pragma unroll
    for (uint32_t page = 0; page < 4; ++page) {
      const bool visible = base + page * kPageKeys < end && base + (page + 1) * kPageKeys > begin;
      const int64_t id = visible ? __ldcg(table + base / kPageKeys + page) : 0;
      pages[page] = r.pages + (id * r.n_kv_heads + kv_head) * head_elements;
    }
    __syncthreads();  // q is there; the last split's p is no longer read
    scores(a, s, pages, base, begin, end);
    __syncthreads();
    if (threadIdx.x / 32 < n_heads) softmax(s, threadIdx.x / 32, base, begin, end);
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < kMaxItems; ++i) {
      const uint32_t item = threadIdx.x + i * kThreads, head = item / n_pairs, pair = item % n_pairs;
      if (head >= n_heads) break;
      const float2 o = values(a, s, pages, head, pair, base, begin, end);
      if (n_splits == 1) {
        merge(started, &state[i], &total[i], s.max[head], s.sum[head], o);
      } else {
        float* to = a.partial +
                    ((static_cast<uint64_t>(token) * r.n_heads + first_head + head) * a.max_splits + split) *
                        (r.head_dim + 2);
        *reinterpret_cast<float2*>(to + 2 * pair) = o;
        if (pair == 0) *reinterpret_cast<float2*>(to + r.head_dim) = make_float2(s.max[head], s.sum[head]);
      }
    }
    started = true;
  }
  if (n_splits > 1 && !is_last_to_arrive(a.arrivals + token * r.n_heads + blockIdx.x, n_splits, &s.last))
    return;
#pragma unroll
  for (uint32_t i = 0; i < kMaxItems; ++i) {
    const uint32_t item = threadIdx.x + i * kThreads, head = item / n_pairs, pair = item % n_pairs;
    if (head >= n_heads) break;
    if (n_splits > 1) {
      started = false;
      for (uint32_t split = begin / kSplitKeys; split * kSplitKeys < end; ++split) {
        const float* from =
            a.partial +
            ((static_cast<uint64_t>(token) * r.n_heads + first_head + head) * a.max_splits + split) *
                (r.head_dim + 2);
        const float2 b = __ldcg(reinterpret_cast<const float2*>(from + r.head_dim));
        merge(started, &state[i], &total[i], b.x, b.y,
              __ldcg(reinterpret_cast<const float2*>(from + 2 * pair)));
        started = true;
      }
    }
    float2 with_sink = make_float2(1.0f, state[i].sum);
    if (a.sinks) with_sink = add_sink(__ldg(a.sinks + first_head + head), state[i].max, state[i].sum);
    const float correction = with_sink.x, inverse = 1.0f / with_sink.y;
    float* out =
        a.out + static_cast<uint64_t>(token) * r.q_stride + (first_head + head) * r.head_dim + 2 * pair;
    *reinterpret_cast<float2*>(out) =
        make_float2(total[i].x * correction * inverse, total[i].y * correction * inverse);
  }
}

// Rows of floats of all warps, then keys.
constexpr uint32_t keys_shared_bytes(uint32_t head_dim) {
  return kRopeWarps * head_dim * 4 + kKeyTokens * key_row(head_dim) * 2;
}

}  // namespace

void prepare_attention(Calls* calls) {
  calls->prefer_shared(reinterpret_cast<const void*>(queries_kernel));
  calls->allow_shared(reinterpret_cast<const void*>(keys_kernel), keys_shared_bytes(kMaxHeadDim));
  calls->prefer_shared(reinterpret_cast<const void*>(attention_kernel));
}

void launch_queries(Calls* calls, const RopeArgs& args) {
  calls->launch("queries", queries_kernel,
                {dim3((args.n_heads + kRopeWarps - 1) / kRopeWarps, args.n_tokens), dim3(kRopeWarps * 32)},
                args);
}

void launch_keys(Calls* calls, const RopeArgs& args) {
  calls->launch("keys", keys_kernel,
                {dim3(args.n_kv_heads, (args.n_tokens + kKeyTokens - 1) / kKeyTokens), dim3(kRopeWarps * 32),
                 keys_shared_bytes(args.head_dim)},
                args);
}

void launch_attention(Calls* calls, uint32_t n_splits, const AttentionArgs& args) {
  const RopeArgs& r = args.rope;
  const uint32_t chunks = (r.n_heads / r.n_kv_heads + kHeads - 1) / kHeads;
  calls->launch("attention", attention_kernel,
                {dim3(r.n_kv_heads * chunks, r.n_tokens, n_splits), dim3(kThreads)}, args);
}

}  // namespace orcd::cuda
