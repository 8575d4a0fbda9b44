#include "model/adapters/reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "numerics/attention.h"

namespace orcd::model {
namespace {

std::string range_text(uint64_t value, uint64_t min, uint64_t max) {
  return std::to_string(value) + " is outside " + std::to_string(min) + ".." + std::to_string(max);
}

// N of "blk.N.", or nullopt.
std::optional<uint64_t> block_index(std::string_view tensor_name) {
  if (!tensor_name.starts_with("blk.")) return std::nullopt;
  uint64_t index = 0;
  const char* end = tensor_name.data() + tensor_name.size();
  const auto [stop, error] = std::from_chars(tensor_name.data() + 4, end, index);
  if (error != std::errc() || stop == end || *stop != '.') return std::nullopt;
  return index;
}

// Some rows of a fused tensor; none of an absent one.
TensorRef rows_of(const TensorRef& fused, uint64_t begin, uint64_t n) {
  return fused ? TensorRef{fused.tensor, begin, n} : TensorRef{};
}

}  // namespace

Reader::Reader(std::shared_ptr<const gguf::File> file)
    : file_(std::move(file)), architecture_(file_->need_string("general.architecture")) {}

std::string Reader::key(std::string_view name) const {
  asked_.emplace(name);
  return architecture_ + "." + std::string(name);
}

void Reader::fail(std::string_view name, std::string message, std::string hint) const {
  const std::string field = key(name);
  const gguf::MetadataEntry* entry = file_->find(field);
  throw gguf::load_error(*file_, field, entry ? entry->value_offset : kHeaderEnd, std::move(message),
                         std::move(hint));
}

uint32_t Reader::count(std::string_view name, uint64_t max) const {
  const uint64_t value = file_->need_uint(key(name));
  if (value < 1 || value > max) fail(name, range_text(value, 1, max));
  return static_cast<uint32_t>(value);
}

std::optional<uint32_t> Reader::optional_count(std::string_view name, uint64_t max, uint64_t min) const {
  const auto value = file_->get_uint(key(name));
  if (!value) return std::nullopt;
  if (*value < min || *value > max) fail(name, range_text(*value, min, max));
  return static_cast<uint32_t>(*value);
}

std::vector<uint32_t> Reader::layer_counts(std::string_view name, uint32_t n_layers, uint64_t max,
                                           const std::vector<uint32_t>& fallback) const {
  const gguf::MetadataEntry* entry = file_->find(key(name));
  if (!entry && !fallback.empty()) return fallback;
  if (!entry || entry->type != gguf::ValueType::kArray)
    return std::vector<uint32_t>(n_layers, count(name, max));
  const auto& array = std::get<gguf::Array>(entry->value);
  switch (array.element_type) {
    case gguf::ValueType::kF32:
    case gguf::ValueType::kF64:
    case gguf::ValueType::kBool:
    case gguf::ValueType::kString:
    case gguf::ValueType::kArray:
      fail(name, "must be an integer, or an array of integers");
    default:
      break;
  }
  if (array.size != n_layers) {
    fail(name, "has " + std::to_string(array.size) + " values for " + std::to_string(n_layers) + " layers");
  }
  std::vector<uint32_t> out(n_layers);
  for (uint32_t layer = 0; layer < n_layers; ++layer) {
    const int64_t value = array.as_int(layer);
    if (value < 1 || static_cast<uint64_t>(value) > max) {
      fail(name, "value " + std::to_string(value) + " of layer " + std::to_string(layer) + " is outside 1.." +
                     std::to_string(max));
    }
    out[layer] = static_cast<uint32_t>(value);
  }
  return out;
}

std::optional<double> Reader::positive(std::string_view name, double above) const {
  const auto value = file_->get_float(key(name));
  if (value && !(std::isfinite(*value) && *value > above)) {
    fail(name, std::to_string(*value) + " is not a finite number above " + std::to_string(above));
  }
  return value;
}

float Reader::epsilon(std::string_view name) const {
  const double value = file_->need_float(key(name));
  if (!(value > 0 && value <= 1)) fail(name, std::to_string(value) + " is outside (0, 1]");
  // A binary64 value may be too small for binary32.
  const float eps = static_cast<float>(value);
  if (!(eps > 0)) fail(name, "is zero in binary32");
  return eps;
}

void Reader::refuse_if_set(std::string_view name, std::string_view why) const {
  const gguf::MetadataEntry* entry = file_->find(key(name));
  if (!entry) return;
  const bool is_float = entry->type == gguf::ValueType::kF32 || entry->type == gguf::ValueType::kF64;
  const bool is_bool = entry->type == gguf::ValueType::kBool;
  const bool zero = is_float  ? *file_->get_float(key(name)) == 0
                    : is_bool ? !*file_->get_bool(key(name))
                              : *file_->get_uint(key(name)) == 0;
  if (!zero) fail(name, std::string(why));
}

void Reader::refuse_window(const ModelSpec& spec) const {
  const uint32_t window = optional_count("attention.sliding_window", kMaxContext, 0).value_or(0);
  if (window != 0 && window < spec.context_length) {
    fail("attention.sliding_window", "a window of " + std::to_string(window) +
                                         " is shorter than the context; which layers have it is not said");
  }
}

ModelSpec Reader::start() const {
  ModelSpec spec{};
  spec.file = file_;
  spec.architecture = architecture_;
  spec.name = file_->get_string("general.name").value_or(architecture_);
  if (!file_->get_bool(key("attention.causal")).value_or(true))
    fail("attention.causal", "a model whose tokens see what follows them does not generate text");
  spec.n_layers = count("block_count", kMaxLayers);
  spec.dim = count("embedding_length", kMaxDim);
  spec.context_length = count("context_length", kMaxContext);

  const auto heads = layer_counts("attention.head_count", spec.n_layers, kMaxHeads);
  const auto kv_heads = layer_counts("attention.head_count_kv", spec.n_layers, kMaxHeads, heads);
  const auto ffn = layer_counts("feed_forward_length", spec.n_layers, kMaxFfnDim);
  const auto key_length = optional_count("attention.key_length", numerics::kMaxHeadDim);
  if (!key_length && spec.dim % heads[0] != 0) {
    fail("attention.head_count", std::to_string(heads[0]) + " heads do not divide the embedding length of " +
                                     std::to_string(spec.dim));
  }
  const uint32_t head_dim = key_length.value_or(spec.dim / heads[0]);
  const std::string_view head_dim_key = key_length ? "attention.key_length" : "attention.head_count";
  if (head_dim % 2 != 0 || head_dim > numerics::kMaxHeadDim) {
    fail(head_dim_key, "gives heads of " + std::to_string(head_dim) + " dimensions; an even number up to " +
                           std::to_string(numerics::kMaxHeadDim) + " is needed");
  }
  const auto value_length = optional_count("attention.value_length", numerics::kMaxHeadDim);
  if (value_length && *value_length != head_dim) {
    fail("attention.value_length", std::to_string(*value_length) + " differs from the key length of " +
                                       std::to_string(head_dim) + ", which is not supported");
  }
  const double scale = positive("attention.scale").value_or(0);
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    if (kv_heads[i] > heads[i] || heads[i] % kv_heads[i] != 0) {
      fail("attention.head_count_kv", std::to_string(kv_heads[i]) + " key heads do not divide " +
                                          std::to_string(heads[i]) + " query heads in layer " +
                                          std::to_string(i));
    }
    LayerSpec layer{};
    layer.n_heads = heads[i];
    layer.n_kv_heads = kv_heads[i];
    layer.head_dim = head_dim;
    layer.ffn_dim = ffn[i];
    layer.attention_scale =
        scale > 0 ? static_cast<float>(scale) : 1.0f / numerics::sqrt_rn(static_cast<float>(head_dim));
    spec.layers.push_back(layer);
  }
  uint64_t n_blocks = 0;
  for (const gguf::TensorInfo& tensor : file_->tensors()) {
    if (const auto index = block_index(tensor.name))
      n_blocks = std::max(n_blocks, std::min(*index, kMaxLayers) + 1);
  }
  if (n_blocks != spec.n_layers) {
    fail("block_count", "says " + std::to_string(spec.n_layers) + " layers, but the tensors go up to layer " +
                            (n_blocks ? std::to_string(n_blocks - 1) : "none"));
  }

  const gguf::TensorInfo* embedding = take("token_embd.weight", true);
  const uint64_t rows = embedding->dims[1];
  if (rows > kMaxVocab) fail_tensor(*embedding, range_text(rows, 1, kMaxVocab) + " rows");
  spec.token_embedding = matrix("token_embd.weight", rows, spec.dim);
  spec.n_vocab = static_cast<uint32_t>(rows);
  check_vocabulary(spec);
  spec.output_norm = norm("output_norm", spec.dim);
  spec.head = maybe_matrix("output.weight", rows, spec.dim);
  if (!spec.head) spec.head = spec.token_embedding;
  spec.head_bias = maybe_vector("output.bias", rows);
  return spec;
}

void Reader::check_vocabulary(const ModelSpec& spec) const {
  const std::string rows = std::to_string(spec.n_vocab) + " embedding rows";
  const auto vocab_size = file_->get_uint(key("vocab_size"));
  if (vocab_size && *vocab_size > spec.n_vocab) {
    fail("vocab_size", std::to_string(*vocab_size) + " tokens, but only " + rows);
  }
  const gguf::MetadataEntry* tokens = file_->find("tokenizer.ggml.tokens");
  const auto* array = tokens ? std::get_if<gguf::Array>(&tokens->value) : nullptr;
  if (array && array->size > spec.n_vocab) {
    throw gguf::load_error(*file_, tokens->key, tokens->value_offset,
                           std::to_string(array->size) + " tokens, but only " + rows);
  }
}

void Reader::read_expert_counts(ModelSpec& spec) const {
  const uint32_t n_experts = count("expert_count", kMaxExperts);
  const uint32_t n_used = count("expert_used_count", kMaxExpertsUsed);
  if (n_used > n_experts) {
    fail("expert_used_count",
         "is " + std::to_string(n_used) + ", but there are " + std::to_string(n_experts) + " experts");
  }
  const auto ffn = optional_count("expert_feed_forward_length", kMaxFfnDim);
  for (LayerSpec& layer : spec.layers) {
    layer.n_experts = n_experts;
    layer.n_experts_used = n_used;
    layer.ffn_dim = ffn.value_or(layer.ffn_dim);
  }
  refuse_if_set("expert_shared_count", "shared experts are not supported");
  if (optional_count("expert_group_count", kMaxExperts, 0).value_or(1) > 1)
    fail("expert_group_count", "experts in groups are not supported");
  if (positive("expert_weights_scale").value_or(1) != 1)
    fail("expert_weights_scale", "a scale of the experts' weights is not supported");
  if (!file_->get_bool(key("expert_weights_norm")).value_or(true))
    fail("expert_weights_norm", "weights that do not add up to 1 are not supported");
  if (optional_count("expert_gating_func", 255, 0).value_or(1) == 2)
    fail("expert_gating_func", "a sigmoid gate is not supported");
}

void Reader::read_experts(uint32_t index, uint64_t dim, const BlockForm& form, LayerSpec& layer) const {
  const uint64_t n = layer.n_experts, ffn = layer.ffn_dim;
  const auto biases = [&](const std::string& name, uint64_t n_rows) {
    return form.biases ? expert_vectors(name, n_rows, n) : maybe_expert_vectors(name, n_rows, n);
  };
  layer.router = matrix(block(index, "ffn_gate_inp.weight"), n, dim);
  const std::string router_bias = block(index, "ffn_gate_inp.bias");
  layer.router_bias = form.biases ? vector(router_bias, n) : maybe_vector(router_bias, n);
  layer.gate = expert_matrices(block(index, "ffn_gate_exps.weight"), ffn, dim, n);
  layer.up = expert_matrices(block(index, "ffn_up_exps.weight"), ffn, dim, n);
  layer.down = expert_matrices(block(index, "ffn_down_exps.weight"), dim, ffn, n);
  layer.gate_bias = biases(block(index, "ffn_gate_exps.bias"), ffn);
  layer.up_bias = biases(block(index, "ffn_up_exps.bias"), ffn);
  layer.down_bias = biases(block(index, "ffn_down_exps.bias"), dim);
}

void Reader::read_feed_forward(uint32_t index, uint64_t dim, const BlockForm& form, LayerSpec& layer) const {
  const uint64_t ffn = layer.ffn_dim, up_rows = form.fused_gate_up ? 2 * ffn : ffn;
  const auto bias = [&](const std::string& name, uint64_t n) {
    return form.biases ? vector(name, n) : maybe_vector(name, n);
  };
  if (form.gated && !form.fused_gate_up) {
    layer.gate = matrix(block(index, "ffn_gate.weight"), ffn, dim);
    layer.gate_bias = bias(block(index, "ffn_gate.bias"), ffn);
  }
  layer.up = matrix(block(index, "ffn_up.weight"), up_rows, dim);
  layer.up_bias = bias(block(index, "ffn_up.bias"), up_rows);
  if (form.fused_gate_up) {
    layer.gate = rows_of(layer.up, 0, ffn);
    layer.gate_bias = rows_of(layer.up_bias, 0, ffn);
    layer.up = rows_of(layer.up, ffn, ffn);
    layer.up_bias = rows_of(layer.up_bias, ffn, ffn);
  }
  layer.down = matrix(block(index, "ffn_down.weight"), dim, ffn);
  layer.down_bias = bias(block(index, "ffn_down.bias"), dim);
}

void Reader::read_attention(uint32_t index, uint64_t dim, const BlockForm& form, LayerSpec& layer) const {
  const uint64_t q_rows = uint64_t{layer.n_heads} * layer.head_dim;
  const uint64_t kv_rows = uint64_t{layer.n_kv_heads} * layer.head_dim;
  const auto bias = [&](const std::string& name, uint64_t n) {
    return form.biases ? vector(name, n) : maybe_vector(name, n);
  };
  if (form.fused_qkv) {
    const TensorRef qkv = matrix(block(index, "attn_qkv.weight"), q_rows + 2 * kv_rows, dim);
    const TensorRef qkv_bias = bias(block(index, "attn_qkv.bias"), q_rows + 2 * kv_rows);
    layer.q = rows_of(qkv, 0, q_rows);
    layer.k = rows_of(qkv, q_rows, kv_rows);
    layer.v = rows_of(qkv, q_rows + kv_rows, kv_rows);
    layer.q_bias = rows_of(qkv_bias, 0, q_rows);
    layer.k_bias = rows_of(qkv_bias, q_rows, kv_rows);
    layer.v_bias = rows_of(qkv_bias, q_rows + kv_rows, kv_rows);
  } else {
    layer.q = matrix(block(index, "attn_q.weight"), q_rows, dim);
    layer.k = matrix(block(index, "attn_k.weight"), kv_rows, dim);
    layer.v = matrix(block(index, "attn_v.weight"), kv_rows, dim);
    layer.q_bias = bias(block(index, "attn_q.bias"), q_rows);
    layer.k_bias = bias(block(index, "attn_k.bias"), kv_rows);
    layer.v_bias = bias(block(index, "attn_v.bias"), kv_rows);
  }
  layer.o = matrix(block(index, "attn_output.weight"), dim, q_rows);
  layer.o_bias = bias(block(index, "attn_output.bias"), dim);
}

void Reader::read_blocks(ModelSpec& spec, const BlockForm& form) const {
  const uint64_t dim = spec.dim;
  const auto any_norm = [&](const std::string& stem) {
    return form.layer_norms ? layer_norm(stem, dim) : norm(stem, dim);
  };
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.attention_norm = any_norm(block(i, "attn_norm"));
    read_attention(i, dim, form, layer);
    layer.ffn_norm = any_norm(block(i, form.ffn_norm));
    layer.n_experts != 0 ? read_experts(i, dim, form, layer) : read_feed_forward(i, dim, form, layer);
  }
}

std::string Reader::block(uint32_t layer, std::string_view name) {
  return "blk." + std::to_string(layer) + "." + std::string(name);
}

int32_t Reader::add_rope(ModelSpec& spec, const RopeSpec& rope) {
  for (size_t i = 0; i < spec.ropes.size(); ++i) {
    if (spec.ropes[i] == rope) return static_cast<int32_t>(i);
  }
  spec.ropes.push_back(rope);
  return static_cast<int32_t>(spec.ropes.size() - 1);
}

}  // namespace orcd::model
