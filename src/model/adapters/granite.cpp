// Granite 3 and the dense ones of Granite 4 (Granite 3.0 report, 2024): llama with four scales, of the
// embeddings, the residual branches, the scores and the logits. The converter permutes q and k as llama's.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_granite(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  const auto needed = [&](std::string_view name) {
    const auto value = reader.positive(name);
    if (!value) reader.fail(name, "is missing; granite needs it");
    return static_cast<float>(*value);
  };
  spec.embedding_scale = needed("embedding_scale");
  spec.residual_scale = needed("residual_scale");
  spec.logit_scale = 1.0f / needed("logit_scale");  // the file holds a divisor
  needed("attention.scale");                        // start() has read it
  reader.refuse_if_set("expert_count", "granite with experts is not supported");
  reader.refuse_window(spec);
  // The converter of Granite 4 writes this key for its own purpose: false means that nothing is rotated.
  const bool rotates = reader.file().get_bool(reader.key("rope.scaling.finetuned")).value_or(true);
  const int32_t rope = rotates ? Reader::add_rope(spec, reader.rope(RopeStyle::kInterleaved, spec)) : -1;
  reader.read_blocks(spec);
  for (LayerSpec& layer : spec.layers) layer.rope = rope;
  return spec;
}

}  // namespace orcd::model
