// One token of one sequence, from its embedding through all layers, by one kernel: its blocks stay for the
// whole step, one a multiprocessor, have weights in shared memory before they are needed, and give each other
// activations as words that carry their own tag. A layer of a chain of kernels is bound by what lies between
// and at the beginning of them (docs/PERFORMANCE.md).
//
// There are two. In one a block's share of a whole layer is resident in shared memory, one layer ahead
// (persistent.cu): of the narrow models that have room for it. Through the other it streams, to each warp the
// units that it will work on, and the head's too (persistent_streamed.cu): of all others, or where
// ORCD_CUDA_KERNELS asks for it.
#pragma once

#include <optional>
#include <vector>

#include "device/cuda/linear_deal.h"
#include "device/cuda/ops.h"
#include "device/cuda/plan.h"
#include "model/program.h"

namespace orcd::cuda {

// Of a layer, in order; attention stands between the first two.
enum PersistentStage : uint32_t { kQkvStage, kProjectStage, kGateUpStage, kDownStage, kLinearStages };

// A linear layer of all blocks. segments: as deal_tiles() has dealt them; their `out` is not used.
struct PersistentLinear {
  Segment segments[3];
  TensorType types[3];
  uint64_t* outputs[3];  // words of the exchange; GLU and the head: not used
  uint32_t n_segments;
  uint32_t cols, n_units, n_groups;
  InputNorm norm;  // RMS, of the stages that begin with one
  float scale;     // of what is added to the residual; of logits
  model::Activation activation;
};

// A block's part of a stage: tiles of one segment; GLU: as many of the gate and then of the up projection.
struct PersistentShare {
  uint32_t segment, first_tile, n_tiles;
};
ORCD_HD PersistentShare share_of(const PersistentLinear& l, bool glu, uint32_t block) {
  uint32_t segment = 0;
  while (segment + 1 < (glu ? 1 : l.n_segments) && block >= l.segments[segment].n_blocks)
    block -= l.segments[segment++].n_blocks;
  const Segment& s = l.segments[segment];
  if (block >= s.n_blocks) return {segment, 0, 0};
  const uint32_t step = glu ? 2 : 1;
  const uint32_t first = (block * s.steps_per_block + (block < s.extra_steps ? block : s.extra_steps)) * step;
  const uint32_t n = (s.steps_per_block + (block < s.extra_steps ? 1 : 0)) * step;
  return {segment, first, n < s.n_tiles - first ? n : s.n_tiles - first};
}

// The same with all that a block needs where weights stream, so that no stage begins or ends with looking it
// up: half a microsecond each time.
struct alignas(16) StageShare {
  // Its first tile in streams 1 and 2; GLU: of the gate and of the up projection.
  const uint8_t* units[2];
  const uint8_t* super[2];
  const float* bias;                    // of its first row, or nullptr
  uint64_t* out;                        // words of its first row; GLU and the head: not used
  uint32_t n_tiles, n_rows, first_row;  // of one matrix; rows: those that there are
  uint32_t n_pairs;                     // of tiles: of the gate, then as many of the up projection
  uint32_t n_units, n_groups, strip_shift;
  uint32_t super_stride;  // bytes of a tile in stream 2
  TensorType type;
  SetShape set;
  float scale;  // of what is added to the residual
  model::Activation activation;
};
// Of a block in a layer.
struct BlockShares {
  StageShare stages[kLinearStages];
};

// What a warp reads of a stage: items, each one strip of a pair of tiles, every (kTokenWarps >>
// strip_shift)-th pair from (warp >> strip_shift) on. The units of its strip:
struct StripUnits {
  uint32_t begin, end;
};
ORCD_HD StripUnits strip_units(const StageShare& s, uint32_t warp) {
  const uint32_t shift = s.strip_shift, strip = warp & ((1u << shift) - 1);
  return {(s.n_units * strip) >> shift, (s.n_units * (strip + 1)) >> shift};
}

// How many units the set that begins at a unit has: sets end where a multiple of so many units does, so that
// one piece of stream 2 serves them, or where the strip does.
ORCD_HD uint32_t units_from(uint32_t unit, uint32_t end, uint32_t units_of_set) {
  const uint32_t whole = units_of_set - (unit & (units_of_set - 1));
  return end - unit < whole ? end - unit : whole;
}

struct alignas(16) PersistentLayer {
  PersistentLinear linears[kLinearStages];
  const float* rope_table;  // [context][n_dims / 2][2]
  uint16_t* pages;
  const float *q_norm, *k_norm;
  float qk_eps, q_scale;
  uint32_t n_dims;
  bool halves;
};

// Words through which blocks hand on activations: {value, tag}, written and read whole. Every word of a layer
// is written once, and a word is written again only when all that need it have read it: what a block writes
// depends, through the stages between, on the reading of every other. Tags wrap after 2^32 layers.
struct PersistentExchange {
  uint64_t *input, *middle;     // [dim] the residual before the layer and before its FFN
  uint64_t *q, *k, *v;          // [heads * head_dim]
  uint64_t* partial;            // [n_heads][max_splits][head_dim + 2]: elements, maximum, sum
  uint64_t *attention, *gated;  // quantised: [groups][8] codes, then [groups][2] {d, d * sum}
  uint32_t* epoch;              // tags up to this one have been used
};

// Of resident weights: bytes of shared memory, and where in it the parts lie. A stage's weights have their
// slot: of the layer to come as soon as this one's have been read. Blocks that have a share of the
// projections have none of the attention, whose pages stand in the same place.
struct PersistentShared {
  uint32_t red_at, codes_at, scales_at, parts_at;
  uint32_t slots_at[kLinearStages], pages_at;
  uint32_t bytes;
};

// Of streamed weights: first the sets of units on their way, n_slots times a slot of slot_bytes for each
// warp, in whose place the pages stand during attention: of those slots whose turn it is not, where all warps
// have the same turns (pages_beside); then the row that is normalised, in whose place attention has what a
// block shares; partial results; the quantised row. n_slots 0: weights are resident.
struct StreamShared {
  uint32_t n_slots, slot_bytes;
  bool pages_beside;
  uint32_t row_at, parts_at, codes_at, scales_at;
  uint32_t bytes;
};

// The head of streamed weights is the first stage of one layer more.
struct PersistentArgs {
  const PersistentLayer* layers;
  const BlockShares* shares;  // [n_entries][blocks], of streamed weights
  uint32_t n_layers;
  uint32_t n_entries, n_stages;  // layers and the head; linear stages of them
  StepView step;
  Matrix embeddings;
  float embedding_scale;
  const int32_t* last_token;  // [slots]
  float* x;                   // [dim] what the head begins with, where it is not one of the stages
  float* logits;              // else [n_vocab], with what is known of the row (SampleArgs::results)
  float softcap;
  SampleArgs sample;
  PersistentExchange exchange;
  PersistentShared shared;
  StreamShared stream;
  uint32_t n_heads, n_kv_heads, head_dim;
  uint32_t window, max_splits, n_attending;
  WeightPrefetch::Piece prefetch;  // the head's, where that is a launch of its own; n_ranges 0: none
};

// A model's layers on n_blocks blocks, without the places of what they read.
struct PersistentShape {
  std::vector<PersistentLayer> layers;
  bool has_head = false;  // as the first stage of the last entry of `layers`
  PersistentShared shared;
  StreamShared stream;
  uint32_t n_attending;  // blocks that attend at most
  uint32_t max_splits;   // of a query: longer contexts have more work in attention than blocks
};
// Resident weights where they have room. nullopt where no kernel can take the program, or launches are
// faster: they take gated ones with RMS norms, block formats and layers of one shape; without experts, second
// norms, sinks or caps on scores; if what a block keeps of a layer, or has on its way, fits its shared
// memory.
std::optional<PersistentShape> persistent_shape(const model::Program& program, PersistentBlocks blocks);

// The exchange of such a program: where its parts begin, words of all.
struct PersistentWords {
  uint64_t input, middle, q, k, v, partial, attention, gated, epoch, n;
};
PersistentWords persistent_words(const model::Program& program, uint32_t n_splits);

// A launch of the kernel for a model on a device.
struct Persistent {
  PersistentArgs args;
  uint32_t n_blocks;
  // Logits and what launch_row_stats() makes of them are there behind it.
  bool has_head() const { return args.logits != nullptr; }
};
struct State;
// nullopt where the plan has none. Writes the layers' arguments into VRAM.
std::optional<Persistent> make_persistent(State& state);

// Of a block, those that compute; beside them one warp or four load.
inline constexpr uint32_t kComputeWarps = 16;
inline constexpr uint32_t kComputeThreads = kComputeWarps * 32;
inline constexpr uint32_t kResidentThreads = kComputeThreads + 32;
inline constexpr uint32_t kLoadingWarps = 4;
inline constexpr uint32_t kStreamThreads = kComputeThreads + 32 * kLoadingWarps;
inline constexpr uint32_t kPersistentQueries = 2;  // query heads of a block in attention
inline constexpr uint32_t kMostResidentCols =
    1024;                                       // of a row that is normalised, where weights are resident
inline constexpr uint32_t kMostResiduals = 64;  // rows of the residual that a block owns
// Of shared memory: dynamic; beside it the kernels have 6 and 8 KiB; and of it what attention shares in a
// block.
inline constexpr uint32_t kMostResidentShared = 220 * 1024, kMostStreamShared = 215 * 1024;
inline constexpr uint32_t kAttentionShared = 6 * 1024;
inline constexpr uint32_t kMostSlots = 4;  // of a warp
inline constexpr uint32_t kMostItems = 2;  // of a block in attention, where weights stream

// Head dimensions that the kernel was made for.
inline bool has_persistent_attention(uint32_t head_dim) { return head_dim == 64 || head_dim == 128; }
void prepare_persistent(Calls* calls);  // once per context
void launch_persistent(Calls* calls, uint32_t n_blocks, const PersistentArgs& args);
// Each of them, for a head dimension.
using PersistentKernel = void (*)(PersistentArgs);
PersistentKernel resident_kernel(uint32_t head_dim);  // kResidentThreads
PersistentKernel streamed_kernel(uint32_t head_dim);  // kStreamThreads

}  // namespace orcd::cuda
