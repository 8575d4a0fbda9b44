// Draws the next token of one slot from a row of logits (rules.h), on the host. All memory is given from
// outside, so that it comes from the device's plan; nothing is allocated per token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "sampling/params.h"

namespace orcd::sampling {

struct SampleResult {
  int32_t token = -1;
  bool non_finite = false;  // a NaN or +Inf among the logits, or nothing but -Inf: token is -1
};

// Bytes of scratch that one sample() call needs; one piece for each thread that samples at a time.
uint64_t workspace_bytes(uint32_t n_vocab);
// Bytes of a slot's own state: a bitmap of the tokens seen.
uint64_t slot_bytes(uint32_t n_vocab);

// One slot: parameters and the set of tokens that the repetition penalty has seen.
class SlotSampler {
 public:
  // state: slot_bytes(n_vocab) bytes, 8-byte aligned, that live as long as this object.
  SlotSampler(uint32_t n_vocab, std::span<std::byte> state);

  // Starts a sequence. Tokens in `seen` that are outside the vocabulary are ignored.
  void begin(const SamplingParams& params, std::span<const int32_t> seen);

  // The token at absolute position `position` (that of the token drawn: the prompt's length for the first
  // one), which is then seen. logits: [n_vocab], not changed. workspace: workspace_bytes(n_vocab) bytes,
  // 64-byte aligned. The result depends on nothing but the logits, the parameters, the seen set, the
  // position.
  SampleResult sample(std::span<const float> logits, uint64_t position, std::span<std::byte> workspace);

  // Adds a token to the seen set without drawing it (a sequence that is being rebuilt).
  void mark_seen(int32_t id);

 private:
  SamplingParams params_;
  uint32_t n_vocab_;
  std::span<uint64_t> seen_;  // bit per token
};

}  // namespace orcd::sampling
