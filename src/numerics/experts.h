// Mixture of experts (rule N7): which experts a token goes to, with what weights, and how their outputs add
// up.
#pragma once

#include "numerics/functions.h"

namespace orcd::numerics {

// Ascending unsigned order = ascending float order; -0 and +0 get one key; NaN the largest, so that it is
// chosen and shows in the output.
ORCD_HD uint32_t router_key(float logit) {
  if (is_nan(logit)) return 0xffffffffu;
  const uint32_t bits = float_bits(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The n_used experts with the largest logits, in descending order, ties to the lowest expert; their weights
// are the softmax of those logits alone (Shazeer et al. 2017), which is also the softmax over all experts
// normalised to a sum of 1 over the chosen ones:
//   p_r = exp(l_r - l_0); s = p_0, then s = s + p_r in order of rank; w_r = p_r / s
// logits: [n_experts]; experts, weights: [n_used]. REQUIRES 1 <= n_used <= n_experts.
ORCD_HD void route(const float* logits, uint32_t n_experts, uint32_t n_used, uint32_t* experts,
                   float* weights) {
  for (uint32_t rank = 0; rank < n_used; ++rank) {
    // The best of those that come after the one before it.
    uint32_t best = n_experts, best_key = 0;
    for (uint32_t expert = 0; expert < n_experts; ++expert) {
      const uint32_t key = router_key(logits[expert]);
      if (rank > 0) {
        const uint32_t before = router_key(logits[experts[rank - 1]]);
        if (key > before || (key == before && expert <= experts[rank - 1])) continue;
      }
      if (best == n_experts || key > best_key) {
        best = expert;
        best_key = key;
      }
    }
    experts[rank] = best;
  }
  float sum = 0.0f;
  for (uint32_t rank = 0; rank < n_used; ++rank) {
    weights[rank] = exp_f32(logits[experts[rank]] - logits[experts[0]]);
    sum = rank == 0 ? weights[0] : sum + weights[rank];
  }
  for (uint32_t rank = 0; rank < n_used; ++rank) weights[rank] = weights[rank] / sum;
}

// One element of a token's result, in order of rank: y = w_0 * o_0, then y = fma(w_r, o_r, y). o_r is the
// output of the expert at rank r with its bias.
ORCD_HD float combine_expert(uint32_t rank, float weight, float output, float y) {
  return rank == 0 ? weight * output : fma_rn(weight, output, y);
}

}  // namespace orcd::numerics
