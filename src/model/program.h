// The program: a flat list of fused ops that every executor walks. It also gives the plan, `inspect
// --program` and the profile.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "model/spec.h"
#include "numerics/formats.h"

namespace orcd::model {

// Activation names and shapes (f32), n = tokens in the step:
//   x [n, dim]  residual stream      q [n, n_heads * head_dim]  rotated queries      a [n, n_heads *
//   head_dim]  attention output h [n, ffn_dim]  activated gate*up (experts: [n, n_used, ffn_dim])
//   logits [n_logits, n_vocab]
using WeightId = uint32_t;
inline constexpr WeightId kNoWeight = ~WeightId{0};

enum class WeightRole {
  kMatrix,  // [rows, cols] used by linear layers, any computing format; also row look-ups when `embedding`
  kVector,  // [cols] f32 (norms, biases); stored as f32 on the device whatever the file holds
};

struct Weight {
  std::string name;  // tensor name, with "[begin:end]" for a slice of rows
  WeightRole role;
  TensorType type;
  const gguf::TensorInfo* tensor;
  uint64_t row_begin;
  uint64_t rows;           // 1 for vectors
  uint64_t cols;           // K
  bool embedding = false;  // rows are looked up by token id
  uint64_t n_experts = 1;  // as many matrices or vectors, one after the other
};

struct Norm {
  NormKind kind = NormKind::kRms;
  float eps = 0;
  WeightId weight = kNoWeight, bias = kNoWeight;  // weight absent = no norm
};

// x = table[token] * scale (+ positions[position])
struct EmbedOp {
  WeightId table, positions;
  float scale;
};

// xn = norm(x); q,k,v = W xn + b; per-head RMS norm of q and k if given; rope on q and k; q *= scale;
// k and v are rounded to binary16 and written to the KV pages of `layer`.
struct QkvOp {
  uint32_t layer, n_heads, n_kv_heads, head_dim;
  Norm norm;
  WeightId q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm;
  float qk_norm_eps;
  int32_t rope;  // index into Program::ropes, -1 = none
  float scale;   // of the scores, multiplied into q
};

// a = softmax(softcap(q K^T)) V over the keys in the window (N4).
struct AttentionOp {
  uint32_t layer, n_heads, n_kv_heads, head_dim, window;
  float softcap;
  WeightId sinks;  // [n_heads] logits that join the softmax without a value; kNoWeight = none
};

// x += post_norm(W a + b) * scale; `from_ffn`: the input is h instead of a.
struct ProjectOp {
  uint32_t layer;
  bool from_ffn;
  WeightId w, bias;
  Norm post_norm;
  float scale;
};

// h = act(Wg xn + bg) * (Wu xn + bu), xn = norm(x); without gate: h = act(Wu xn + bu).
struct GateUpOp {
  uint32_t layer;
  Norm norm;
  WeightId gate, up, gate_bias, up_bias;
  Activation activation;
};

// Experts, first half (N7): xn = norm(x); R xn + r chooses n_used of n_experts for each token and their
// weights; h of a token's rank = act(Wg xn + bg) * (Wu xn + bu) with the matrices of the expert at that rank.
struct MoeGateUpOp {
  uint32_t layer, n_experts, n_used;
  Norm norm;
  WeightId router, router_bias, gate, up, gate_bias, up_bias;
  Activation activation;
};

// Second half: x += post_norm(sum over ranks of weight * (W h + b)), with the experts that the op before
// chose.
struct MoeDownOp {
  uint32_t layer, n_experts, n_used;
  WeightId w, bias;
  Norm post_norm;
};

// logits = softcap((W norm(x) + b) * scale), for the rows that are asked for.
struct HeadOp {
  Norm norm;
  WeightId w, bias;
  float scale, softcap;
};

using Op = std::variant<EmbedOp, QkvOp, AttentionOp, ProjectOp, GateUpOp, MoeGateUpOp, MoeDownOp, HeadOp>;

struct Program {
  ModelSpec spec;
  std::vector<Weight> weights;  // each once; a tied head is the embedding's WeightId
  std::vector<Op> ops;
  std::vector<RopeSpec> ropes;
  uint32_t max_q_dim = 0;    // max over layers of n_heads * head_dim
  uint32_t max_kv_dim = 0;   // ... of n_kv_heads * head_dim
  uint32_t max_ffn_dim = 0;  // elements of h for one token: ffn_dim, or n_used * ffn_dim of experts
  uint32_t max_experts = 0;  // 0: no layer has experts
  uint32_t max_experts_used = 0;
  uint64_t max_expert_cols = 0;    // columns of the widest matrix of experts, of which there may be one only
  bool has_float_experts = false;  // some are F32, F16 or BF16
};

Program lower(ModelSpec spec);

// One line per op with its shapes and weights, for `inspect --program`.
std::string to_text(const Program& program);

// Bytes of one row of a weight as stored in the file.
uint64_t row_bytes(const Weight& weight);

// Bytes of weights that one decoded token reads, all layers and the head, as stored in the file; of experts,
// those that are used.
uint64_t weight_bytes_per_token(const Program& program);

}  // namespace orcd::model
