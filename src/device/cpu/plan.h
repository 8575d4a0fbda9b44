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
  // Experts, where the program has some: U = max_experts_used. A place is where a token and rank stand in the
  // order of experts.
  struct Experts {
    uint32_t router;           // f32 [T, max_experts] logits
    uint32_t chosen, weights;  // u32, f32 [T, U] by token and rank
    uint32_t place, token;     // u32 [T, U]: the place of a token's rank, and the token at a place
    uint32_t begin;            // u32 [max_experts + 1]: the first place of each expert
    uint32_t input;            // f32 [T * U, dim] by place; nothing where no expert has a float format
    uint32_t codes, scales;    // int8 [T * U, K], GroupScale [T * U, K / 32] by place
    uint32_t output;           // f32 [T * U, dim] by place
  } experts{};
  std::vector<uint32_t> linear_scratch;  // by thread
  std::vector<uint32_t> attend_scratch;
  std::vector<uint32_t> up_scratch;      // f32 [T, kUpRows]
  std::vector<uint32_t> staging;         // rows on their way from the file to a tile
  std::vector<uint32_t> slot_state;      // by slot
  std::vector<uint32_t> sample_scratch;  // by thread
  uint64_t max_k = 0;
  uint64_t staging_bytes = 0;  // of one thread

 private:
  void plan_experts(const model::Program& program, uint64_t tokens);
};

// Rows of `up` that a thread holds beside their gates.
inline constexpr uint32_t kUpRows = 64;

}  // namespace orcd::cpu
