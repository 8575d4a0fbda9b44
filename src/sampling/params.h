// Sampling parameters of one request, as validated; the rules are N6 of docs/NUMERICS.md.
#pragma once

#include <cstdint>

namespace orcd::sampling {

struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy: ties to the lowest id
  float top_p = 1.0f;               // 0..1; 1 = off, 0 keeps one token
  uint32_t top_k = 0;               // 0 = off
  float min_p = 0.0f;               // 0..1; 0 = off
  float repetition_penalty = 1.0f;  // 0..2; 1 = off
  uint64_t seed = 0;
  uint32_t choice = 0;  // index of the choice of an n > 1 request
  bool operator==(const SamplingParams&) const = default;
};

}  // namespace orcd::sampling
