// Correctly rounded quotients and roots without the branches of the compiler's, which keep it from working on
// several at once and cost a warp alone a tenth of a microsecond each. The steps are those of its own fast
// path: an approximation, one step of Newton's method, and a correction by the remainder (Markstein 1990,
// "Computation of elementary functions on the IBM RISC System/6000 processor"). tests/gpu/exact_math_test.cpp
// compares them with the compiler's for all operands. So is an exponential of what a softmax needs.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "numerics/functions.h"
#include "numerics/norm.h"

namespace orcd::cuda {

// 2^-60 <= x < 2^60: nothing on the way overflows or loses bits.
__device__ __forceinline__ bool is_ordinary(float x) {
  return numerics::float_bits(x) - 0x21800000u < 0x3c000000u;
}

// 1 / b to within its last place.
__device__ __forceinline__ float near_reciprocal(float b) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
  return __fmaf_rn(y, __fmaf_rn(-b, y, 1.0f), y);
}

// a / b of ordinary numbers; y: near_reciprocal(b).
__device__ __forceinline__ float divide(float a, float b, float y) {
  const float q = __fmul_rn(a, y);
  return __fmaf_rn(y, __fmaf_rn(-b, q, a), q);
}

// amax / 127 and 127 / amax, or 0 and 0: amax ordinary or 0.
__device__ __forceinline__ float2 code_scales(float amax) {
  constexpr float kNear = 1.0f / 127.0f;
  const float d = divide(amax, 127.0f, __fmaf_rn(kNear, __fmaf_rn(-127.0f, kNear, 1.0f), kNear));
  return make_float2(d, d > 0.0f ? divide(127.0f, amax, near_reciprocal(amax)) : 0.0f);
}

// 1 / b of any number.
__device__ __forceinline__ float reciprocal(float b) {
  return __builtin_expect(is_ordinary(b), true) ? divide(1.0f, b, near_reciprocal(b)) : 1.0f / b;
}

// 1 / sqrt(x), both correctly rounded: 2^-90 <= x < 2^90.
__device__ __forceinline__ float inverse_root(float x) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  const float g = __fmul_rn(x, r);
  const float root = __fmaf_rn(__fmaf_rn(-g, g, x), __fmul_rn(r, 0.5f), g);
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(root));
  return __fmaf_rn(y, -__fmaf_rn(y, root, -1.0f), y);
}

// numerics::exp_f32 where x <= 0 or NaN: a softmax's terms. The magic number has what turns n into the
// exponent of 2^(n + 64) added to it; 2^-64 then rounds results below the normal range once.
__device__ __forceinline__ float exp_nonpositive(float x) {
  constexpr float kMagic = 12582912.0f + 64.0f + 127.0f;
  const float t = __fmaf_rn(fmaxf(x, -104.0f), 1.44269504088896341f, kMagic);
  const float n = t - kMagic;
  const float r = __fmaf_rn(n, 2.12194440e-4f, __fmaf_rn(n, -0.693359375f, x));
  const float y = numerics::exp_of_rest(r);
  const float scaled =
      y * numerics::bits_float(numerics::float_bits(t) << 23) * numerics::bits_float(0x1f800000u);
  return x < -104.0f ? 0.0f : scaled;
}

// numerics::float_to_half by the instruction, whose NaN is another.
__device__ __forceinline__ uint16_t half_bits(float x) {
  const uint32_t sign = numerics::float_bits(x) >> 16 & 0x8000u;
  return static_cast<uint16_t>(x == x ? __half_as_ushort(__float2half_rn(x)) : sign | 0x7e00u);
}

}  // namespace orcd::cuda
