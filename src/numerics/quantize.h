// Activations to int8 in groups of 32 (rule N3). q = round_even(x * 127 / amax), d = amax / 127.
#pragma once

#include "numerics/scalar.h"

namespace orcd::numerics {

inline constexpr uint32_t kGroup = 32;

// One quantised group. Sums are of the integer values, halves of 16 apart, as formats with 16-wide scales
// need them.
struct QuantizedGroup {
  int8_t q[kGroup];  // -127..127; zeros past a short group
  float d;
  int32_t sum_low;   // q[0..15]
  int32_t sum_high;  // q[16..31]
};

// x: n <= 32 values. The largest magnitude is taken on the bit patterns, so a NaN or Inf anywhere makes d NaN
// or Inf and the results that use the group are NaN: nothing is hidden.
ORCD_HD void quantize_group(const float* x, uint32_t n, QuantizedGroup* out) {
  uint32_t amax_bits = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t magnitude = float_bits(x[i]) & 0x7fffffffu;
    amax_bits = magnitude > amax_bits ? magnitude : amax_bits;
  }
  const float amax = bits_float(amax_bits);
  const float d = amax / 127.0f;
  // d > 0 fails for amax below about 127 * 2^-150 too: such a group is all zeros.
  const float inverse = d > 0.0f ? 127.0f / amax : 0.0f;
  out->d = d;
  out->sum_low = 0;
  out->sum_high = 0;
  for (uint32_t i = 0; i < kGroup; ++i) {
    float t = i < n ? x[i] * inverse : 0.0f;
    t = t > -127.0f ? t : -127.0f;  // also where t is NaN
    t = t < 127.0f ? t : 127.0f;
    const int32_t q = static_cast<int32_t>(round_even(t));
    out->q[i] = static_cast<int8_t>(q);
    (i < 16 ? out->sum_low : out->sum_high) += q;
  }
}

}  // namespace orcd::numerics
