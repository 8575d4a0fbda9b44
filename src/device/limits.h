// Turns the limits a user gave into the ones a device plans with; shared by every device.
#pragma once

#include <algorithm>
#include <functional>
#include <string>

#include "base/units.h"
#include "device/device.h"
#include "kv/layout.h"

namespace orcd::device {

// Bytes of one KV page over all layers.
inline uint64_t kv_bytes_per_page(const model::Program& program) {
  uint64_t bytes = 0;
  for (const model::LayerSpec& layer : program.spec.layers)
    bytes += kv::page_bytes(layer.n_kv_heads, layer.head_dim);
  return bytes;
}

inline constexpr uint32_t kBatchTokens = 512;  // of a step where nobody named a number
inline constexpr uint32_t kMaxSlots = 4096;
inline constexpr uint32_t kMaxBatchTokens = 16384;

using PlanFunction = std::function<memory::Plan(const ResolvedLimits&)>;

// The limits of a context that the user did not size the KV for: one whole context, or 2,048 positions for
// every slot if that is more.
inline ResolvedLimits limits_with_context(const Limits& limits, uint32_t context) {
  const uint32_t pages =
      std::max(kv::pages_for(context), limits.slots * kv::pages_for(std::min(context, 2048u)));
  const uint32_t batch_tokens = limits.batch_tokens != 0 ? limits.batch_tokens : kBatchTokens;
  return {context, limits.slots, batch_tokens, std::max(limits.logits_rows, limits.slots), pages};
}

// The largest context, in whole pages, whose plan takes no more than `available`; 0 if none does.
inline uint32_t largest_context(const model::Program& program, const Limits& limits, uint64_t available,
                                const PlanFunction& plan) {
  const uint32_t most = program.spec.context_length;
  uint32_t low = 0, high = kv::pages_for(most);
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    const uint32_t context = std::min(middle * kv::kPagePositions, most);
    if (plan(limits_with_context(limits, context)).total_bytes() <= available) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return std::min(low * kv::kPagePositions, most);
}

inline std::string model_label(const model::Program& program) {
  return program.spec.name.empty() ? program.spec.file->path() : program.spec.name;
}

// What the user's numbers and the defaults give, whether or not there is the memory for it.
inline ResolvedLimits wanted_limits(const model::Program& program, const Limits& limits) {
  const uint32_t model_context = program.spec.context_length;
  if (limits.context > model_context) {
    throw Error(ErrorCode::kInvalidRequest, "the context asked for is longer than the model was made for",
                {{"ctx", uint64_t{limits.context}}, {"context_length", uint64_t{model_context}}},
                "lower --ctx");
  }
  if (limits.slots == 0 || limits.slots > kMaxSlots) {
    throw Error(ErrorCode::kInvalidRequest, "there must be 1 to 4096 slots",
                {{"slots", uint64_t{limits.slots}}}, "give another number as --slots");
  }
  if (limits.batch_tokens > kMaxBatchTokens) {
    throw Error(ErrorCode::kInvalidRequest, "a step has at most 16384 tokens",
                {{"batch_tokens", uint64_t{limits.batch_tokens}}}, "lower --batch-tokens");
  }
  ResolvedLimits resolved = limits_with_context(limits, limits.context != 0 ? limits.context : model_context);
  if (limits.kv_cache_bytes != 0) {
    const uint64_t pages = limits.kv_cache_bytes / kv_bytes_per_page(program);
    resolved.kv_pages = static_cast<uint32_t>(std::min<uint64_t>(pages, ~uint32_t{0} / kv::kPagePositions));
    const uint32_t positions = resolved.kv_pages * kv::kPagePositions;
    if (resolved.kv_pages == 0 || (limits.context != 0 && positions < limits.context)) {
      throw Error(ErrorCode::kInvalidRequest, "the KV cache asked for is too small for the context",
                  {{"kv_cache_bytes", limits.kv_cache_bytes},
                   {"positions", uint64_t{positions}},
                   {"ctx", uint64_t{limits.context}},
                   {"bytes_per_page", kv_bytes_per_page(program)}},
                  "raise --kv-cache-size-mb or lower --ctx");
    }
    resolved.context = std::min(resolved.context, positions);
  }
  return resolved;
}

// available: bytes that the plan may take (the budget, or what is free). Where the user named neither a
// context nor a KV size, the context shrinks to the largest that fits; what the user named is kept or
// refused.
inline ResolvedLimits resolve_limits(const model::Program& program, const Limits& limits,
                                     const std::string& device, uint64_t available,
                                     const PlanFunction& plan) {
  const ResolvedLimits resolved = wanted_limits(program, limits);
  if (plan(resolved).total_bytes() <= available) return resolved;
  const uint32_t max_context = largest_context(program, limits, available, plan);
  if (limits.context != 0 || limits.kv_cache_bytes != 0 || max_context == 0) {
    throw Error(ErrorCode::kInsufficientVram, "the model does not fit on the device",
                {{"required", plan(resolved).total_bytes()},
                 {"available", available},
                 {"device", device},
                 {"model", model_label(program)},
                 {"max_context", uint64_t{max_context}}},
                max_context == 0 ? "free memory, raise the budget, or choose a smaller model or fewer --slots"
                : limits.kv_cache_bytes != 0
                    ? "lower --kv-cache-size-mb, or raise the budget"
                    : "lower --ctx to " + std::to_string(max_context) + " or less, or raise the budget");
  }
  return limits_with_context(limits, max_context);
}

// A device that likes larger steps takes them where nobody named a number and they cost nothing else: `most`
// tokens, if their plan fits beside the context and the KV cache that there would be without.
inline ResolvedLimits with_larger_steps(const Limits& limits, ResolvedLimits resolved, uint32_t most,
                                        uint64_t available, const PlanFunction& plan) {
  if (limits.batch_tokens != 0) return resolved;
  ResolvedLimits larger = resolved;
  larger.batch_tokens = most;
  return plan(larger).total_bytes() <= available ? larger : resolved;
}

}  // namespace orcd::device
