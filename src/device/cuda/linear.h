// Linear layers on the device (rule N3): what a launch is given. Kernels are compiled once per block format.
#pragma once

#include <cstdint>

#include "device/cuda/architecture.h"
#include "device/cuda/calls.h"
#include "device/cuda/layout.h"
#include "model/spec.h"

namespace orcd::cuda {

inline constexpr uint32_t kFragmentTokens = 64;  // most tokens that the mma kernels take in one pass
inline constexpr uint32_t kFewTokens = 40;       // more go to wgmma where the device has it

enum class NormMode : uint8_t { kNone, kRms, kLayer };

// A norm in front of a linear layer; weight, bias: [cols] f32 or nullptr.
struct InputNorm {
  NormMode mode = NormMode::kNone;
  float eps = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;
};

enum class Epilogue : uint8_t {
  kStore,  // out = y + bias
  kAdd,    // out += (y + bias) * scale
  kGlu,    // out = gated(y0 + bias0, y1 + bias1), segments 0 and 1 of the same shape
  kHead,   // out = softcap((y + bias) * scale)
};

// One weight of a launch, and where its rows go.
struct Segment {
  const uint8_t* data;
  const float* bias;  // [rows] or nullptr
  float* out;         // [n_tokens, out_stride]
  uint32_t rows, strips, out_stride;
  // From the shape: tiles of 16 rows, log2 of the strips, where stream 2 begins, and bytes of a tile in it.
  uint32_t n_tiles, strip_shift, super_stride;
  uint64_t super_at;
  // One token: blocks that share the segment's tiles, steps of each (a tile; GLU: two of both segments), and
  // how many have one more.
  uint32_t n_blocks, steps_per_block, extra_steps;
};

struct LinearArgs {
  Segment segments[3];
  uint32_t n_segments;
  uint32_t cols, n_units, n_groups;
  uint32_t max_strips, max_shift;  // a power of two, and its log2
  uint32_t n_tiles;                // over all segments
  // One token: segments and blocks from these on are of the second format; floats of a block's partial
  // results, at most; lets the next kernel start before this one's inputs are ready.
  uint32_t other_segment, other_block;
  uint32_t part_rows;
  bool early;
  // Several tokens: tiles of a block; (tile, strip) pairs a warp leaves in shared memory before they are
  // folded.
  uint32_t tiles_per_block, items_per_warp;
  uint32_t n_tokens;
  // One token: f32, normalised and quantised by every block for itself, or quantised already.
  const float* x;            // [*, cols] f32, or nullptr
  const int32_t* row_index;  // rows of x that the tokens are; nullptr: 0, 1, ...
  InputNorm norm;
  const uint8_t* token_q;  // [cols], each group in the order of chunk_byte()
  const float2* token_s;   // [n_groups] {d, d * sum}
  // Several tokens, for mma: [n_tokens / 8][n_units][32 lanes] B fragments and
  // [n_tokens / 8][n_groups][8] {d, d * sum}; more as [n_units][token_stride / 8][4][8 tokens][16] core
  // matrices and [n_groups][token_stride] {d, d * sum}.
  const uint4* xq;
  const float2* xs;
  uint32_t token_stride;  // 0: fragments
  Epilogue epilogue;
  model::Activation activation;
  float scale, softcap;
  // kGlu: the output quantised, as token_q and token_s of one token, as xq and xs (with token_stride) of
  // many, where the rows are whole groups of 32; nullptr: f32 to segment 0's out.
  uint8_t* out_q;
  float2* out_s;
};

// Tokens of one expert that a block takes together: places [first, end) of those sorted by expert; first is a
// multiple of 8.
struct ExpertTile {
  uint32_t expert, first, end;
};

// A linear layer of experts: the segments of `linear` name those of expert 0, the others follow. Either the
// kernel of one token for each pair of a token and a rank, or those of many tokens for places sorted by
// expert; outputs are by pair, or by place.
struct ExpertArgs {
  LinearArgs linear;
  uint64_t expert_bytes[2];         // of the segments
  const uint32_t* chosen;           // [n_pairs] experts; nullptr: by place
  uint32_t n_pairs, pairs_per_row;  // pairs that share a row of linear.x
  const ExpertTile* tiles;
  const uint32_t* n_tiles;       // on the device; at most max_tiles
  uint32_t max_tiles, n_active;  // n_active: experts that have places, at most
};
inline constexpr uint32_t kWideExpertTokens = 64;  // of an ExpertTile for wgmma
inline constexpr uint32_t kFewExpertTokens = 8;    // and for mma

// Blocks of a multiprocessor that the head has for one token, where its shared memory has room for them: it
// is the largest matrix, and twice as much of it is on its way.
inline constexpr uint32_t kHeadBlocksPerSm = 2;

// A launch over block formats; fills in what follows from the shape. All segments are of one format, but for
// one token, where those from `other_segment` on may be of another if can_mix() of the two.
void launch_linear(Calls* calls, uint32_t n_sm, TensorType type, LinearArgs args);
void launch_mixed(Calls* calls, uint32_t n_sm, TensorType type, TensorType other, LinearArgs args);
bool can_mix(TensorType type, TensorType other);
void launch_experts(Calls* calls, uint32_t n_sm, TensorType type, ExpertArgs args);
void prepare_linear(Calls* calls);  // once per context: shared memory limits

// Several tokens: x (rows row_index, or all) normalised and quantised into xq, xs.
struct QuantizeArgs {
  const float* x;
  const int32_t* row_index;
  InputNorm norm;
  uint32_t cols, n_units, n_groups;
  uint8_t* xq;
  float2* xs;
  uint32_t token_stride;  // as in LinearArgs; 0: fragments
};
void prepare_quantize(Calls* calls);  // once per context
void launch_quantize(Calls* calls, uint32_t n_tokens, const QuantizeArgs& args);

// The same norm, to f32: in front of float formats, and after projections (add: y += norm(x) * scale).
struct NormArgs {
  const float* x;
  const int32_t* row_index;
  InputNorm norm;
  uint32_t cols;
  float* y;
  bool add;
  float scale = 1.0f;
};
void launch_norm(Calls* calls, uint32_t n_tokens, const NormArgs& args);

// F32, F16 and BF16 weights; x: [n_tokens, cols] f32, already normalised. With `chosen`: experts, by pair as
// ExpertArgs has them, n_tokens pairs; weight and bias are those of expert 0.
struct FloatLinearArgs {
  Matrix weight;
  const uint32_t* chosen;
  uint32_t pairs_per_row;
  const float* x;
  const float* bias;
  float* out;
  uint32_t out_stride, strips, n_tokens;
  Epilogue epilogue;
  float scale, softcap;
};
void launch_float_linear(Calls* calls, const FloatLinearArgs& args);

// h = gated(g, u) (g nullptr: act(u)), n values.
struct GluArgs {
  const float* gate;
  const float* up;
  float* out;
  uint64_t n;
  model::Activation activation;
};
void launch_glu(Calls* calls, const GluArgs& args);

}  // namespace orcd::cuda
