// Gemma 3 (text): norms before and after, q/k norms, local layers with a window and their own rope base,
// scaled embeddings, GELU. The converter has already added 1 to the norm weights.
#include "model/adapters/registry.h"
#include "numerics/scalar.h"

namespace orcd::model {
namespace {

// true for each layer that attends locally. Default: five local layers, then a global one.
std::vector<bool> local_layers(const Reader& reader, uint32_t n_layers) {
  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  std::vector<bool> local(n_layers);
  const gguf::MetadataEntry* entry = reader.file().find(reader.key(kPattern));
  if (entry && entry->type == gguf::ValueType::kArray) {
    const auto& pattern = std::get<gguf::Array>(entry->value);
    if (pattern.element_type != gguf::ValueType::kBool || pattern.size != n_layers) {
      reader.fail(kPattern, "must hold one boolean for each of the " + std::to_string(n_layers) + " layers");
    }
    for (uint32_t layer = 0; layer < n_layers; ++layer) local[layer] = pattern.as_bool(layer);
    return local;
  }
  // Every period-th layer is global; 0: none is.
  const uint32_t period = reader.optional_count(kPattern, kMaxLayers, 0).value_or(6);
  for (uint32_t layer = 0; layer < n_layers; ++layer) local[layer] = period == 0 || (layer + 1) % period != 0;
  return local;
}

}  // namespace

ModelSpec read_gemma3(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  spec.embedding_scale = numerics::sqrt_rn(static_cast<float>(spec.dim));
  spec.final_softcap = static_cast<float>(reader.positive("final_logit_softcapping").value_or(0));

  RopeSpec global = reader.rope(RopeStyle::kHalves, spec);
  // No default: the format's own, 10,000, is none of Gemma 3's. Ollama's converter has a name of its own.
  const auto base = reader.positive("rope.freq_base", 1.0);
  const auto other_base = reader.positive("rope.global.freq_base", 1.0);
  if (!base && !other_base) reader.fail("rope.freq_base", "is missing; gemma3 needs it");
  global.base = base.value_or(other_base.value_or(0));
  RopeSpec local = {
      .n_dims = global.n_dims, .base = 10000.0, .style = RopeStyle::kHalves, .freq_factors = {}};
  for (const std::string_view name : {"rope.freq_base_swa", "rope.local.freq_base"}) {
    if (const auto local_base = reader.positive(name, 1.0)) local.base = *local_base;
  }
  // A local query sees `window` keys, itself included: as in transformers and in llama.cpp's standard mask.
  const uint32_t window = reader.optional_count("attention.sliding_window", kMaxContext, 0).value_or(0);
  const std::vector<bool> is_local =
      window ? local_layers(reader, spec.n_layers) : std::vector<bool>(spec.n_layers, false);

  const bool has_scale = reader.positive("attention.scale").has_value();
  reader.read_blocks(spec);
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.activation = Activation::kGeluTanh;
    layer.window = is_local[i] ? window : 0;
    layer.rope = Reader::add_rope(spec, is_local[i] ? local : global);
    // The 27B model, alone, scales by dim / n_heads and its files do not say so; they are known by 62 layers.
    if (spec.n_layers == 62 && !has_scale) {
      const uint32_t dim_per_head = spec.dim / layer.n_heads;
      layer.attention_scale = 1.0f / numerics::sqrt_rn(static_cast<float>(dim_per_head));
    }
    layer.q_norm = reader.vector(Reader::block(i, "attn_q_norm.weight"), layer.head_dim);
    layer.k_norm = reader.vector(Reader::block(i, "attn_k_norm.weight"), layer.head_dim);
    layer.post_attention_norm = reader.norm(Reader::block(i, "post_attention_norm"), spec.dim);
    layer.post_ffn_norm = reader.norm(Reader::block(i, "post_ffw_norm"), spec.dim);
  }
  return spec;
}

}  // namespace orcd::model
