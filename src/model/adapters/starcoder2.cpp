// StarCoder2 (Lozhkov et al. 2024): LayerNorm, biases everywhere, GELU without a gate, grouped heads. HF's
// models have a window on every layer; files made without one see the whole context.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_starcoder2(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_kind = NormKind::kLayer;
  spec.norm_eps = reader.epsilon("attention.layer_norm_epsilon");
  spec.output_norm = reader.layer_norm("output_norm", spec.dim);
  const uint32_t window = reader.optional_count("attention.sliding_window", kMaxContext, 0).value_or(0);
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kHalves, spec));
  reader.read_blocks(spec, {.gated = false, .layer_norms = true, .biases = true});
  for (LayerSpec& layer : spec.layers) {
    layer.activation = Activation::kGeluTanh;
    layer.window = window;
    layer.rope = rope;
  }
  return spec;
}

}  // namespace orcd::model
