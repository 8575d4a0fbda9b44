// exp and the activations (rule N2): one source for host and device, built from N1's operations only.
#pragma once

#include "numerics/scalar.h"

namespace orcd::numerics {

// e^r where |r| is half of ln 2 or little more: what exp_f32() has left of x.
ORCD_HD float exp_of_rest(float r) {
  float p = 1.9875691500e-4f;
  p = fma_rn(p, r, 1.3981999507e-3f);
  p = fma_rn(p, r, 8.3334519073e-3f);
  p = fma_rn(p, r, 4.1665795894e-2f);
  p = fma_rn(p, r, 1.6666665459e-1f);
  p = fma_rn(p, r, 5.0000001201e-1f);
  return fma_rn(p, r * r, r) + 1.0f;
}

// e^x, max error about 1 ulp. exp(0) == 1 exactly; x < -104 gives 0, x > 88.72284 gives +Inf, NaN gives NaN.
// Cody & Waite range reduction; polynomial of Cephes expf (Moshier 1989).
ORCD_HD float exp_f32(float x) {
  const float kMagic = 12582912.0f;
  const float clamped = x > 89.0f ? 89.0f : (x < -104.0f ? -104.0f : x);
  const float t = fma_rn(clamped, 1.44269504088896341f, kMagic);
  const float n = t - kMagic;
  float r = fma_rn(n, -0.693359375f, clamped);
  r = fma_rn(n, 2.12194440e-4f, r);
  const float y = exp_of_rest(r);
  // 2^n in two factors, so that results below the normal range are rounded once.
  const int32_t exponent = static_cast<int32_t>(float_bits(t) - 0x4b400000u);
  const int32_t low = exponent >> 1;
  const uint32_t high = static_cast<uint32_t>(exponent) - static_cast<uint32_t>(low);
  const float scaled =
      y * bits_float((static_cast<uint32_t>(low) + 127u) << 23) * bits_float((high + 127u) << 23);
  return x > 88.72284f ? bits_float(0x7f800000u) : (x < -104.0f ? 0.0f : scaled);
}

// x * sigmoid(x)                                          (Elfwing et al. 2017)
ORCD_HD float silu(float x) { return x / (1.0f + exp_f32(-x)); }

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x * sigmoid(2 u)      (Hendrycks & Gimpel 2016)
ORCD_HD float gelu_tanh(float x) {
  const float inner = fma_rn(x * x * 0.044715f, x, x);
  return x / (1.0f + exp_f32(-1.59576912160573081f * inner));
}

// tanh(x) = 1 - 2 / (e^2x + 1)
ORCD_HD float tanh_f32(float x) { return 1.0f - 2.0f / (exp_f32(2.0f * x) + 1.0f); }

// erf, absolute error below 2e-7                           (Abramowitz & Stegun 7.1.26)
ORCD_HD float erf_f32(float x) {
  const float magnitude = bits_float(float_bits(x) & 0x7fffffffu);
  const float t = 1.0f / fma_rn(0.3275911f, magnitude, 1.0f);
  float p = 1.061405429f;
  p = fma_rn(p, t, -1.453152027f);
  p = fma_rn(p, t, 1.421413741f);
  p = fma_rn(p, t, -0.284496736f);
  p = fma_rn(p, t, 0.254829592f);
  const float y = 1.0f - p * t * exp_f32(-(magnitude * magnitude));
  return x < 0.0f ? -y : y;
}

ORCD_HD float gelu_erf(float x) { return 0.5f * x * (1.0f + erf_f32(x * 0.70710678118654752f)); }

// (up + 1) * gate * sigmoid(1.702 gate), gate at most 7 and up within -7 .. 7      (gpt-oss, OpenAI 2025)
ORCD_HD float clamped_swiglu(float gate, float up) {
  const float g = gate > 7.0f ? 7.0f : gate;
  const float u = up > 7.0f ? 7.0f : (up < -7.0f ? -7.0f : up);
  return g / (1.0f + exp_f32(-1.702f * g)) * (u + 1.0f);
}

// cap * tanh(x / cap)                                      (Gemma 2 report, 2024)
ORCD_HD float softcap(float x, float cap) { return cap * tanh_f32(x / cap); }

}  // namespace orcd::numerics
