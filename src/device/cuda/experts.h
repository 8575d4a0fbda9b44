// Mixture of experts on the device (rule N7): routing, the sort by expert, and how outputs add up. The
// matrices are ExpertArgs of linear.h.
#pragma once

#include "device/cuda/linear.h"
#include "numerics/strips.h"

namespace orcd::cuda {

// The router's strips for a few tokens, before they are folded: norm and product in one launch, a block a
// strip of 32 experts. Binary32 weights; cols a multiple of 4.
struct RouterArgs {
  const float* x;  // [n_tokens, cols]
  InputNorm norm;
  Matrix weight;
  uint32_t strips;
  float* xn;        // [n_tokens, cols] the normed rows
  float* partials;  // [n_tokens, strips, n_experts]
};
void prepare_router(Calls* calls);  // once per context
void launch_router(Calls* calls, uint32_t n_tokens, const RouterArgs& args);

// logits [n_tokens, strips, n_experts], folded and the bias added, to chosen, weights [n_tokens, n_used], by
// rank.
struct RouteArgs {
  const float* logits;
  const float* bias;  // [n_experts] or nullptr
  uint32_t strips;
  uint32_t n_tokens, n_experts, n_used;
  uint32_t* chosen;
  float* weights;
};
void launch_route(Calls* calls, const RouteArgs& args);

inline constexpr uint32_t kPairTokens = 8;  // tokens of a step that go pair by pair, at most
inline constexpr uint32_t kMostExperts =
    1024;  // of a model, as its reader checks; their counts lie in shared memory

// Places of the pairs of token and rank, by expert, each expert's from a multiple of 8 on.
struct SortArgs {
  const uint32_t* chosen;  // [n_pairs]
  uint32_t n_pairs, n_experts, n_used;
  uint32_t tile_tokens;  // of an ExpertTile
  uint32_t n_places;     // most_places()
  uint32_t* place;       // [n_pairs]
  int32_t* token;        // [n_places] of a place; 0 where nobody is
  ExpertTile* tiles;     // [most_tiles()]
  uint32_t* n_tiles;
};
void prepare_sort(Calls* calls);  // once per context
void launch_sort(Calls* calls, const SortArgs& args);
// Places that n_pairs may take, and tiles of them.
constexpr uint32_t most_places(uint32_t n_pairs, uint32_t n_experts) {
  return (n_pairs + 7 * (n_pairs < n_experts ? n_pairs : n_experts) + 7) / 8 * 8;
}
constexpr uint32_t most_tiles(uint32_t n_pairs, uint32_t n_experts, uint32_t tile_tokens) {
  return n_pairs / tile_tokens + (n_pairs < n_experts ? n_pairs : n_experts);
}

// out = (x +) the outputs of a token's ranks, combined in order.
struct CombineArgs {
  const float* outputs;   // [pairs or places, dim]
  const float* weights;   // [n_tokens, n_used]
  const uint32_t* place;  // of a pair; nullptr: the pair itself
  uint32_t n_used, dim;
  bool add;
  float* out;  // [n_tokens, dim]
};
void launch_combine(Calls* calls, uint32_t n_tokens, const CombineArgs& args);

}  // namespace orcd::cuda
