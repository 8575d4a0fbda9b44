// Perplexity of a token sequence on an executor: quality in a number, and the digest of every logit behind
// it.
#pragma once

#include <cstdint>
#include <span>

#include "device/device.h"

namespace orcd::engine {

struct PerplexityOptions {
  uint32_t window = 512;  // tokens evaluated together, from an empty cache at position 0
  uint32_t chunk =
      0;  // tokens of a window in one step; 0 = as many as the limits allow. Does not change a bit.
  uint32_t batch = 1;  // windows in flight at once, at most the executor's slots. Does not change a bit.
};

struct PerplexityResult {
  uint64_t tokens = 0;             // evaluated
  uint64_t predicted = 0;          // tokens 1.. of each window
  double nll = 0;                  // sum of -ln p over the predicted tokens
  double ppl = 0;                  // exp(nll / predicted)
  numerics::Digest logits_digest;  // rows of all windows in order
  double seconds = 0;
};

// Non-overlapping windows; a last one shorter than 2 tokens is dropped. Sums and the log-softmax are in
// binary64. Throws INVALID_REQUEST for fewer than 2 tokens or a window over the context, INTERNAL for
// non-finite logits.
PerplexityResult perplexity(device::Executor& executor, uint32_t n_vocab, std::span<const int32_t> tokens,
                            const PerplexityOptions& options);

}  // namespace orcd::engine
