#include "device/cuda/plan.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "device/cuda/experts.h"
#include "device/cuda/layout.h"
#include "device/cuda/ops.h"
#include "device/cuda/persistent.h"
#include "kv/layout.h"
#include "numerics/attention.h"
#include "numerics/blocks.h"
#include "numerics/strips.h"

namespace orcd::cuda {

using memory::Category;

namespace {

constexpr uint64_t kStagingGoal = uint64_t{8} << 20;

StepLayout step_layout(const device::ResolvedLimits& limits) {
  StepLayout layout;
  layout.token = 0;
  layout.position = layout.token + limits.batch_tokens;
  layout.sequence = layout.position + limits.batch_tokens;
  layout.row_token = layout.sequence + limits.batch_tokens;
  layout.row_slot = layout.row_token + limits.logits_rows;
  layout.pages = layout.row_slot + limits.logits_rows;
  layout.page_stride = kv::pages_for(limits.context);
  layout.n_words = layout.pages + uint64_t{layout.page_stride} * limits.slots;
  return layout;
}

}  // namespace

CudaPlan::CudaPlan(const model::Program& program, const device::ResolvedLimits& limits,
                   PersistentBlocks blocks) {
  const model::ModelSpec& spec = program.spec;
  const uint64_t tokens = limits.batch_tokens, rows = limits.logits_rows;
  const uint64_t wide = std::max(tokens, rows);  // the head's input has `rows` rows
  const uint64_t padded = align_up(wide, kTokenAlignment);
  uint64_t max_slab = 0;
  uint64_t max_expert_ffn = 0;
  uint32_t max_head_dim = 0, max_heads = 0;
  for (const model::Weight& weight : program.weights) {
    const bool matrix = weight.role == model::WeightRole::kMatrix;
    weights.push_back(plan.add(
        weight.name, Category::kWeights,
        weight.n_experts * (matrix ? packed_bytes(weight.type, weight.rows, weight.cols) : weight.cols * 4)));
    const FormatInfo* format = find_format(weight.type);
    const uint64_t row_bytes = weight.cols / format->block_elements * format->block_bytes;
    max_slab = std::max(max_slab, align_up(row_bytes * (matrix ? kFloatTileRows : weight.n_experts), 256));
    if (matrix) max_k = std::max(max_k, weight.cols);
  }
  for (uint32_t layer = 0; layer < spec.n_layers; ++layer) {
    const model::LayerSpec& l = spec.layers[layer];
    max_head_dim = std::max(max_head_dim, l.head_dim);
    max_heads = std::max(max_heads, l.n_heads);
    if (l.n_experts != 0) max_expert_ffn = std::max<uint64_t>(max_expert_ffn, l.ffn_dim);
    kv.push_back(plan.add("kv.layer." + std::to_string(layer), Category::kKv,
                          uint64_t{limits.kv_pages} * kv::page_bytes(l.n_kv_heads, l.head_dim)));
  }
  const auto floats = [&](const std::string& name, uint64_t n) {
    return plan.add(name, Category::kActivations, n * 4);
  };
  max_k = align_up(std::max<uint64_t>(max_k, spec.dim), kUnit);
  x = floats("x", tokens * spec.dim);
  q = floats("q", tokens * program.max_q_dim);
  k = floats("k", tokens * program.max_kv_dim);
  v = floats("v", tokens * program.max_kv_dim);
  a = floats("attention", tokens * program.max_q_dim);
  // Rows of what belongs to experts: places, and room for a whole tile of tokens after the last.
  const uint64_t pairs = tokens * program.max_experts_used;
  const uint64_t places =
      pairs == 0
          ? 0
          : align_up(most_places(static_cast<uint32_t>(pairs), program.max_experts) + kWideExpertTokens,
                     kTokenAlignment);
  const uint64_t ffn = std::max(tokens * program.max_ffn_dim, places * max_expert_ffn);
  h = floats("ffn", ffn);
  gate = floats("gate", ffn);
  y = floats("projection", tokens * spec.dim);
  xn = floats("norm", wide * spec.dim);
  const uint64_t codes = std::max(padded * max_k, places * align_up(program.max_expert_cols, kUnit));
  xq = plan.add("quantized.codes", Category::kActivations, codes);
  xs = plan.add("quantized.scales", Category::kActivations, codes / 32 * 8);
  max_splits = (limits.context + numerics::kPageKeys * numerics::kPagesPerSplit - 1) /
               (numerics::kPageKeys * numerics::kPagesPerSplit);
  const uint64_t split_floats = uint64_t{max_heads} * max_splits * (max_head_dim + 2);  // of a token
  const auto affordable = static_cast<uint32_t>(
      std::clamp<uint64_t>(kMostSplitBytes / (split_floats * 4), kFewSplitTokens, kSplitTokens));
  split_tokens = std::min({affordable, limits.slots, limits.batch_tokens});
  partial = floats("attention.splits", split_tokens * split_floats);
  arrivals = floats("attention.arrivals", uint64_t{split_tokens} * max_heads);
  logits = floats("logits", rows * spec.n_vocab);
  layout = step_layout(limits);
  step = plan.add("step", Category::kActivations, kDepth * layout.n_words * 4);
  for (size_t i = 0; i < program.ropes.size(); ++i)
    ropes.push_back(floats("rope." + std::to_string(i), uint64_t{limits.context} * program.ropes[i].n_dims));
  if (const auto shape = persistent_shape(program, blocks)) {
    const uint32_t n_splits = std::min(shape->max_splits, max_splits);
    persistent = {
        plan.add("decode.layers", Category::kActivations, shape->layers.size() * sizeof(PersistentLayer)),
        plan.add("decode.exchange", Category::kActivations, persistent_words(program, n_splits).n * 8),
        n_splits, 0};
    if (shape->stream.n_slots != 0) {
      persistent->shares = plan.add("decode.shares", Category::kActivations,
                                    shape->layers.size() * blocks.n * sizeof(BlockShares));
    }
  }
  if (pairs != 0) {
    const auto word = [&](const char* name, uint64_t n) { return floats(std::string("experts.") + name, n); };
    const uint64_t strips = std::min<uint64_t>(tokens, kPairTokens) * numerics::kMaxStrips;  // RouterArgs
    experts.router = word("router", std::max(tokens, strips) * program.max_experts);
    experts.chosen = word("chosen", pairs);
    experts.weights = word("weights", pairs);
    experts.place = word("place", pairs);
    experts.token = word("token", places);
    experts.tiles =
        word("tiles", most_tiles(static_cast<uint32_t>(pairs), program.max_experts, kFewExpertTokens) *
                          (sizeof(ExpertTile) / 4));
    experts.n_tiles = word("n_tiles", 1);
    experts.output = word("output", places * spec.dim);
  }
  staging_bytes =
      std::max(max_slab, std::min(kStagingGoal, plan.arena_bytes(Category::kActivations) / 2 / 256 * 256));
  const uint64_t have = plan.arena_bytes(Category::kActivations);
  if (have < 2 * staging_bytes) plan.add("load.staging", Category::kActivations, 2 * staging_bytes - have);

  const auto sampling = [&](const char* name, uint64_t bytes) {
    return plan.add(name, Category::kSampling, bytes);
  };
  slots = sampling("slots", limits.slots * sizeof(SlotState));
  seen = sampling("seen", limits.slots * align_up(spec.n_vocab, 64) / 8);
  last_token = sampling("last_token", limits.slots * 4);
  row_best = sampling("row.best", rows * 8);
  results = sampling("row.results", rows * sizeof(RowResult));
  published = sampling("row.published", kDepth * rows * sizeof(RowResult));
  values = sampling("candidates.values", uint64_t{limits.slots} * spec.n_vocab * 4);
  ids = sampling("candidates.ids", uint64_t{limits.slots} * spec.n_vocab * 4);
  digests = sampling("digests", program.weights.size() * sizeof(numerics::Digest));
}

}  // namespace orcd::cuda
