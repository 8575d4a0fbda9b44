// The device ops besides linear layers: embedding, rotation and KV write, attention, logits, sampling,
// loading.
#pragma once

#include <cstdint>

#include "device/cuda/calls.h"
#include "device/cuda/layout.h"
#include "numerics/digest.h"
#include "sampling/params.h"

namespace orcd::cuda {

// What a step is, on the device: filled by one copy from pinned memory. T = tokens, R = logits rows, P =
// pages a sequence.
struct StepView {
  const int32_t* token;     // [T] id; -1 - slot: that slot's last sampled token
  const int32_t* position;  // [T]
  const int32_t* sequence;  // [T] row of `pages`
  const int32_t* pages;     // [sequences][page_stride] page ids
  uint32_t page_stride;
  const int32_t* row_token;  // [R] the token a logits row belongs to
  const int32_t* row_slot;   // [R] the slot to sample for, or -1
};

// x = table[token] * scale (+ positions[position])
struct EmbedArgs {
  Matrix table, positions;  // positions.data nullptr: none
  StepView step;
  const int32_t* last_token;  // [slots]
  float scale;
  uint32_t dim;
  float* x;
};
void launch_embed(Calls* calls, uint32_t n_tokens, const EmbedArgs& args);

// Per-head norms, rotation, scale; K and V to binary16 into the pages.
struct RopeArgs {
  StepView step;
  float *q, *k, *v;  // [T, n_heads * head_dim], [T, n_kv_heads * head_dim]
  uint32_t q_stride, kv_stride;
  uint32_t n_heads, n_kv_heads, head_dim, n_dims;  // n_dims 0: no rotation
  bool halves;
  uint32_t n_tokens;
  const float* table;  // [context][n_dims / 2][2]
  const float *q_norm, *k_norm;
  float eps, scale;
  uint16_t* pages;  // of the layer
};
void prepare_attention(Calls* calls);  // once per context
void prepare_decode(Calls* calls);
void launch_queries(Calls* calls, const RopeArgs& args);  // q finished where it lies
void launch_keys(Calls* calls, const RopeArgs& args);     // k and v into the pages

// Attention (N4) over keys and values in the pages.
struct AttentionArgs {
  RopeArgs rope;
  float* out;      // [T, q_stride], where out_q is nullptr
  uint8_t* out_q;  // many tokens: quantised for the next layer, as LinearArgs::xq and xs; head_dim a
  float2* out_s;   // multiple of 32
  uint32_t token_stride;
  uint32_t window;
  float softcap;
  const float* sinks;  // [n_heads] or nullptr
  float* partial;      // [T][n_heads][max_splits][head_dim + 2]; n_splits > 1 only
  uint32_t max_splits;
  uint32_t* arrivals;  // [T][n_heads], zero between launches
};
// Many tokens at once, for some head dimensions; q as the linear layer left it.
bool has_prefill_attention(uint32_t head_dim);
void prepare_prefill_attention(Calls* calls);
void launch_prefill_attention(Calls* calls, const AttentionArgs& args);
// q as launch_queries() left it. At most n_splits blocks share the splits of a query; with one, a block folds
// them as it goes.
void launch_attention(Calls* calls, uint32_t n_splits, const AttentionArgs& args);

// Weights that launches to come will read. Ranges of `bytes` each: where the first n_ranges blocks of a
// launch begin, which have `steps` steps of step_bytes each, the first extra_steps of them one more.
struct WeightPrefetch {
  struct Piece {
    const uint8_t* data;
    uint64_t size, step_bytes;
    uint32_t n_ranges, steps, extra_steps, bytes;
  };
  static constexpr uint32_t kMost = 3;
  Piece pieces[kMost];
  uint32_t n_pieces;
};

// Rotation, KV write and attention where every sequence of the step has one token. n_blocks: at most, sharing
// the splits of a query.
struct DecodeArgs {
  RopeArgs rope;   // q, k, v as the linear layer left them
  float* out;      // [T, q_stride], where out_q is nullptr
  uint8_t* out_q;  // quantised for the next layer: LinearArgs::token_q for one token, xq for several;
  float2* out_s;   // head_dim a multiple of 32
  uint32_t window;
  float softcap;
  const float* sinks;  // [n_heads] or nullptr
  float* partial;
  uint32_t max_splits;
  uint32_t* arrivals;
  WeightPrefetch prefetch;  // while this kernel leaves the memory idle
  // launch_decode fills them in: pages in shared memory, blocks that share the splits of a query.
  uint32_t n_slots, n_blocks;
};
void launch_decode(Calls* calls, uint32_t n_tokens, uint32_t n_blocks, DecodeArgs args);

// A slot's sampling state on the device.
struct SlotState {
  sampling::SamplingParams params;
};

// A logits row's result, copied to the host.
struct RowResult {
  numerics::Digest digest;
  int32_t token;
  uint32_t non_finite;
};

struct SampleArgs {
  StepView step;
  const float* logits;  // [R, n_vocab]
  uint32_t n_vocab;
  const SlotState* slots;
  uint32_t* seen;  // [slots][seen_words] bit per token
  uint32_t seen_words;
  int32_t* last_token;   // [slots]
  uint64_t* row_best;    // [R] order key and ~id of the best adjusted logit; zero between steps
  RowResult* results;    // [R]; digest and flag zero between steps
  RowResult* published;  // [R] what the host copies
  float* values;         // [R, n_vocab] candidates
  uint32_t* ids;         // [R, n_vocab]
};
void prepare_sample(Calls* calls);  // once per context
// What rows are drawn from besides their logits: results and row_best. Not where the kernel of all layers
// made the row (persistent.h).
void launch_row_stats(Calls* calls, uint32_t n_rows, const SampleArgs& args);
// n_blocks: clusters of so many blocks draw a row; 1 where the device has no clusters.
void launch_sample(Calls* calls, uint32_t n_rows, uint32_t n_blocks, const SampleArgs& args);
inline constexpr uint32_t kSampleBlocks = 8;            // that every device with clusters takes
inline constexpr uint32_t kClusterVocabulary = 16'384;  // smaller ones are no work for several

// Raw rows of a file (tile_rows of them in whole tiles, zeros past `rows`) into the layout of VRAM.
struct RepackArgs {
  const uint8_t* raw;
  uint64_t row_bytes;
  TensorType type;
  uint64_t first_row, n_rows;  // of the matrix; first_row a multiple of 32
  Matrix to;
  uint8_t* to_data;
};
void launch_repack(Calls* calls, const RepackArgs& args);

// Vectors: any type to f32.
struct WidenArgs {
  const uint8_t* raw;
  TensorType type;
  uint64_t n;
  float* to;
};
void launch_widen(Calls* calls, const WidenArgs& args);

// Adds the digest of bytes (a multiple of 8) to *digest.
struct DigestArgs {
  const uint64_t* words;
  uint64_t n_words;
  numerics::Digest* digest;
};
void launch_digest(Calls* calls, const DigestArgs& args);

// Reads bytes and does next to nothing with them.
struct ReadArgs {
  const uint4* data;
  uint64_t n;
  uint32_t* sink;
};
void launch_read(Calls* calls, uint32_t n_sm, const ReadArgs& args);

}  // namespace orcd::cuda
