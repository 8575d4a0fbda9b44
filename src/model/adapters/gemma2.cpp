// Gemma 2 (Gemma 2 report, 2024): norms before and after, softcaps on scores and logits, every other layer
// local, scaled embeddings, GELU. The converter has already added 1 to the norm weights.
#include "model/adapters/registry.h"
#include "numerics/scalar.h"

namespace orcd::model {
namespace {

float needed(const Reader& reader, std::string_view name) {
  const auto value = reader.positive(name);
  if (!value) reader.fail(name, "is missing; gemma2 needs it");
  return static_cast<float>(*value);
}

}  // namespace

ModelSpec read_gemma2(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  spec.embedding_scale = numerics::sqrt_rn(static_cast<float>(spec.dim));
  spec.final_softcap = needed(reader, "final_logit_softcapping");
  const float softcap = needed(reader, "attn_logit_softcapping");
  const uint32_t window = reader.count("attention.sliding_window", kMaxContext);
  const bool has_scale = reader.positive("attention.scale").has_value();
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kHalves, spec));
  reader.read_blocks(spec);
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.activation = Activation::kGeluTanh;
    layer.window = i % 2 == 0 ? window : 0;
    layer.rope = rope;
    layer.attention_softcap = softcap;
    // The 27B model, alone, scales by dim / n_heads and its files do not say so; they are known by 46 layers.
    if (spec.n_layers == 46 && !has_scale) {
      const uint32_t dim_per_head = spec.dim / layer.n_heads;
      layer.attention_scale = 1.0f / numerics::sqrt_rn(static_cast<float>(dim_per_head));
    }
    layer.post_attention_norm = reader.norm(Reader::block(i, "post_attention_norm"), spec.dim);
    layer.post_ffn_norm = reader.norm(Reader::block(i, "post_ffw_norm"), spec.dim);
  }
  return spec;
}

}  // namespace orcd::model
