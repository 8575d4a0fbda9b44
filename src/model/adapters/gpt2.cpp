// GPT-2 (Radford et al. 2019): learned positions, LayerNorm, fused QKV, GELU without a gate, biases
// everywhere.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_gpt2(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_kind = NormKind::kLayer;
  spec.norm_eps = reader.epsilon("attention.layer_norm_epsilon");
  spec.position_embedding = reader.matrix("position_embd.weight", spec.context_length, spec.dim);
  spec.output_norm = reader.layer_norm("output_norm", spec.dim);
  reader.read_blocks(spec, {.fused_qkv = true, .gated = false, .layer_norms = true, .biases = true});
  for (LayerSpec& layer : spec.layers) layer.activation = Activation::kGeluTanh;
  return spec;
}

}  // namespace orcd::model
