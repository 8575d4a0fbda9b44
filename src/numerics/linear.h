// Linear layers (rule N3): the scalar definition that every executor's matrix code equals bit for bit.
#pragma once

#include "numerics/blocks.h"
#include "numerics/quantize.h"
#include "numerics/strips.h"

namespace orcd::numerics {

// One link of the chain: weights and activations of the same 32 elements of K.
//   isum = scale0 * sum_{0..15} w x + scale1 * sum_{16..31} w x, exact in int32
//   acc = fma(d * dx, float(isum), acc)
//   where the format has minimums: acc = fma(dm, dx * float(min0 * sum_low + min1 * sum_high), acc)
ORCD_HD float chain_group(const WeightGroup& w, bool has_min, const QuantizedGroup& x, float acc) {
  int32_t low = 0, high = 0;
  for (int i = 0; i < 16; ++i) {
    low += w.w[i] * x.q[i];
    high += w.w[16 + i] * x.q[16 + i];
  }
  const int32_t isum = w.scale[0] * low + w.scale[1] * high;
  acc = fma_rn(w.d * x.d, static_cast<float>(isum), acc);
  if (!has_min) return acc;
  const int32_t msum = w.min[0] * x.sum_low + w.min[1] * x.sum_high;
  return fma_rn(w.dm, x.d * static_cast<float>(msum), acc);
}

// y = W[row] . x for a block format: chains from 0 over the groups of each strip, strips folded left by
// addition. row: the row's bytes as in the file; x: [cols / 32]; strips = strip_count(rows of the weight,
// cols).
inline float linear_blocks(TensorType type, const uint8_t* row, const QuantizedGroup* x, uint64_t cols,
                           uint32_t strips) {
  float total = 0.0f;
  for (uint32_t s = 0; s < strips; ++s) {
    float acc = 0.0f;
    for (uint64_t g = strip_begin(cols, strips, s) / kGroup; g < strip_begin(cols, strips, s + 1) / kGroup;
         ++g) {
      acc = chain_group(decode_group(type, row, g), has_minimum(type), x[g], acc);
    }
    total = s == 0 ? acc : total + acc;
  }
  return total;
}

// The same for F32, F16 and BF16 weights: acc = fma(w, x, acc) over elements. x: [cols] f32, not quantised.
inline float linear_floats(TensorType type, const uint8_t* row, const float* x, uint64_t cols,
                           uint32_t strips) {
  float total = 0.0f;
  for (uint32_t s = 0; s < strips; ++s) {
    float acc = 0.0f;
    for (uint64_t i = strip_begin(cols, strips, s); i < strip_begin(cols, strips, s + 1); ++i) {
      acc = fma_rn(load_element(type, row, i), x[i], acc);
    }
    total = s == 0 ? acc : total + acc;
  }
  return total;
}

}  // namespace orcd::numerics
