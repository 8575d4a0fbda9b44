// Norms and the reduction tree (rule N5): 256 strided lanes, each a chain, then a fixed pairwise tree.
#pragma once

#include "numerics/scalar.h"

namespace orcd::numerics {

inline constexpr uint32_t kLanes = 256;

// Pairwise tree over lanes[0..width): strides width/2, ..., 1. width is a power of two; the lanes are
// overwritten.
ORCD_HD float tree_sum(float* lanes, uint32_t width) {
  for (uint32_t stride = width / 2; stride > 0; stride /= 2) {
    for (uint32_t i = 0; i < stride; ++i) lanes[i] = lanes[i] + lanes[i + stride];
  }
  return lanes[0];
}

// Sum of x[i]^2: lane i % 256 holds the chain fma(x, x, lane) over i ascending.
ORCD_HD float sum_squares(const float* x, uint32_t n) {
  float lanes[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = 0.0f;
  for (uint32_t i = 0; i < n; ++i) lanes[i % kLanes] = fma_rn(x[i], x[i], lanes[i % kLanes]);
  return tree_sum(lanes, kLanes);
}

// 1 / sqrt(mean(x^2) + eps)
ORCD_HD float rms_inverse(float sum_of_squares, uint32_t n, float eps) {
  return 1.0f / sqrt_rn(sum_of_squares / static_cast<float>(n) + eps);
}

// y = x * rsqrt(mean(x^2) + eps) * w                      (Zhang & Sennrich 2019)
// x, y: [n], may alias; w: [n] or nullptr for 1.
ORCD_HD void rms_norm(const float* x, uint32_t n, const float* w, float eps, float* y) {
  const float inverse = rms_inverse(sum_squares(x, n), n, eps);
  for (uint32_t i = 0; i < n; ++i) y[i] = w ? x[i] * inverse * w[i] : x[i] * inverse;
}

// y = (x - mean) * rsqrt(var + eps) * w + b               (Ba et al. 2016)
// x, y: [n], may alias; w, b: [n] or nullptr.
ORCD_HD void layer_norm(const float* x, uint32_t n, const float* w, const float* b, float eps, float* y) {
  float lanes[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = 0.0f;
  for (uint32_t i = 0; i < n; ++i) lanes[i % kLanes] = lanes[i % kLanes] + x[i];
  const float mean = tree_sum(lanes, kLanes) / static_cast<float>(n);
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = 0.0f;
  for (uint32_t i = 0; i < n; ++i) {
    const float centred = x[i] - mean;
    lanes[i % kLanes] = fma_rn(centred, centred, lanes[i % kLanes]);
  }
  const float inverse = rms_inverse(tree_sum(lanes, kLanes), n, eps);
  for (uint32_t i = 0; i < n; ++i) {
    const float scaled = w ? (x[i] - mean) * inverse * w[i] : (x[i] - mean) * inverse;
    y[i] = b ? scaled + b[i] : scaled;
  }
}

}  // namespace orcd::numerics
