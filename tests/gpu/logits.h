// A model on a device, and the logits of a sequence by steps of any size.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "device/cuda_device.h"
#include "support/synthetic_model.h"

namespace orcd::test {

struct Loaded {
  Loaded(std::unique_ptr<device::Device> on, const LoadedModel& model, const device::Limits& limits)
      : device(std::move(on)),
        resolved(device->resolve(*model.program, limits)),
        executor(device->load(model.program, resolved, {})) {}
  Loaded(const LoadedModel& model, const device::Limits& limits)
      : Loaded(device::open_cuda_device(0), model, limits) {}
  std::unique_ptr<device::Device> device;
  device::ResolvedLimits resolved;
  std::unique_ptr<device::Executor> executor;
};

// A shuffled share of the pool, so that block tables are not the identity.
inline std::vector<uint32_t> pages_of(const device::ResolvedLimits& limits, uint32_t index) {
  std::vector<uint32_t> pages;
  for (uint32_t page = index; page < limits.kv_pages; page += limits.slots)
    pages.push_back(limits.kv_pages - 1 - page);
  return pages;
}

inline std::vector<float> all_logits(Loaded& loaded, std::span<const int32_t> tokens, uint32_t chunk) {
  const std::vector<uint32_t> pages = pages_of(loaded.resolved, 0);
  std::vector<float> logits;
  for (uint32_t at = 0; at < tokens.size(); at += chunk) {
    device::SequenceStep step;
    step.first_position = at;
    step.tokens = tokens.subspan(at, std::min<size_t>(chunk, tokens.size() - at));
    step.pages = pages;
    step.logits = device::LogitsMode::kAll;
    step.want_rows = true;
    loaded.executor->submit({&step, 1});
    const auto results = loaded.executor->collect();
    logits.insert(logits.end(), results[0].rows.begin(), results[0].rows.end());
  }
  return logits;
}

// Number of values whose bits differ.
inline size_t n_different(const std::vector<float>& want, const std::vector<float>& got) {
  size_t n = want.size() == got.size() ? 0 : ~size_t{0};
  for (size_t i = 0; n != ~size_t{0} && i < want.size(); ++i) n += std::memcmp(&want[i], &got[i], 4) != 0;
  return n;
}

}  // namespace orcd::test
