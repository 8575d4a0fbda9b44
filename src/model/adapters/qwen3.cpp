// Qwen3 (Qwen3 report, 2025): norms of q and k over each head in place of Qwen2's biases.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_qwen3(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  reader.refuse_window(spec);
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kHalves, spec));
  reader.read_blocks(spec);
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.rope = rope;
    layer.q_norm = reader.vector(Reader::block(i, "attn_q_norm.weight"), layer.head_dim);
    layer.k_norm = reader.vector(Reader::block(i, "attn_k_norm.weight"), layer.head_dim);
  }
  return spec;
}

}  // namespace orcd::model
