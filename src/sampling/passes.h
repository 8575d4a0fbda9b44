// The sampler's passes over a whole vocabulary, in blocks of 64 values: one by one, or eight lanes at a time
// where the processor has AVX2 and FMA, with the same bits.
#pragma once

#include <cstdint>

#include "sampling/params.h"

namespace orcd::sampling {

inline constexpr uint32_t kBlock = 64;  // values that share a maximum, a sum and one word of the seen bitmap

struct Passes {
  // Steps 1 and 2 of rules.h for a block of `size` <= 64 logits. seen: a bit for each token. out: 64 values,
  // filled up with -Inf; max: the largest. False if a logit is NaN or +Inf.
  bool (*adjust_block)(const float* logits, uint32_t size, const SamplingParams& params, uint64_t seen,
                       float* out, float* max);
  // Step 5 for a block, in place: logits, none above `max`, become weights, and those below `least` 0.
  // Returns their sum.
  uint64_t (*weigh_block)(float* values, float max, float least);
  // Weights below `least` become 0. Returns the sum of the rest.
  uint64_t (*cut_block)(float* weights, float least);
  // The bits of the block's weights >= least, in order. Returns how many; up to 64 places are written.
  uint64_t (*collect_block)(const float* weights, float least, uint32_t* bits);
  // Moves those keys to the front that equal `wanted` under `mask`; their order stays. Returns how many.
  uint64_t (*keep_equal)(uint32_t* keys, uint64_t n, uint32_t mask, uint32_t wanted);
};

const Passes& scalar_passes();
const Passes& best_passes();  // of this processor

}  // namespace orcd::sampling
