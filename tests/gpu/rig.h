// A small model on a CUDA device whose calls a test counts and fails.
#pragma once

#include <optional>

#include "base/error.h"
#include "device/cuda/device.h"
#include "support/synthetic_model.h"

namespace orcd::test {

struct Rig {
  explicit Rig(const cuda::FaultPlan& fault = {}) : Rig(SyntheticModel{.n_vocab = 300}, fault) {}
  explicit Rig(const SyntheticModel& shape, const cuda::FaultPlan& fault = {})
      : model(shape), context(std::make_shared<cuda::Context>(0, fault)), device(cuda::make_device(context)) {
    limits.context = 256;
    limits.slots = 3;
    limits.batch_tokens = 48;
    limits.kv_cache_bytes = 8 * 64 * uint64_t{shape.n_layers} * shape.n_kv_heads * shape.head_dim * 2 * 2;
  }
  std::unique_ptr<device::Executor> load() {
    return device->load(model.program, device->resolve(*model.program, limits), {});
  }
  cuda::Calls& calls() { return *context->calls; }

  LoadedModel model;
  std::shared_ptr<cuda::Context> context;
  std::unique_ptr<device::Device> device;
  device::Limits limits;
};

struct Drawn {
  std::vector<int32_t> tokens;
  numerics::Digest digest;
  bool operator==(const Drawn&) const = default;
};

// Two sequences, one of them with a prompt of two chunks, then decoding with two steps under way. What was
// submitted is collected whatever fails; then the first error is thrown.
inline Drawn run_request(device::Executor& executor) {
  const std::vector<int32_t> prompts[] = {random_tokens(60, 300, 1), random_tokens(30, 300, 2)};
  const std::vector<uint32_t> pages[] = {{3, 1}, {0, 2}};
  Drawn out;
  uint32_t in_flight = 0;
  std::optional<Error> failed;
  const auto guarded = [&](const auto& call) {
    if (failed) return;
    try {
      call();
    } catch (const Error& error) {
      failed = error;
    }
  };
  const auto collect = [&] {
    --in_flight;
    try {
      for (const device::SequenceResult& result : executor.collect()) {
        out.tokens.push_back(result.token);
        numerics::digest_chain(&out.digest, result.logits_digest);
      }
    } catch (const Error& error) {
      if (!failed) failed = error;
    }
  };
  const auto submit = [&](const std::vector<device::SequenceStep>& steps) {
    if (in_flight == executor.pipeline_depth()) collect();
    guarded([&] {
      executor.submit(steps);
      ++in_flight;
    });
  };
  const auto step = [&](uint32_t slot, uint32_t first, uint32_t n, bool sample) {
    device::SequenceStep s;
    s.slot = slot;
    s.first_position = first;
    if (first < prompts[slot].size()) s.tokens = std::span(prompts[slot]).subspan(first, n);
    s.pages = pages[slot];
    s.sample = sample;
    s.logits = sample ? device::LogitsMode::kLast : device::LogitsMode::kNone;
    return s;
  };
  for (uint32_t slot = 0; slot < 2; ++slot) {
    guarded([&] {
      sampling::SamplingParams params;
      params.temperature = slot ? 0.9f : 0.0f;
      params.top_p = slot ? 0.9f : 1.0f;
      params.repetition_penalty = 1.1f;
      params.seed = 7;
      executor.begin_sequence(slot, params, prompts[slot]);
    });
  }
  submit({step(0, 0, 40, false)});
  submit({step(0, 40, 20, true), step(1, 0, 28, false)});
  submit({step(0, 60, 1, true), step(1, 28, 2, true)});
  for (uint32_t i = 0; i < 5; ++i) submit({step(0, 61 + i, 1, true), step(1, 30 + i, 1, true)});
  while (in_flight > 0) collect();
  if (failed) throw Error(*failed);
  return out;
}

}  // namespace orcd::test
