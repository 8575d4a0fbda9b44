// Every buffer of the CUDA executor as plan items: the plan that is shown is the one that is allocated.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "device/device.h"

namespace orcd::cuda {

// Of the kernel of all layers (persistent.h).
struct PersistentBlocks {
  uint32_t n = 0;        // 0: there is no such kernel, or none is wanted
  bool streams = false;  // weights stream through it even where they could be resident
};

inline constexpr uint32_t kDepth = 2;  // steps submitted and not yet collected

// Tokens of a step up to which several blocks share the splits of one query.
inline constexpr uint32_t kSplitTokens = 64;
// Their partial results take at most this much, but for as many tokens as the decode graphs are made for.
inline constexpr uint64_t kMostSplitBytes = 64 << 20;
inline constexpr uint32_t kFewSplitTokens = 16;

// The quantised activations have room for whole tiles of the prefill kernels.
inline constexpr uint32_t kTokenAlignment = 128;

// Word offsets in the step's one block of int32, on the host and on the device (StepView).
struct StepLayout {
  uint32_t token, position, sequence, row_token, row_slot, pages, page_stride;
  uint64_t n_words;
};

// Indices into plan.items(). T = batch_tokens, R = logits_rows.
struct CudaPlan {
  CudaPlan(const model::Program& program, const device::ResolvedLimits& limits, PersistentBlocks blocks);

  memory::Plan plan;
  std::vector<uint32_t> weights;           // by WeightId
  std::vector<uint32_t> kv;                // by layer
  std::vector<uint32_t> ropes;             // by rope: [context][n_dims / 2][2] f32
  uint32_t x, q, k, v, a, h, gate, y, xn;  // f32 [T, ...]
  uint32_t xq, xs;                         // quantised activations in fragment order
  uint32_t partial, arrivals;              // attention's splits
  uint32_t logits;                         // f32 [R, n_vocab]
  // Of programs with experts: by token, by pair of a token and a rank, or by place (experts.h).
  struct Experts {
    uint32_t router, chosen, weights;       // [T, n_experts] f32, [pairs], [pairs] f32
    uint32_t place, token, tiles, n_tiles;  // SortArgs
    uint32_t output;                        // f32 [places, dim]
  } experts = {};
  // Where a program decodes by one kernel (persistent.h), up to n_splits splits of a query.
  struct Persistent {
    uint32_t layers, exchange;
    uint32_t n_splits;
    uint32_t shares;  // where weights stream
  };
  std::optional<Persistent> persistent;
  uint32_t step;  // kDepth times StepLayout
  uint32_t slots, seen, last_token, row_best, results, values, ids, digests;
  uint32_t published;  // [kDepth][R] RowResult
  StepLayout layout;
  uint32_t max_splits = 0, split_tokens = 0;
  uint64_t max_k = 0;
  uint64_t staging_bytes =
      0;  // of one of the two pieces of the activations arena that loading uses for raw bytes
};

}  // namespace orcd::cuda
