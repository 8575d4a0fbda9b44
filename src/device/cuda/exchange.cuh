// How the blocks of the persistent kernels hand on activations (persistent.h): words that carry their own
// tag, and the norms and groups that are made of them.
#pragma once

#include "device/cuda/activations.cuh"
#include "device/cuda/exact_math.cuh"
#include "device/cuda/linear.h"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

// Of a block, those that compute.
inline constexpr uint32_t kComputeWarps = 16;
inline constexpr uint32_t kComputeThreads = kComputeWarps * 32;

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
    const float t = fminf(fmaxf(__fmul_rn(x[i], scales.y), -127.0f), 127.0f);
    // The integer stands in the last bits of the sum.
    out[i].q = static_cast<int32_t>(numerics::float_bits(__fadd_rn(t, 12582912.0f)) - 0x4b400000u);
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

// A stage's input: the residual, normalised; each warp quantises the units that it will work on, and sees
// them behind a barrier of its own. All threads call it.
template <uint32_t kAhead>
struct RowNormInput {
  uint32_t cols, n_units;
  const float* weight;
  float eps, near_inverse;  // of cols
  float ahead[2 * kAhead];  // weights of the warp's first units
};
template <uint32_t kAhead>
__device__ __forceinline__ RowNormInput<kAhead> norm_input(uint32_t cols, uint32_t n_units,
                                                           const InputNorm& of) {
  RowNormInput<kAhead> norm = {cols, n_units, of.weight, of.eps, near_reciprocal(static_cast<float>(cols))};
  const uint32_t tid = thread_here();
#pragma unroll
  for (uint32_t j = 0; j < 2 * kAhead; ++j) {
    const uint32_t i = ((tid >> 5) + j / 2 * kComputeWarps) * kUnit + j % 2 * 32 + (tid & 31);
    norm.ahead[j] = i < norm.cols ? __ldg(norm.weight + i) : 0.0f;
  }
  return norm;
}
__device__ __forceinline__ float inverse_rms(float sum, uint32_t cols, float near_inverse, float eps) {
  if (__builtin_expect(is_ordinary(sum), true))
    return inverse_root(divide(sum, static_cast<float>(cols), near_inverse) + eps);
  return numerics::rms_inverse(sum, cols, eps);
}
template <uint32_t kBatch, uint32_t kAhead>
__device__ __forceinline__ void normed_input(const RowNormInput<kAhead>& norm, const float* plain,
                                             const uint64_t* words, uint32_t tag, float* row, uint8_t* codes,
                                             float2* scales) {
  float* red = row + norm.cols;
  const uint32_t tid = thread_here(), warp = tid >> 5, lane = tid & 31;
  if (tid < numerics::kLanes) {
    float sum = 0.0f;
#pragma unroll 1
    for (uint32_t first = tid; first < norm.cols; first += kBatch * numerics::kLanes) {
      const uint32_t n = min(kBatch, (norm.cols - 1 - first) / numerics::kLanes + 1);
      float value[kBatch];
      if (plain) {
#pragma unroll
        for (uint32_t j = 0; j < kBatch; ++j)
          value[j] = __ldcg(plain + first + min(j, n - 1) * numerics::kLanes);
      } else {
        poll<kBatch>([&](uint32_t j) { return words + first + j * numerics::kLanes; }, n, tag, value);
      }
#pragma unroll
      for (uint32_t j = 0; j < kBatch; ++j) {
        if (j >= n) break;
        row[first + j * numerics::kLanes] = value[j];
        sum = numerics::fma_rn(value[j], value[j], sum);
      }
    }
    red[tid] = sum;
  }
  compute_sync();
  const float inverse = inverse_rms(tree_of_shared(red), norm.cols, norm.near_inverse, norm.eps);
  const auto quantise = [&](uint32_t unit, float w0, float w1) {
    const uint32_t i = unit * kUnit + lane;
    const float x[2] = {i < norm.cols ? row[i] * inverse * w0 : 0.0f,
                        i + 32 < norm.cols ? row[i + 32] * inverse * w1 : 0.0f};
    QuantizedLane q[2];
    quantize_lanes(x, q);
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
      codes[unit * kUnit + j * 32 + chunk_byte(lane)] = static_cast<uint8_t>(q[j].q);
      if (lane == 0) scales[unit * 2 + j] = q[j].scale;
    }
  };
#pragma unroll
  for (uint32_t j = 0; j < kAhead; ++j) {
    const uint32_t unit = warp + j * kComputeWarps;
    if (unit < norm.n_units) quantise(unit, norm.ahead[2 * j], norm.ahead[2 * j + 1]);
  }
#pragma unroll 1
  for (uint32_t unit = warp + kAhead * kComputeWarps; unit < norm.n_units; unit += kComputeWarps) {
    const uint32_t i = unit * kUnit + lane;
    quantise(unit, i < norm.cols ? __ldg(norm.weight + i) : 0.0f,
             i + 32 < norm.cols ? __ldg(norm.weight + i + 32) : 0.0f);
  }
}

// Eight elements of a group a lane, beside the three lanes that hold the rest of it: the same as
// quantize_part(). Whole warps.
__device__ __forceinline__ QuantizedPart<8> quantize_octet(const float (&x)[8]) {
  uint32_t bits = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) bits = max(bits, numerics::float_bits(x[i]) & 0x7fffffffu);
#pragma unroll
  for (uint32_t lane = 1; lane < 4; lane *= 2) bits = max(bits, __shfl_xor_sync(~0u, bits, lane));
  const float amax = numerics::bits_float(bits);
  if (__builtin_expect(!__all_sync(~0u, is_ordinary(amax) || amax == 0.0f), false)) return quantize_part(x);
  const float2 scales = code_scales(amax);
  QuantizedPart<8> out = {};
  int32_t sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const float t = fminf(fmaxf(__fmul_rn(x[i], scales.y), -127.0f), 127.0f);
    // The integer stands in the last bits of the sum.
    const auto q = static_cast<int32_t>(numerics::float_bits(__fadd_rn(t, 12582912.0f)) - 0x4b400000u);
    sum += q;
    out.words[i / 4] |= (static_cast<uint32_t>(q) & 255u) << (8 * (i % 4));
  }
#pragma unroll
  for (uint32_t lane = 1; lane < 4; lane *= 2) sum += __shfl_xor_sync(~0u, sum, lane);
  out.scale = make_float2(scales.x, __fmul_rn(scales.x, static_cast<float>(sum)));
  return out;
}

// normed_input() of wide rows: a thread eight elements. All see them behind a barrier.
__device__ __forceinline__ void normed_octets(uint32_t cols, const InputNorm& norm, const float* plain,
                                              const uint64_t* words, uint32_t tag, float* row, uint8_t* codes,
                                              float2* scales) {
  float* red = row + cols;
  const uint32_t tid = thread_here(), n_octets = cols / 8;
  const NormWeights ahead = load_norm_weights(norm, tid < n_octets ? tid * 8 : 0);
  const float near_inverse = near_reciprocal(static_cast<float>(cols));
  constexpr uint32_t kBatch = 8;  // words that a thread asks for together
#pragma unroll 1
  for (uint32_t first = tid; first < cols; first += kBatch * kComputeThreads) {
    const uint32_t n = min(kBatch, (cols - 1 - first) / kComputeThreads + 1);
    float value[kBatch];
    if (plain) {
#pragma unroll
      for (uint32_t j = 0; j < kBatch; ++j)
        value[j] = __ldcg(plain + first + min(j, n - 1) * kComputeThreads);
    } else {
      poll<kBatch>([&](uint32_t j) { return words + first + j * kComputeThreads; }, n, tag, value);
    }
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      if (j < n) row[first + j * kComputeThreads] = value[j];
    }
  }
  compute_sync();
  if (tid < numerics::kLanes) {
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t i = tid; i < cols; i += numerics::kLanes) sum = numerics::fma_rn(row[i], row[i], sum);
    red[tid] = sum;
  }
  compute_sync();
  const float inverse = inverse_rms(tree_of_shared(red), cols, near_inverse, norm.eps);
#pragma unroll 1
  for (uint32_t first = tid & ~31u; first < n_octets; first += kComputeThreads) {
    const uint32_t octet = first + (tid & 31);
    const bool inside = octet < n_octets;
    float v[8] = {};
    if (inside) {
      const NormWeights weights = first < kComputeThreads ? ahead : load_norm_weights(norm, octet * 8);
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) v[j] = row[octet * 8 + j] * inverse * weights.w[j];
    }
    const QuantizedPart<8> q = quantize_octet(v);
    if (!inside) continue;
    uint8_t* group = codes + octet / 4 * 32;
    *reinterpret_cast<uint32_t*>(group + chunk_byte(octet % 4 * 8)) = q.words[0];
    *reinterpret_cast<uint32_t*>(group + chunk_byte(octet % 4 * 8 + 4)) = q.words[1];
    if (octet % 4 == 0) scales[octet / 4] = q.scale;
  }
}

// The same where it was published quantised: a lane one of the words of each of the warp's units.
template <uint32_t kBatch>
__device__ __forceinline__ void quantized_input(uint32_t n_groups, const uint64_t* words, uint32_t tag,
                                                uint8_t* codes, float2* scales) {
  constexpr uint32_t kCodeWords = 16, kScaleWords = 4;
  const uint32_t tid = thread_here(), warp = tid >> 5, lane = tid & 31;
  if (lane >= kCodeWords + kScaleWords) return;
  const bool is_code = lane < kCodeWords;
  const uint32_t of_unit = is_code ? kCodeWords : kScaleWords, word = is_code ? lane : lane - kCodeWords;
  const uint32_t n_words = n_groups * (of_unit / 2);  // of its kind; a last unit may have one group
  const uint64_t* from = words + (is_code ? 0 : n_groups * 8);
  uint32_t* to = is_code ? reinterpret_cast<uint32_t*>(codes) : reinterpret_cast<uint32_t*>(scales);
  const uint32_t stride = kComputeWarps * of_unit;
#pragma unroll 1
  for (uint32_t first = warp * of_unit + word; first < n_words; first += kBatch * stride) {
    uint32_t bits[kBatch];
    const uint32_t n = min(kBatch, (n_words - 1 - first) / stride + 1);
    poll_bits<kBatch>([&](uint32_t i) { return from + first + i * stride; }, n, tag, bits);
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      if (j < n) to[first + j * stride] = bits[j];
    }
  }
}

// The same of wide rows, whichever thread. All see them behind a barrier.
__device__ __forceinline__ void quantized_words(uint32_t n_groups, const uint64_t* words, uint32_t tag,
                                                uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 10;
  const uint32_t n_codes = n_groups * 8, n_words = n_groups * 10;
#pragma unroll 1
  for (uint32_t first = thread_here(); first < n_words; first += kBatch * kComputeThreads) {
    uint32_t bits[kBatch];
    const uint32_t n = min(kBatch, (n_words - 1 - first) / kComputeThreads + 1);
    poll_bits<kBatch>([&](uint32_t i) { return words + first + i * kComputeThreads; }, n, tag, bits);
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kComputeThreads;
      if (j >= n) break;
      if (i < n_codes) {
        reinterpret_cast<uint32_t*>(codes)[i] = bits[j];
      } else {
        reinterpret_cast<uint32_t*>(scales)[i - n_codes] = bits[j];
      }
    }
  }
}
#endif

}  // namespace orcd::cuda
