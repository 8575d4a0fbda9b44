// gpt-oss (OpenAI 2025): experts behind a router with a bias, biases everywhere, a sink for each head, layers
// that attend locally and globally in turn, YaRN whose bounds are not rounded, a SwiGLU that is clamped.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_gpt_oss(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  reader.read_expert_counts(spec);
  RopeSpec rope = reader.rope(RopeStyle::kHalves, spec);
  rope.yarn_rounded = false;
  const int32_t rope_index = Reader::add_rope(spec, rope);
  // A local query sees `window` keys, itself included; the first layer is local, every second one global.
  const uint32_t window = reader.count("attention.sliding_window", kMaxContext);
  reader.read_blocks(spec, {.ffn_norm = "post_attention_norm", .biases = true});
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.rope = rope_index;
    layer.window = i % 2 == 0 ? window : 0;
    layer.activation = Activation::kClampedSwiglu;
    layer.sinks = reader.vector(Reader::block(i, "attn_sinks.weight"), layer.n_heads);
  }
  return spec;
}

}  // namespace orcd::model
