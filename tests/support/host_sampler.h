// A slot's sampler on the host with memory of its own, aligned as the plan's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/sampler.h"

namespace orcd::test {

struct HostSampler {
  explicit HostSampler(uint32_t n_vocab)
      : state(sampling::slot_bytes(n_vocab) / 8 + 1),
        workspace(sampling::workspace_bytes(n_vocab) / 64 + 1),
        sampler(n_vocab, std::as_writable_bytes(std::span(state))) {}
  sampling::SampleResult draw(const std::vector<float>& logits, uint64_t position) {
    return sampler.sample(logits, position, std::as_writable_bytes(std::span(workspace)));
  }

  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<uint64_t> state;
  std::vector<Line> workspace;
  sampling::SlotSampler sampler;
};

}  // namespace orcd::test
