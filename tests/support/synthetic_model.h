// Small seeded models for tests: shapes of several families in any mix of formats, as GGUF bytes in memory.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/program.h"
#include "numerics/blocks.h"
#include "support/block_scales.h"
#include "support/gguf_writer.h"

namespace orcd::test {

struct SyntheticModel {
  std::string family = "llama";  // general.architecture of any family of src/model/adapters
  uint32_t n_layers = 2, dim = 256, ffn_dim = 512, n_heads = 4, n_kv_heads = 2, head_dim = 64, n_vocab = 300;
  uint32_t context = 1024, window = 0;
  bool tied = true, biases = false;
  std::vector<TensorType> types = {TensorType::kQ4_1};  // dealt out to the matrices in turn
  uint32_t seed = 1;
  uint32_t n_experts = 0, n_experts_used = 2;  // 0: a llama without experts
  TensorType router = TensorType::kF32;        // as converters leave it
};

// About the largest integer of a block of random bytes, scales and all.
inline float code_range(TensorType type) {
  switch (type) {
    case TensorType::kQ2_K:
      return 32;
    case TensorType::kQ4_1:
    case TensorType::kQ5_0:
      return 8;
    case TensorType::kQ3_K:
      return 128;
    case TensorType::kQ5_1:
      return 16;
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:
      return 64;
    case TensorType::kQ4_K:
      return 256;
    case TensorType::kQ5_K:
      return 512;
    case TensorType::kQ6_K:
    case TensorType::kIQ4_XS:
      return 2048;
    default:
      return 4;
  }
}

// The minimum's factor that takes the middle of the codes to 0, about.
inline float minimum_range(TensorType type) {
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      return -1.0f;
    case TensorType::kQ2_K:
      return 1.5f / 32;
    default:
      return 1.0f / 32;
  }
}

// Blocks of random codes whose scales keep activations in range.
inline Bytes random_weights(TensorType type, uint64_t rows, uint64_t cols, std::mt19937& rng) {
  const FormatInfo* format = find_format(type);
  const uint64_t n_blocks = rows * cols / format->block_elements;
  Bytes bytes(n_blocks * format->block_bytes);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
  std::uniform_real_distribution<float> unit(0.3f, 1.0f);
  for (uint64_t block = 0; block < n_blocks; ++block) {
    uint8_t* b = &bytes[block * format->block_bytes];
    const float scale = unit(rng) / std::sqrt(static_cast<float>(cols));
    const auto sign = [&] { return rng() % 2 ? 1.0f : -1.0f; };
    switch (type) {
      case TensorType::kF32: {
        const float value = scale * sign();
        std::memcpy(b, &value, 4);
        break;
      }
      case TensorType::kF16:
        put_half(b, scale * sign());
        break;
      case TensorType::kBF16: {
        const auto value = static_cast<uint16_t>(numerics::float_bits(scale * sign()) >> 16);
        std::memcpy(b, &value, 2);
        break;
      }
      default:
        set_scales(type, scale / code_range(type), scale * minimum_range(type), b);
        break;
    }
  }
  return bytes;
}

struct TensorWriter {
  GgufWriter& w;
  const SyntheticModel& m;
  std::mt19937& rng;
  size_t turn = 0;

  // n matrices, or vectors, in one tensor.
  void matrix(const std::string& name, uint64_t rows, uint64_t cols, uint64_t n = 1) {
    const TensorType type = m.types[turn++ % m.types.size()];
    const std::vector<uint64_t> dims =
        n > 1 ? std::vector<uint64_t>{cols, rows, n} : std::vector<uint64_t>{cols, rows};
    w.tensor(name, type, dims, random_weights(type, rows * n, cols, rng));
  }
  void vector(const std::string& name, uint64_t n, float centre, float spread = 0.1f,
              uint64_t n_vectors = 1) {
    std::normal_distribution<float> normal(centre, spread);
    Bytes data;
    for (uint64_t i = 0; i < n * n_vectors; ++i) put(data, normal(rng));
    const std::vector<uint64_t> dims =
        n_vectors > 1 ? std::vector<uint64_t>{n, n_vectors} : std::vector<uint64_t>{n};
    w.tensor(name, TensorType::kF32, dims, std::move(data));
  }
  void experts(const std::string& b, bool biases) {
    const uint64_t dim = m.dim, ffn = m.ffn_dim, n = m.n_experts;
    w.tensor(b + "ffn_gate_inp.weight", m.router, {dim, n}, random_weights(m.router, n, dim, rng));
    matrix(b + "ffn_gate_exps.weight", ffn, dim, n);
    matrix(b + "ffn_up_exps.weight", ffn, dim, n);
    matrix(b + "ffn_down_exps.weight", dim, ffn, n);
    if (!biases) return;
    vector(b + "ffn_gate_inp.bias", n, 0.0f);
    vector(b + "ffn_gate_exps.bias", ffn, 0.0f, 0.1f, n);
    vector(b + "ffn_up_exps.bias", ffn, 0.0f, 0.1f, n);
    vector(b + "ffn_down_exps.bias", dim, 0.0f, 0.1f, n);
  }
};

inline GgufWriter synthetic_writer(const SyntheticModel& m) {
  std::mt19937 rng(m.seed);
  GgufWriter w;
  const std::string& f = m.family;
  w.add("general.architecture", f).add("general.name", "synthetic " + f);
  w.add(f + ".block_count", m.n_layers)
      .add(f + ".embedding_length", m.dim)
      .add(f + ".context_length", m.context);
  w.add(f + ".feed_forward_length", m.ffn_dim).add(f + ".attention.head_count", m.n_heads);
  w.add(f + ".attention.head_count_kv", m.n_kv_heads).add(f + ".attention.key_length", m.head_dim);
  const bool layer_norm = f == "gpt2" || f == "starcoder2", gated = !layer_norm;
  w.add(f + ".attention.value_length", m.head_dim);
  w.add(f + (layer_norm ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon"), 1e-5f);
  w.add(f + ".rope.freq_base", 10000.0f);
  if (m.window != 0) w.add(f + ".attention.sliding_window", m.window);
  const bool gpt_oss = f == "gpt-oss", has_experts = m.n_experts != 0;
  if (has_experts) {
    w.add(f + ".expert_count", m.n_experts).add(f + ".expert_used_count", m.n_experts_used);
    w.add(f + ".expert_feed_forward_length", m.ffn_dim);
  }
  if (gpt_oss) {
    w.add(f + ".rope.scaling.type", "yarn").add(f + ".rope.scaling.factor", 4.0f);
    w.add(f + ".rope.scaling.original_context_length", m.context / 4);
  }
  if (f == "granite") {
    w.add(f + ".embedding_scale", 12.0f).add(f + ".residual_scale", 0.22f);
    w.add(f + ".attention.scale", 0.015625f).add(f + ".logit_scale", 16.0f);
  }
  if (f == "gemma2") {
    w.add(f + ".attn_logit_softcapping", 50.0f).add(f + ".final_logit_softcapping", 30.0f);
    w.add(f + ".attention.sliding_window", m.window != 0 ? m.window : 128u);
  }
  TensorWriter tensors{w, m, rng};
  const auto matrix = [&](const std::string& name, uint64_t rows, uint64_t cols) {
    tensors.matrix(name, rows, cols);
  };
  const auto vector = [&](const std::string& name, uint64_t n, float centre) {
    tensors.vector(name, n, centre);
  };
  const auto norm = [&](const std::string& stem) {
    vector(stem + ".weight", m.dim, 1.0f);
    if (layer_norm) vector(stem + ".bias", m.dim, 0.0f);
  };
  matrix("token_embd.weight", m.n_vocab, m.dim);
  if (f == "gpt2") matrix("position_embd.weight", m.context, m.dim);
  norm("output_norm");
  if (!m.tied) matrix("output.weight", m.n_vocab, m.dim);
  const bool fused_qkv = f == "phi3" || f == "gpt2", fused_up = f == "phi3";
  const bool biases = m.biases || gpt_oss || layer_norm;
  const uint64_t q_dim = uint64_t{m.n_heads} * m.head_dim, kv_dim = uint64_t{m.n_kv_heads} * m.head_dim;
  const uint64_t up_rows = fused_up ? uint64_t{2} * m.ffn_dim : m.ffn_dim;
  for (uint32_t i = 0; i < m.n_layers; ++i) {
    const std::string b = "blk." + std::to_string(i) + ".";
    norm(b + "attn_norm");
    if (fused_qkv) {
      matrix(b + "attn_qkv.weight", q_dim + 2 * kv_dim, m.dim);
    } else {
      matrix(b + "attn_q.weight", q_dim, m.dim);
      matrix(b + "attn_k.weight", kv_dim, m.dim);
      matrix(b + "attn_v.weight", kv_dim, m.dim);
    }
    matrix(b + "attn_output.weight", m.dim, q_dim);
    norm(b + (gpt_oss ? "post_attention_norm" : "ffn_norm"));
    if (has_experts) {
      tensors.experts(b, m.biases || gpt_oss);
    } else {
      if (gated && !fused_up) matrix(b + "ffn_gate.weight", m.ffn_dim, m.dim);
      matrix(b + "ffn_up.weight", up_rows, m.dim);
      matrix(b + "ffn_down.weight", m.dim, m.ffn_dim);
    }
    if (gpt_oss) tensors.vector(b + "attn_sinks.weight", m.n_heads, 0.0f, 2.0f);
    if (biases && fused_qkv) vector(b + "attn_qkv.bias", q_dim + 2 * kv_dim, 0.0f);
    if ((biases && !fused_qkv) || f == "qwen2") {
      vector(b + "attn_q.bias", q_dim, 0.0f);
      vector(b + "attn_k.bias", kv_dim, 0.0f);
      vector(b + "attn_v.bias", kv_dim, 0.0f);
    }
    if (biases) vector(b + "attn_output.bias", m.dim, 0.0f);
    if (biases && !has_experts) {
      if (gated && !fused_up) vector(b + "ffn_gate.bias", m.ffn_dim, 0.0f);
      vector(b + "ffn_up.bias", up_rows, 0.0f);
      vector(b + "ffn_down.bias", m.dim, 0.0f);
    }
    if (f == "gemma3" || f == "qwen3" || f == "qwen3moe") {
      vector(b + "attn_q_norm.weight", m.head_dim, 1.0f);
      vector(b + "attn_k_norm.weight", m.head_dim, 1.0f);
    }
    if (f == "gemma2" || f == "gemma3") {
      vector(b + "post_attention_norm.weight", m.dim, 1.0f);
      vector(b + "post_ffw_norm.weight", m.dim, 1.0f);
    }
  }
  return w;
}
inline Bytes synthetic_gguf(const SyntheticModel& m) { return synthetic_writer(m).bytes(); }

// A program over bytes that it keeps alive.
struct LoadedModel {
  explicit LoadedModel(const SyntheticModel& shape)
      : bytes(synthetic_gguf(shape)),
        program(std::make_shared<const model::Program>(
            model::lower(model::read_spec(gguf::File::parse(bytes, "synthetic"))))) {}
  Bytes bytes;
  std::shared_ptr<const model::Program> program;
};

// Token ids that depend on the seed alone.
inline std::vector<int32_t> random_tokens(size_t n, uint32_t n_vocab, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng() % n_vocab);
  return tokens;
}

}  // namespace orcd::test
