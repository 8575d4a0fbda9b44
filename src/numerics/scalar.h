// The scalar operations that decide bits (rule N1 of docs/NUMERICS.md): binary32 add, mul, fma, div, sqrt,
// and conversions. Included by host, SIMD and CUDA translation units: everything here is force-inlined, so
// that code compiled for one instruction set never serves a caller of another.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define ORCD_HD static __host__ __device__ __forceinline__
#else
#define ORCD_HD static inline __attribute__((always_inline))
#endif

namespace orcd::numerics {

ORCD_HD uint32_t float_bits(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
#endif
}

ORCD_HD float bits_float(uint32_t u) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(u);
#else
  float x;
  memcpy(&x, &u, 4);
  return x;
#endif
}

// round(a * b + c), once.
ORCD_HD float fma_rn(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

ORCD_HD float sqrt_rn(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

// Nearest integer, ties to even, as a float. REQUIRES |x| < 2^22.
ORCD_HD float round_even(float x) {
  const float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

ORCD_HD bool is_nan(float x) { return (float_bits(x) & 0x7fffffffu) > 0x7f800000u; }
ORCD_HD bool is_finite(float x) { return (float_bits(x) & 0x7f800000u) != 0x7f800000u; }

// binary16 -> binary32, exact.
ORCD_HD float half_to_float(uint16_t h) {
  const uint32_t sign = (uint32_t{h} & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 31u;
  const uint32_t fraction = h & 0x3ffu;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
  // Subnormal: fraction * 2^-24, exact in binary32.
  const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;
  return bits_float(sign | float_bits(magnitude));
}

// binary32 -> binary16, nearest even; overflow gives infinity, NaN gives the quiet NaN 0x7e00 with the sign.
ORCD_HD uint16_t float_to_half(float x) {
  const uint32_t u = float_bits(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 65520 or more
  if (magnitude < 0x38800000u) {
    // Subnormal or zero: adding 2^-1 * 2^... aligns the last bit at 2^-24, so the float addition rounds to
    // nearest even.
    const float shifted = bits_float(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (float_bits(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

ORCD_HD float bfloat_to_float(uint16_t b) { return bits_float(uint32_t{b} << 16); }

}  // namespace orcd::numerics
