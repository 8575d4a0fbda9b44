// Rotary position embedding (Su et al. 2021): the rotation, and the tables computed on the host in binary64
// (rule N2).
#pragma once

#include <span>

#include "numerics/scalar.h"

namespace orcd::numerics {

// (x0, x1) rotated by the angle whose cosine and sine are given.
ORCD_HD void rotate_pair(float* x0, float* x1, float cosine, float sine) {
  const float a = *x0, b = *x1;
  *x0 = fma_rn(a, cosine, -(b * sine));
  *x1 = fma_rn(a, sine, b * cosine);
}

struct RopeParams {
  uint32_t n_dims;  // rotated dimensions, even
  double base;
  double scale = 1.0;
  std::span<const float> freq_factors;  // [n_dims / 2] or empty
  double yarn_factor = 0;               // 0 = off (YaRN: Peng et al. 2023)
  double yarn_original_ctx = 0, yarn_beta_fast = 32, yarn_beta_slow = 1, yarn_attention_factor = 1;
  // yarn_attention_factor multiplies cos and sin, with YaRN or without (LongRoPE: Ding et al. 2024).
  bool yarn_rounded = true;  // the first and last interpolated dimensions are rounded outwards to whole ones
};

// table: [n_positions][n_dims / 2][2] = {cos, sin}, for positions first .. first + n_positions - 1.
void rope_table(const RopeParams& params, uint64_t first, uint64_t n_positions, float* table);

// Our own binary64 functions: libm differs from system to system. Built of IEEE operations only; error below
// 2 ulp.
double sin_f64(double x);  // |x| < 2^30
double cos_f64(double x);
double exp_f64(double x);
double log_f64(double x);                      // x > 0
double pow_f64(double base, double exponent);  // base > 0: exp(exponent * log(base))

}  // namespace orcd::numerics
