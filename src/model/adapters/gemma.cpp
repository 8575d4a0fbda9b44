// Gemma 1 (Gemma report, 2024), CodeGemma: llama with scaled embeddings, GELU and rotary pairs in halves. The
// converter has already added 1 to the norm weights.
#include "model/adapters/registry.h"
#include "numerics/scalar.h"

namespace orcd::model {

ModelSpec read_gemma(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  spec.embedding_scale = numerics::sqrt_rn(static_cast<float>(spec.dim));
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kHalves, spec));
  reader.read_blocks(spec);
  for (LayerSpec& layer : spec.layers) {
    layer.activation = Activation::kGeluTanh;
    layer.rope = rope;
  }
  return spec;
}

}  // namespace orcd::model
