// Rule N6 in scalars: what a logit becomes on its way to a draw. One source for host and device; a sampler is
// any arrangement of loops around these that gives the same token.
//   1. l = logit / temperature                                       (temperature 0: the raw logit)
//   2. seen tokens: l > 0 ? l / penalty : l * penalty                (CTRL, Keskar et al. 2019)
//   3. temperature 0: the largest l, ties to the lowest id. Done.
//   4. top-k keeps the k largest l, ties to the lowest id
//   5. weight = floor(exp(l - max) * 2^32); sums of weights are exact integers, in any order
//   6. top-p keeps the shortest prefix, by (weight descending, id ascending), with sum >= ceil(top_p * total)
//   7. min-p keeps weight >= min_p * 2^32, which is the weight of the maximum
//   8. the token is the first id, ascending, where the running sum of kept weights exceeds draw_point()
#pragma once

#include "numerics/functions.h"
#include "numerics/philox.h"
#include "sampling/params.h"

namespace orcd::sampling {

// Below this a temperature counts as 0: its limit, where l / temperature would overflow.
inline constexpr float kSmallestTemperature = 7.8886091e-31f;  // 2^-100

ORCD_HD bool is_greedy(float temperature) { return temperature < kSmallestTemperature; }

// -Inf is a masked token; NaN and +Inf mean a broken model.
ORCD_HD bool is_valid_logit(float logit) {
  const uint32_t bits = numerics::float_bits(logit);
  return (bits & 0x7fffffffu) < 0x7f800000u || bits == 0xff800000u;
}

// Finite results that overflow stop at the largest float, so no later difference is a NaN.
ORCD_HD float saturate(float x) {
  const float kMax = 3.402823466e+38f;
  return x > kMax ? kMax : (x < -kMax ? -kMax : x);
}

// Steps 1 and 2 for one token; a masked one stays masked.
ORCD_HD float adjust_logit(float logit, float temperature, float penalty, bool seen) {
  if (numerics::float_bits(logit) == 0xff800000u) return logit;
  float l = is_greedy(temperature) ? logit : saturate(logit / temperature);
  if (seen && penalty != 1.0f) {
    // 0 / 0 is left out: a zero logit stays zero whatever the penalty.
    l = l > 0.0f ? saturate(l / penalty) : (l < 0.0f ? saturate(l * penalty) : l);
  }
  return l;
}

// Ascending unsigned order = ascending float order; -0 and +0 get one key. REQUIRES not NaN.
ORCD_HD uint32_t order_key(float x) {
  const uint32_t bits = numerics::float_bits(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// exp(-23) * 2^32 < 1: this far below the maximum a logit weighs 0.
inline constexpr float kZeroWeight = -23.0f;

// Step 5 as a float: an integer of at most 24 significant bits, at most 2^32, so it is exact in both types.
ORCD_HD float token_weight(float l, float max) {
  const float scaled = numerics::exp_f32(l - max) * 4294967296.0f;
  return scaled >= 8388608.0f ? scaled : static_cast<float>(static_cast<int32_t>(scaled));
}

// p in [0, 1] as a multiple of 2^-32.
ORCD_HD uint64_t fixed_fraction(float p) { return static_cast<uint64_t>(p * 4294967296.0f); }

// ceil(fraction / 2^32 * total): the sum that a top-p prefix must reach. REQUIRES total < 2^63, fraction <=
// 2^32.
ORCD_HD uint64_t prefix_target(uint64_t fraction, uint64_t total) {
  const uint64_t low = (total & 0xffffffffu) * fraction;
  return (total >> 32) * fraction + (low >> 32) + ((low & 0xffffffffu) != 0 ? 1 : 0);
}

// floor(random / 2^64 * total), below total.
ORCD_HD uint64_t draw_point(uint64_t random, uint64_t total) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(random, total);
#else
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random) * total) >> 64);
#endif
}

}  // namespace orcd::sampling
