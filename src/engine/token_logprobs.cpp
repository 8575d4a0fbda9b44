#include "engine/token_logprobs.h"

#include <algorithm>

#include "numerics/functions.h"
#include "numerics/rope.h"

namespace orcd::engine {

std::vector<TokenLogprob> token_logprobs(std::span<const float> logits, int32_t chosen, uint32_t n_top) {
  const float max = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(numerics::exp_f32(logit - max));
  const double log_sum = numerics::log_f64(sum);
  const auto of = [&](int32_t id) {
    const double below = static_cast<double>(logits[static_cast<size_t>(id)]) - static_cast<double>(max);
    return TokenLogprob{id, static_cast<float>(below - log_sum)};
  };
  std::vector<TokenLogprob> out = {of(chosen)};
  // The best so far, in order; nearly every token is found worse than the last of them.
  std::vector<int32_t> best;
  for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
    const float logit = logits[static_cast<size_t>(id)];
    const auto is_worse = [&](int32_t other) { return logits[static_cast<size_t>(other)] < logit; };
    if (best.size() == n_top && (n_top == 0 || !is_worse(best.back()))) continue;
    best.insert(std::ranges::find_if(best, is_worse), id);
    if (best.size() > n_top) best.pop_back();
  }
  for (const int32_t id : best) out.push_back(of(id));
  return out;
}

}  // namespace orcd::engine
