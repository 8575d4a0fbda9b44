// One head of q, k or v by one warp: its norm, rotation and scale (N2, N5).
#pragma once

#include "device/cuda/activations.cuh"
#include "device/cuda/exact_math.cuh"
#include "device/cuda/ops.h"
#include "numerics/attention.h"
#include "numerics/rope.h"

namespace orcd::cuda {

using numerics::kMaxHeadDim;
using numerics::kPageKeys;
inline constexpr uint32_t kPages = numerics::kPagesPerSplit;
inline constexpr uint32_t kSplitKeys = kPageKeys * kPages;

__device__ __forceinline__ float larger(float a, float b) { return b > a ? b : a; }

// exp_nonpositive without three copies of its polynomial in a kernel.
__device__ __noinline__ static float exp_call(float x) { return exp_nonpositive(x); }

// Of numerics::merge_splits: the larger maximum m and exp(a - m), exp(b - m), of which one is exp(0) = 1.
struct MergeFactors {
  float max, a, b;
};
__device__ __forceinline__ MergeFactors merge_factors(float a, float b) {
  const bool b_leads = b > a;
  const float other = exp_call(b_leads ? a - b : b - a);
  return {b_leads ? b : a, b_leads ? other : 1.0f, b_leads ? 1.0f : other};
}

// One element of a head and its softmax, the next split folded in.
__device__ __forceinline__ void merge_split(numerics::SoftmaxState* state, float* o, float max, float sum,
                                            float part) {
  const MergeFactors factors = merge_factors(state->max, max);
  state->sum = __fmaf_rn(state->sum, factors.a, __fmul_rn(sum, factors.b));
  *o = __fmaf_rn(*o, factors.a, __fmul_rn(part, factors.b));
  state->max = factors.max;
}

// numerics::add_sink of a head whose softmax has come to {max, sum}: what every element is multiplied by, and
// the sum with the sink. Not inlined: its place is at the end of kernels whose loops need the registers.
__device__ __noinline__ static float2 add_sink(float sink, float max, float sum) {
  const float most = sink > max ? sink : max;
  const float correction = numerics::exp_f32(max - most);
  return make_float2(correction, __fmaf_rn(sum, correction, numerics::exp_f32(sink - most)));
}

// A head's norm by one warp. x: the head in shared memory, [head_dim] with `stride` between elements; weight:
// of its norm, or nullptr for none.
__device__ __forceinline__ void norm_head(const RopeArgs& a, float* x, uint32_t stride, const float* weight) {
  if (!weight) return;
  const uint32_t lane = threadIdx.x & 31;
  float sums[8];
#pragma unroll
  for (uint32_t m = 0; m < 8; ++m) {
    sums[m] = 0.0f;
#pragma unroll 1
    for (uint32_t d = lane + 32 * m; d < a.head_dim; d += numerics::kLanes)
      sums[m] = __fmaf_rn(x[d * stride], x[d * stride], sums[m]);
  }
  const float inverse = numerics::rms_inverse(warp_tree_256(sums), a.head_dim, a.eps);
#pragma unroll 1
  for (uint32_t d = lane; d < a.head_dim; d += 32) x[d * stride] = x[d * stride] * inverse * weight[d];
  __syncwarp();
}

// x: the head in shared memory, [head_dim] raw in, finished out. weight: of its norm, or nullptr. angles:
// [n_dims / 2] of the token's position.
__device__ __forceinline__ void finish_head(const RopeArgs& a, float* x, const float* weight,
                                            const float2* angles) {
  norm_head(a, x, 1, weight);
  const uint32_t pairs = a.n_dims / 2;
#pragma unroll 1
  for (uint32_t i = threadIdx.x & 31; i < pairs; i += 32) {
    const float2 angle = angles[i];
    numerics::rotate_pair(&x[a.halves ? i : 2 * i], &x[a.halves ? i + pairs : 2 * i + 1], angle.x, angle.y);
  }
  __syncwarp();
}

// Of the rotation at a position.
__device__ __forceinline__ const float2* angles_of(const RopeArgs& a, uint32_t position) {
  return reinterpret_cast<const float2*>(a.table) + static_cast<uint64_t>(position) * (a.n_dims / 2);
}

// Where a token's key and value go.
struct KeyPlace {
  uint16_t *k, *v;  // of the head: k[d * kPageKeys], v[d]
};
__device__ __forceinline__ KeyPlace place_of_key(const RopeArgs& a, uint32_t token, uint32_t position,
                                                 uint32_t kv_head) {
  const int32_t page_id =
      __ldcg(a.step.pages + static_cast<uint64_t>(__ldcg(a.step.sequence + token)) * a.step.page_stride +
             position / kPageKeys);
  uint16_t* page =
      a.pages + (static_cast<uint64_t>(page_id) * a.n_kv_heads + kv_head) * 2 * a.head_dim * kPageKeys;
  const uint32_t key = position % kPageKeys;
  return {page + key, page + (kPageKeys + key) * a.head_dim};
}

}  // namespace orcd::cuda
