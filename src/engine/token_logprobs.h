// Log-probabilities of tokens, from the row of logits that a token was drawn from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace orcd::engine {

inline constexpr uint32_t kMaxTopLogprobs = 20;

struct TokenLogprob {
  int32_t id;
  float logprob;  // -Inf for a token that cannot be drawn
  bool operator==(const TokenLogprob&) const = default;
};

// That of `chosen`, then those of the n_top likeliest tokens, likeliest first and ties to the lowest id:
//   logits[i] - max - log(sum_j exp(logits[j] - max))
// of the logits as the model gives them, before temperature and penalties. The sum is of binary64, in
// ascending order, of exp_f32 (rule N2): the same bits wherever the logits are. REQUIRES finite logits but
// for -Inf, n_top
// <= kMaxTopLogprobs.
std::vector<TokenLogprob> token_logprobs(std::span<const float> logits, int32_t chosen, uint32_t n_top);

}  // namespace orcd::engine
