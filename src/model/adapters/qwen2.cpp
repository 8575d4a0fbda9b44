// Qwen2 and Qwen2.5 (Qwen2 report, 2024): biases on q, k and v, rotary pairs in halves.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_qwen2(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  reader.refuse_window(spec);
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kHalves, spec));
  reader.read_blocks(spec);
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.rope = rope;
    layer.q_bias = reader.vector(Reader::block(i, "attn_q.bias"), layer.q.n_rows);
    layer.k_bias = reader.vector(Reader::block(i, "attn_k.bias"), layer.k.n_rows);
    layer.v_bias = reader.vector(Reader::block(i, "attn_v.bias"), layer.v.n_rows);
  }
  return spec;
}

}  // namespace orcd::model
