// Every buffer of the CPU executor as plan items: the plan that is shown is the one that is allocated.
#pragma once

#include <cstdint>
#include <vector>

#include "device/device.h"

namespace orcd::cpu {

// Indices into plan.items(). T = batch_tokens, max_k = the widest input of any matrix.
struct CpuPlan {
  CpuPlan(const model::Program& program, const device::ResolvedLimits& limits, uint32_t n_threads);

  memory::Plan plan;
  std::vector<uint32_t> weights;  // by WeightId
  std::vector<uint32_t> kv;       // by layer
  std::vector<uint32_t> ropes;    // by rope: [context][n_dims / 2][2] f32
  uint32_t x, xn, q, k, v, a, h,
      y;            // f32: [T, dim], [T, max_k], [T, q], [T, kv], [T, kv], [T, q], [T, ffn], [T, dim]
  uint32_t xq, xs;  // int8 [T, max_k], GroupScale [T, max_k / 32]
  uint32_t logits;  // f32 [logits_rows, n_vocab]
  std::vector<uint32_t> linear_scratch;  // by thread
  std::vector<uint32_t> attend_scratch;
  std::vector<uint32_t> up_scratch;      // f32 [T, kUpRows]
  std::vector<uint32_t> staging;         // rows on their way from the file to a tile
  std::vector<uint32_t> slot_state;      // by slot
  std::vector<uint32_t> sample_scratch;  // by thread
  uint64_t max_k = 0;
  uint64_t staging_bytes = 0;  // of one thread
};

// Rows of `up` that a thread holds beside their gates.
inline constexpr uint32_t kUpRows = 64;

}  // namespace orcd::cpu
