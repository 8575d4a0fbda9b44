// Norms and quantisation of one row of activations by a whole block (rules N3 and N5).
#pragma once

#include "device/cuda/linear.h"
#include "device/cuda/ptx.cuh"
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
  for (int stride = 16; stride > 0; stride /= 2) sum = sum + __shfl_xor_sync(~0u, sum, stride);
  return sum;
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

// Statistics of n values that load(i) gives: REQUIRES blockDim.x >= 256; red: 256 floats of shared memory.
// All threads call it.
template <typename Load>
__device__ __forceinline__ RowNorm row_statistics(Load load, uint32_t n, const InputNorm& norm, float* red) {
  RowNorm result = {0.0f, 1.0f};
  if (norm.mode == NormMode::kNone) return result;
  if (norm.mode == NormMode::kLayer) {
    if (threadIdx.x < 256) {
      float sum = 0.0f;
#pragma unroll 1
      for (uint32_t i = threadIdx.x; i < n; i += 256) sum = sum + load(i);
      red[threadIdx.x] = sum;
    }
    __syncthreads();
    result.mean = tree_of_shared(red) / static_cast<float>(n);
    __syncthreads();
  }
  if (threadIdx.x < 256) {
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < n; i += 256) {
      const float value = norm.mode == NormMode::kLayer ? load(i) - result.mean : load(i);
      sum = numerics::fma_rn(value, value, sum);
    }
    red[threadIdx.x] = sum;
  }
  __syncthreads();
  result.inverse = numerics::rms_inverse(tree_of_shared(red), n, norm.eps);
  return result;
}

// What kernels of this step wrote: never from a stale L1 line.
struct LoadGlobal {
  const float* x;
  __device__ __forceinline__ float operator()(uint32_t i) const { return __ldcg(x + i); }
};
struct LoadShared {
  const float* x;
  __device__ __forceinline__ float operator()(uint32_t i) const { return x[i]; }
};

__device__ __forceinline__ float normalise(float x, uint32_t i, const InputNorm& norm, const RowNorm& row) {
  if (norm.mode == NormMode::kNone) return x;
  float y = (norm.mode == NormMode::kLayer ? x - row.mean : x) * row.inverse;
  if (norm.weight) y = y * __ldg(norm.weight + i);
  return norm.mode == NormMode::kLayer && norm.bias ? y + __ldg(norm.bias + i) : y;
}

// The norm's weights of eight elements: ones where it has none. They do not depend on the kernel's input.
struct NormWeights {
  float w[8];
};
__device__ __forceinline__ NormWeights load_norm_weights(const InputNorm& norm, uint32_t i) {
  NormWeights out = {{1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}};
  if (norm.mode == NormMode::kNone || !norm.weight) return out;
  *reinterpret_cast<float4*>(out.w) = __ldg(reinterpret_cast<const float4*>(norm.weight + i));
  *reinterpret_cast<float4*>(out.w + 4) = __ldg(reinterpret_cast<const float4*>(norm.weight + i + 4));
  return out;
}

// Eight elements of a row, aligned to 16 bytes, as whole float4s: by single words, lanes eight words apart
// meet in the same banks of shared memory.
__device__ __forceinline__ void load_octet(const float* x, float (&y)[8]) {
  *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(x);
  *reinterpret_cast<float4*>(y + 4) = *reinterpret_cast<const float4*>(x + 4);
}

// Eight elements from i on; x: as load_octet() takes it.
__device__ __forceinline__ void normalise_octet(const float* x, uint32_t i, const InputNorm& norm,
                                                const RowNorm& row, const NormWeights& weights,
                                                float (&y)[8]) {
  load_octet(x, y);
  if (norm.mode == NormMode::kNone) return;
  if (norm.mode == NormMode::kRms) {
#pragma unroll
    for (int j = 0; j < 8; ++j) y[j] = y[j] * row.inverse * weights.w[j];
    return;
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    y[j] = (y[j] - row.mean) * row.inverse * weights.w[j];
    if (norm.bias) y[j] = y[j] + __ldg(norm.bias + i + j);
  }
}

// A row of n f32 values (n % 4 == 0) that kernels of this step wrote, into shared memory: several loads of a
// thread are on their way before the first is used.
template <uint32_t kThreads>
__device__ __forceinline__ void load_row(const float* x, uint32_t n, float* to) {
  constexpr uint32_t kBatch = 2;
  const uint32_t n_quads = n / 4;
#pragma unroll 1
  for (uint32_t first = 0; first < n_quads; first += kBatch * kThreads) {
    float4 v[kBatch];
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kThreads + threadIdx.x;
      if (i < n_quads) v[j] = __ldcg(reinterpret_cast<const float4*>(x) + i);
    }
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kThreads + threadIdx.x;
      if (i < n_quads) reinterpret_cast<float4*>(to)[i] = v[j];
    }
  }
}

// One value of numerics::quantize_group.
__device__ __forceinline__ int32_t quantize_value(float x, float inverse) {
  float t = x * inverse;
  t = t > -127.0f ? t : -127.0f;
  t = t < 127.0f ? t : 127.0f;
  return static_cast<int32_t>(numerics::round_even(t));
}

struct QuantizedLane {
  int32_t q;
  float2 scale;  // {d, d * sum of the group}
};

// One group by one warp, a value a lane (0 past a short group): the same as numerics::quantize_group.
__device__ __forceinline__ QuantizedLane quantize_lane(float x) {
  const float amax = numerics::bits_float(__reduce_max_sync(~0u, numerics::float_bits(x) & 0x7fffffffu));
  const float d = amax / 127.0f;
  const int32_t q = quantize_value(x, d > 0.0f ? 127.0f / amax : 0.0f);
  return {q, make_float2(d, d * static_cast<float>(__reduce_add_sync(~0u, q)))};
}

template <uint32_t kValues>
struct QuantizedPart {
  uint32_t words[kValues / 4];  // the codes
  float2 scale;                 // of the group: {d, d * sum}
};

// kValues consecutive elements of a group, quantised with the neighbouring lanes that hold the rest of it:
// whole warps.
template <uint32_t kValues>
__device__ __forceinline__ QuantizedPart<kValues> quantize_part(const float (&x)[kValues]) {
  constexpr uint32_t kLanes = 32 / kValues;
  uint32_t amax_bits = 0;
#pragma unroll
  for (uint32_t i = 0; i < kValues; ++i) amax_bits = max(amax_bits, numerics::float_bits(x[i]) & 0x7fffffffu);
#pragma unroll
  for (uint32_t lane = 1; lane < kLanes; lane *= 2)
    amax_bits = max(amax_bits, __shfl_xor_sync(~0u, amax_bits, lane));
  const float amax = numerics::bits_float(amax_bits);
  const float d = amax / 127.0f;
  const float inverse = d > 0.0f ? 127.0f / amax : 0.0f;
  QuantizedPart<kValues> out = {};
  int32_t sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < kValues; ++i) {
    const int32_t q = quantize_value(x[i], inverse);
    sum += q;
    out.words[i / 4] |= (static_cast<uint32_t>(q) & 255u) << (8 * (i % 4));
  }
#pragma unroll
  for (uint32_t lane = 1; lane < kLanes; lane *= 2) sum += __shfl_xor_sync(~0u, sum, lane);
  out.scale = make_float2(d, __fmul_rn(d, static_cast<float>(sum)));
  return out;
}

// Stores octet `octet` of one token's row: its codes in the order of chunk_byte(), and the group's scale.
__device__ __forceinline__ void store_octet(const QuantizedPart<8>& q, uint32_t octet, uint8_t* codes,
                                            float2* scales) {
  uint8_t* group = codes + octet / 4 * 32;
  *reinterpret_cast<uint32_t*>(group + chunk_byte(octet % 4 * 8)) = q.words[0];
  *reinterpret_cast<uint32_t*>(group + chunk_byte(octet % 4 * 8 + 4)) = q.words[1];
  if (octet % 4 == 0) scales[octet / 4] = q.scale;
}

// Where element e of a group stands in its unit's 16 bytes of fragment, and of which quarter t.
__device__ __forceinline__ uint32_t fragment_byte(uint32_t group, uint32_t e, uint32_t lane_base) {
  return (lane_base + (e % 16) / 4) * 16 + ((group & 1) * 2 + e / 16) * 4 + e % 4;
}

__device__ __noinline__ static float softcap_call(float x, float cap) { return numerics::softcap(x, cap); }

// Not inlined: it is called once a value, and three copies of it would be in every kernel.
__device__ __noinline__ static float activate(model::Activation activation, float x) {
  if (activation == model::Activation::kSilu) return numerics::silu(x);
  return activation == model::Activation::kGeluTanh ? numerics::gelu_tanh(x) : numerics::gelu_erf(x);
}

__device__ __noinline__ static float clamped_swiglu_call(float gate, float up) {
  return numerics::clamped_swiglu(gate, up);
}

__device__ __forceinline__ float gated(model::Activation activation, float gate, float up) {
  if (activation == model::Activation::kClampedSwiglu) return clamped_swiglu_call(gate, up);
  return __fmul_rn(activate(activation, gate), up);
}

// The same with the commonest activation in line, for a kernel that calls it at one place.
__device__ __forceinline__ float gated_in_line(model::Activation activation, float gate, float up) {
  return activation == model::Activation::kSilu ? __fmul_rn(numerics::silu(gate), up)
                                                : gated(activation, gate, up);
}

// gate becomes the gated output of four values. Kernels that have many call this: the commonest activation is
// in line, and its four values' instructions between one another.
__device__ __forceinline__ void gated_four(model::Activation activation, float (&gate)[4],
                                           const float (&up)[4]) {
  if (activation == model::Activation::kSilu) {
#pragma unroll
    for (int j = 0; j < 4; ++j) gate[j] = __fmul_rn(numerics::silu(gate[j]), up[j]);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) gate[j] = gated(activation, gate[j], up[j]);
}

}  // namespace orcd::cuda
