// What a model is, as data: filled by an adapter from GGUF metadata and tensor names, read by lower().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gguf/file.h"
#include "numerics/rope.h"

namespace orcd::model {

// kClampedSwiglu takes gate and up together; the others are of the gate alone.
enum class Activation { kSilu, kGeluTanh, kGeluErf, kClampedSwiglu };
enum class NormKind { kRms, kLayer };
// Pairs (2i, 2i+1), or (i, i + n_dims/2).
enum class RopeStyle { kInterleaved, kHalves };

// One table of cos/sin for positions 0..ctx-1. Tables are computed on the host in binary64 (N2).
struct RopeSpec {
  uint32_t n_dims;  // rotated dimensions of a head, even
  double base;
  double scale = 1.0;  // linear scaling: position * scale
  RopeStyle style;
  std::vector<float>
      freq_factors;  // [n_dims/2], frequencies are divided by them (llama3, LongRoPE); empty = none
  // YaRN (Peng et al. 2023); yarn_factor 0 = off.
  double yarn_factor = 0, yarn_original_ctx = 0, yarn_beta_fast = 32, yarn_beta_slow = 1,
         yarn_attention_factor = 1;
  // yarn_attention_factor multiplies cos and sin, with YaRN or without (LongRoPE).
  bool yarn_rounded = true;  // its bounds are whole dimensions
  bool operator==(const RopeSpec&) const = default;
};

// What rope_table() needs of it; views spec.freq_factors.
numerics::RopeParams rope_params(const RopeSpec& spec);

// A weight, or a range of rows of one (fused QKV and gate-up tensors are split by rows). nullptr tensor =
// absent.
struct TensorRef {
  const gguf::TensorInfo* tensor = nullptr;
  uint64_t row_begin = 0;
  uint64_t n_rows = 0;     // of the matrix slice, or elements of a vector; of one expert
  uint64_t n_experts = 1;  // matrices or vectors in the tensor, one after the other
  explicit operator bool() const { return tensor != nullptr; }
  bool operator==(const TensorRef&) const = default;
};

struct NormSpec {
  TensorRef weight, bias;
};

struct LayerSpec {
  uint32_t n_heads, n_kv_heads, head_dim, ffn_dim;
  uint32_t window = 0;          // keys a query sees, itself included; 0 = all before it
  int32_t rope = -1;            // index into ModelSpec::ropes; -1 = none
  float attention_scale;        // scores are q.k * attention_scale
  float attention_softcap = 0;  // 0 = off
  Activation activation = Activation::kSilu;
  NormSpec attention_norm, ffn_norm;  // before
  NormSpec post_attention_norm,
      post_ffn_norm;  // after the projection, before the residual add; absent in most
  TensorRef q, k, v, o, q_bias, k_bias, v_bias, o_bias, q_norm, k_norm;
  TensorRef sinks;                                          // [n_heads] logits that join each softmax
  TensorRef gate, up, down, gate_bias, up_bias, down_bias;  // gate absent: plain MLP
  // Mixture of experts: a router chooses n_experts_used of n_experts for each token; gate, up and down hold a
  // matrix of each, ffn_dim wide. 0: one network for every token.
  uint32_t n_experts = 0, n_experts_used = 0;
  TensorRef router, router_bias;  // [n_experts, dim], [n_experts]
};

struct ModelSpec {
  std::shared_ptr<const gguf::File> file;
  std::string architecture, name;
  uint32_t n_layers, dim, n_vocab, context_length;
  NormKind norm_kind = NormKind::kRms;
  float norm_eps;
  float embedding_scale = 1.0f;
  float logit_scale = 1.0f;
  float residual_scale = 1.0f;  // of what attention and feed-forward network add to the stream
  float final_softcap = 0;      // 0 = off
  TensorRef token_embedding, position_embedding, head, head_bias;
  NormSpec output_norm;
  std::vector<RopeSpec> ropes;
  std::vector<LayerSpec> layers;
};

// Chooses the adapter by general.architecture and checks every hyperparameter and tensor shape it uses.
// Throws Error(kModelLoadFailed) with the field and byte offset; an architecture without adapter is named,
// with those known.
ModelSpec read_spec(std::shared_ptr<const gguf::File> file);

}  // namespace orcd::model
