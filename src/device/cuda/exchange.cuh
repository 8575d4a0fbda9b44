// How the blocks of the persistent kernels hand on activations (persistent.h): words that carry their own
// tag, and the norms and groups that are made of them.
#pragma once

#include "device/cuda/activations.cuh"
#include "device/cuda/embedding.cuh"
#include "device/cuda/exact_math.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

#if __CUDA_ARCH__ >= 900
// The barrier of the warps that compute.
__device__ __forceinline__ void compute_sync() {
  asm volatile("bar.sync 1, %0;" ::"n"(kComputeThreads) : "memory");
}

// A word with its tag, whole: whoever sees the tag has the value.
__device__ __forceinline__ void publish_bits(uint64_t* to, uint32_t bits, uint32_t tag) {
  const uint64_t word = static_cast<uint64_t>(tag) << 32 | bits;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}
__device__ __forceinline__ void publish(uint64_t* to, float value, uint32_t tag) {
  publish_bits(to, numerics::float_bits(value), tag);
}
inline constexpr uint32_t kMostRounds = 1u << 24;  // of polling: seconds, where microseconds are usual

// Waits until the first n of kN words, at address(i), have the tag. Polling is what the lines of an exchange
// are busy with: no word is asked for that is not wanted.
template <uint32_t kN, typename Address>
__device__ __forceinline__ void poll_bits(Address address, uint32_t n, uint32_t tag, uint32_t (&bits)[kN]) {
  bool there;
  uint32_t rounds = 0;
  uint64_t word[kN];
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i) word[i] = static_cast<uint64_t>(i < n ? tag - 1 : tag) << 32;
  do {
#pragma unroll
    for (uint32_t i = 0; i < kN; ++i) {
      if (static_cast<uint32_t>(word[i] >> 32) != tag)
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word[i]) : "l"(address(i)) : "memory");
    }
    there = true;
#pragma unroll
    for (uint32_t i = 0; i < kN; ++i) {
      there = there && static_cast<uint32_t>(word[i] >> 32) == tag;
      bits[i] = static_cast<uint32_t>(word[i]);
    }
    // An error is better than a device that never answers.
    if (++rounds == kMostRounds) __trap();
  } while (!there);
}
template <uint32_t kN, typename Address>
__device__ __forceinline__ void poll(Address address, uint32_t n, uint32_t tag, float (&value)[kN]) {
  uint32_t bits[kN];
  poll_bits<kN>(address, n, tag, bits);
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i) value[i] = numerics::bits_float(bits[i]);
}

// The code of x, which the inverse of its group's scale brings to at most 127 or a little more: the same as
// quantize_value(). The integer stands in the last bits of the sum.
__device__ __forceinline__ int32_t code_of(float x, float inverse) {
  const float t = fminf(fmaxf(__fmul_rn(x, inverse), -127.0f), 127.0f);
  return static_cast<int32_t>(numerics::float_bits(__fadd_rn(t, 12582912.0f)) - 0x4b400000u);
}

// Groups of a warp side by side, a value of each a lane: the same as quantize_lane().
template <uint32_t kN>
__device__ __forceinline__ void quantize_lanes(const float (&x)[kN], QuantizedLane (&out)[kN]) {
  float amax[kN];
  bool ordinary = true;
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i)
    amax[i] = numerics::bits_float(__reduce_max_sync(~0u, numerics::float_bits(x[i]) & 0x7fffffffu));
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i) ordinary = ordinary && (is_ordinary(amax[i]) || amax[i] == 0.0f);
  if (__builtin_expect(!ordinary, false)) {
#pragma unroll
    for (uint32_t i = 0; i < kN; ++i) out[i] = quantize_lane(x[i]);
    return;
  }
  float d[kN];
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i) {
    const float2 scales = code_scales(amax[i]);
    d[i] = scales.x;
    out[i].q = code_of(x[i], scales.y);
  }
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i)
    out[i].scale = make_float2(d[i], __fmul_rn(d[i], static_cast<float>(__reduce_add_sync(~0u, out[i].q))));
}

// A group of the n_groups of a row, quantised by a warp: a value a lane.
__device__ __forceinline__ void publish_group(uint64_t* words, uint32_t n_groups, uint32_t group, float value,
                                              uint32_t tag) {
  const uint32_t lane = thread_here() & 31;
  const float x[1] = {value};
  QuantizedLane of_group[1];
  quantize_lanes(x, of_group);
  const QuantizedLane& q = of_group[0];
  uint32_t codes = static_cast<uint32_t>(q.q) & 255u;
  codes |= __shfl_down_sync(~0u, codes, 1) << 8;
  codes |= __shfl_down_sync(~0u, codes, 2) << 16;
  if (lane % 4 == 0) publish_bits(words + group * 8 + chunk_byte(lane) / 4, codes, tag);
  if (lane % 4 == 1 && lane < 8)
    publish(words + n_groups * 8 + group * 2 + lane / 4, lane < 4 ? q.scale.x : q.scale.y, tag);
}

__device__ __forceinline__ int32_t token_id(const PersistentArgs& a) {
  return id_of(__ldcg(a.step.token), a.last_token);
}
// The residual that the layers begin with: of the token's embedding each block has the rows that it owns, a
// thread each, and all get them as the first layer's input. id: of the token.
__device__ __forceinline__ void begin_residual(const PersistentArgs& a, int32_t id, uint32_t first_row,
                                               uint32_t n_rows, uint32_t tag, float* residual) {
  const uint32_t i = threadIdx.x;
  if (i >= n_rows) return;
  const float x = look_up(a.embeddings, static_cast<uint64_t>(id), first_row + i) * a.embedding_scale;
  residual[i] = x;
  publish(a.exchange.input + first_row + i, x, tag);
}

// 1 / rms of a row; near_inverse: near_reciprocal(cols).
__device__ __forceinline__ float inverse_rms(float sum, uint32_t cols, float near_inverse, float eps) {
  if (__builtin_expect(is_ordinary(sum), true))
    return inverse_root(divide(sum, static_cast<float>(cols), near_inverse) + eps);
  return numerics::rms_inverse(sum, cols, eps);
}
#endif

}  // namespace orcd::cuda
