// Attention in decode, page by page (rule N4): scores of a page, its softmax, its values.
#pragma once

#include "device/cuda/attention_heads.cuh"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kHeads = 2;

// What a block shares: two query heads, the token's own key and value, a split's weights.
struct DecodeShared {
  float q[kHeads][kMaxHeadDim];
  float k[kMaxHeadDim], v[kMaxHeadDim];
  float p[kHeads][kSplitKeys];
  float page_max[kHeads][kPages], correction[kHeads][kPages], page_sum[kHeads][kPages];
  float2 angles[kMaxHeadDim / 2];
  float q_norm[kMaxHeadDim], k_norm[kMaxHeadDim];
  const uint8_t* pages[kPages];  // of the split; nullptr: nothing visible there
  uint32_t last;
};

// Scores of heads [head, head + kN) against the two keys of a lane, chains over d ascending.
template <uint32_t kDim, uint32_t kN>
__device__ __forceinline__ void page_scores(const DecodeShared& s, const uint8_t* slot, uint32_t head_dim,
                                            uint32_t head, float2 (&score)[kN]) {
  constexpr uint32_t kBatch = 16;
  const uint32_t* k = reinterpret_cast<const uint32_t*>(slot) + (threadIdx.x & 31);
  uint32_t d = 0;
#pragma unroll 1
  for (; d + kBatch <= head_dim; d += kBatch) {
    uint32_t key[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) key[i] = k[(d + i) * (kPageKeys / 2)];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; i += 4) {
      float query[kN][4];
#pragma unroll
      for (uint32_t h = 0; h < kN; ++h)
        *reinterpret_cast<float4*>(query[h]) = *reinterpret_cast<const float4*>(&s.q[head + h][d + i]);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const float2 pair = half_pair(key[i + j]);
#pragma unroll
        for (uint32_t h = 0; h < kN; ++h) {
          score[h].x = __fmaf_rn(query[h][j], pair.x, score[h].x);
          score[h].y = __fmaf_rn(query[h][j], pair.y, score[h].y);
        }
      }
    }
  }
#pragma unroll 1
  for (; kDim == 0 && d < head_dim; ++d) {
    const float2 pair = half_pair(k[d * (kPageKeys / 2)]);
#pragma unroll
    for (uint32_t h = 0; h < kN; ++h) {
      score[h].x = __fmaf_rn(s.q[head + h][d], pair.x, score[h].x);
      score[h].y = __fmaf_rn(s.q[head + h][d], pair.y, score[h].y);
    }
  }
}

__device__ __forceinline__ bool is_within(uint32_t i, uint32_t first, uint32_t last) {
  return i >= first && i < last;
}

// The softmax of a page by the warp that has its scores: first its maximum; then, behind a barrier of all
// that have one, its weights in the place of the scores. Keys [first, last) of it are visible.
template <uint32_t kN>
__device__ __forceinline__ void page_maximum(DecodeShared& s, const float2 (&score)[kN], uint32_t head,
                                             uint32_t page, uint32_t first, uint32_t last) {
  const uint32_t lane = threadIdx.x & 31;
  const float kNone = numerics::bits_float(0xff800000u);
  float max[kN];
#pragma unroll
  for (uint32_t h = 0; h < kN; ++h) {
    *reinterpret_cast<float2*>(&s.p[head + h][page * kPageKeys + 2 * lane]) = score[h];
    max[h] = larger(is_within(2 * lane, first, last) ? score[h].x : kNone,
                    is_within(2 * lane + 1, first, last) ? score[h].y : kNone);
  }
#pragma unroll
  for (int stride = 16; stride > 0; stride /= 2) {
#pragma unroll
    for (uint32_t h = 0; h < kN; ++h) max[h] = larger(max[h], __shfl_xor_sync(~0u, max[h], stride));
  }
  if (lane == 0) {
#pragma unroll
    for (uint32_t h = 0; h < kN; ++h) s.page_max[head + h][page] = max[h];
  }
}
template <uint32_t kN>
__device__ __forceinline__ void page_weights(DecodeShared& s, uint32_t head, uint32_t page, uint32_t first,
                                             uint32_t last, uint32_t first_page) {
  const uint32_t lane = threadIdx.x & 31;
  const float kNone = numerics::bits_float(0xff800000u);
  float2 p[kN];
  float correction[kN];
#pragma unroll
  for (uint32_t h = 0; h < kN; ++h) {
    auto& of_lane = *reinterpret_cast<float2*>(&s.p[head + h][page * kPageKeys + 2 * lane]);
    float before = kNone;
    for (uint32_t i = first_page; i < page; ++i) before = larger(before, s.page_max[head + h][i]);
    const float max = larger(before, s.page_max[head + h][page]);
    // exp(-Inf) is 0: no branch around either.
    p[h].x = exp_nonpositive((is_within(2 * lane, first, last) ? of_lane.x : kNone) - max);
    p[h].y = exp_nonpositive((is_within(2 * lane + 1, first, last) ? of_lane.y : kNone) - max);
    correction[h] = exp_nonpositive(before - max);
    of_lane = p[h];
  }
#pragma unroll
  for (int stride = 16; stride > 0; stride /= 2) {
#pragma unroll
    for (uint32_t h = 0; h < kN; ++h) {
      p[h].x = p[h].x + __shfl_down_sync(~0u, p[h].x, stride);
      p[h].y = p[h].y + __shfl_down_sync(~0u, p[h].y, stride);
    }
  }
  if (lane == 0) {
#pragma unroll
    for (uint32_t h = 0; h < kN; ++h) {
      s.correction[head + h][page] = correction[h];
      s.page_sum[head + h][page] = p[h].x + p[h].y;
    }
  }
}

// The softmax of a head over the pages of a split.
__device__ __forceinline__ numerics::SoftmaxState split_state(const DecodeShared& s, uint32_t head,
                                                              uint32_t first_page, uint32_t end_page) {
  numerics::SoftmaxState state = {numerics::bits_float(0xff800000u), 0.0f};
#pragma unroll 1
  for (uint32_t page = first_page; page < end_page; ++page) {
    state.max = larger(state.max, s.page_max[head][page]);
    state.sum = __fmaf_rn(state.sum, s.correction[head][page], s.page_sum[head][page]);
  }
  return state;
}

// Adds keys [first, last) of a page to the chains of one element of kN heads from `head` on.
template <uint32_t kN>
__device__ __forceinline__ void page_values(const DecodeShared& s, const uint16_t* v, uint32_t head_dim,
                                            uint32_t head, uint32_t page, uint32_t first, uint32_t last,
                                            float (&o)[kN]) {
  constexpr uint32_t kBatch = 16;
  const float* p = s.p[head] + page * kPageKeys;
#pragma unroll
  for (uint32_t h = 0; h < kN; ++h) o[h] = o[h] * s.correction[head + h][page];
  const auto load = [&](uint32_t j, float(&value)[kBatch]) {
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) value[i] = half_value(v + (j + i) * head_dim);
  };
  const auto add = [&](uint32_t j, const float(&value)[kBatch]) {
#pragma unroll
    for (uint32_t i = 0; i < kBatch; i += 4) {
#pragma unroll
      for (uint32_t h = 0; h < kN; ++h) {
        const float4 weight = *reinterpret_cast<const float4*>(p + h * kSplitKeys + j + i);
        o[h] = __fmaf_rn(weight.x, value[i], o[h]);
        o[h] = __fmaf_rn(weight.y, value[i + 1], o[h]);
        o[h] = __fmaf_rn(weight.z, value[i + 2], o[h]);
        o[h] = __fmaf_rn(weight.w, value[i + 3], o[h]);
      }
    }
  };
  if (first == 0 && last == kPageKeys) {
    // The next values come while these are added.
    float one[kBatch], other[kBatch];
    load(0, one);
#pragma unroll
    for (uint32_t j = 0; j < kPageKeys; j += 2 * kBatch) {
      load(j + kBatch, other);
      add(j, one);
      if (j + 2 * kBatch < kPageKeys) load(j + 2 * kBatch, one);
      add(j + kBatch, other);
    }
    return;
  }
  const auto add_one = [&](uint32_t j) {
    const float value = half_value(v + j * head_dim);
#pragma unroll
    for (uint32_t h = 0; h < kN; ++h) o[h] = __fmaf_rn(p[h * kSplitKeys + j], value, o[h]);
  };
  uint32_t j = first;
#pragma unroll 1
  for (; j < last && j % kBatch != 0; ++j) add_one(j);
#pragma unroll 1
  for (; j + kBatch <= last; j += kBatch) {
    float value[kBatch];
    load(j, value);
    add(j, value);
  }
#pragma unroll 1
  for (; j < last; ++j) add_one(j);
}

}  // namespace orcd::cuda
