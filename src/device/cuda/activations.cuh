// Norms and quantisation of one row of activations by a whole block (rules N3 and N5).
#pragma once

#include "device/cuda/linear.h"
#include "numerics/functions.h"
#include "numerics/norm.h"
#include "numerics/quantize.h"
#include "numerics/strips.h"

namespace orcd::cuda {

// Pairwise tree over 256 values by one warp: lane l holds values l + 32 m in v[m]. All lanes get the sum.
__device__ __forceinline__ float warp_tree_256(float (&v)[8]) {
#pragma unroll
  for (int m = 0; m < 4; ++m) v[m] = v[m] + v[m + 4];
  v[0] = v[0] + v[2];
  v[1] = v[1] + v[3];
  float sum = v[0] + v[1];
#pragma unroll
  for (int stride = 16; stride > 0; stride /= 2) sum = sum + __shfl_down_sync(~0u, sum, stride);
  return __shfl_sync(~0u, sum, 0);
}

// Tree over red[0..255]; every warp does it for itself.
__device__ __forceinline__ float tree_of_shared(const float* red) {
  float v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = red[m * 32 + (threadIdx.x & 31)];
  return warp_tree_256(v);
}

struct RowNorm {
  float mean, inverse;
};

// Statistics of x[0..n): REQUIRES blockDim.x >= 256; red: 256 floats of shared memory. All threads call it.
__device__ __forceinline__ RowNorm row_statistics(const float* x, uint32_t n, const InputNorm& norm,
                                                  float* red) {
  RowNorm result = {0.0f, 1.0f};
  if (norm.mode == NormMode::kNone) return result;
  if (norm.mode == NormMode::kLayer) {
    if (threadIdx.x < 256) {
      float sum = 0.0f;
      for (uint32_t i = threadIdx.x; i < n; i += 256) sum = sum + __ldcg(x + i);
      red[threadIdx.x] = sum;
    }
    __syncthreads();
    result.mean = tree_of_shared(red) / static_cast<float>(n);
    __syncthreads();
  }
  if (threadIdx.x < 256) {
    float sum = 0.0f;
#pragma unroll 16
    for (uint32_t i = threadIdx.x; i < n; i += 256) {
      const float value = norm.mode == NormMode::kLayer ? __ldcg(x + i) - result.mean : __ldcg(x + i);
      sum = numerics::fma_rn(value, value, sum);
    }
    red[threadIdx.x] = sum;
  }
  __syncthreads();
  result.inverse = numerics::rms_inverse(tree_of_shared(red), n, norm.eps);
  return result;
}

__device__ __forceinline__ float normalise(float x, uint32_t i, const InputNorm& norm, const RowNorm& row) {
  if (norm.mode == NormMode::kNone) return x;
  float y = (norm.mode == NormMode::kLayer ? x - row.mean : x) * row.inverse;
  if (norm.weight) y = y * __ldg(norm.weight + i);
  return norm.mode == NormMode::kLayer && norm.bias ? y + __ldg(norm.bias + i) : y;
}

struct QuantizedLane {
  int32_t q;
  float2 scale;  // {d, sums of the halves as two int16}
};

// One group by one warp, a value a lane (0 past a short group): the same as numerics::quantize_group.
__device__ __forceinline__ QuantizedLane quantize_lane(float x) {
  const float amax = numerics::bits_float(__reduce_max_sync(~0u, numerics::float_bits(x) & 0x7fffffffu));
  const float d = amax / 127.0f;
  const float inverse = d > 0.0f ? 127.0f / amax : 0.0f;
  float t = x * inverse;
  t = t > -127.0f ? t : -127.0f;
  t = t < 127.0f ? t : 127.0f;
  const int32_t q = static_cast<int32_t>(numerics::round_even(t));
  const int32_t low = __reduce_add_sync(~0u, (threadIdx.x & 31) < 16 ? q : 0);
  const int32_t all = __reduce_add_sync(~0u, q);
  const uint32_t sums = (static_cast<uint32_t>(low) & 0xffffu) | static_cast<uint32_t>(all - low) << 16;
  return {q, make_float2(d, numerics::bits_float(sums))};
}

// Where element e of a group stands in its unit's 16 bytes of fragment, and of which quarter t.
__device__ __forceinline__ uint32_t fragment_byte(uint32_t group, uint32_t e, uint32_t lane_base) {
  return (lane_base + (e % 16) / 4) * 16 + ((group & 1) * 2 + e / 16) * 4 + e % 4;
}

// The whole row: xq points at the row's first unit, unit_stride bytes a unit, lane_base = 4 * (token % 8) or
// 0; xs at the row's first group, xs_stride apart.
__device__ __forceinline__ void quantize_row(const float* x, uint32_t cols, const InputNorm& norm,
                                             const RowNorm& row, uint8_t* xq, uint32_t unit_stride,
                                             uint32_t lane_base, float2* xs, uint32_t xs_stride) {
  constexpr uint32_t kAhead = 8;
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
  const uint32_t n_groups = (cols + 31) / 32;
  for (uint32_t first = warp; first < n_groups; first += n_warps * kAhead) {
    float values[kAhead];
#pragma unroll
    for (uint32_t j = 0; j < kAhead; ++j) {
      const uint32_t i = (first + j * n_warps) * 32 + lane;
      values[j] = i < cols ? __ldcg(x + i) : 0.0f;
    }
#pragma unroll
    for (uint32_t j = 0; j < kAhead; ++j) {
      const uint32_t group = first + j * n_warps, i = group * 32 + lane;
      if (group >= n_groups) break;
      const float value = i < cols ? normalise(values[j], i, norm, row) : 0.0f;
      const QuantizedLane lane_result = quantize_lane(value);
      xq[(group / 2) * unit_stride + fragment_byte(group, lane, lane_base)] =
          static_cast<uint8_t>(lane_result.q);
      if (lane == 0) xs[group * xs_stride] = lane_result.scale;
    }
  }
}

__device__ __forceinline__ float activate(model::Activation activation, float x) {
  if (activation == model::Activation::kSilu) return numerics::silu(x);
  return activation == model::Activation::kGeluTanh ? numerics::gelu_tanh(x) : numerics::gelu_erf(x);
}

}  // namespace orcd::cuda
