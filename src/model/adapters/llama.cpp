// Llama 1 to 3, SmolLM2, Mistral, Mixtral and their like: RMS norms, SwiGLU, rotary pairs interleaved (the
// GGUF converter permutes q and k so), one head table.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_llama(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kInterleaved, spec));
  // Mistral 7B v0.1: each query sees this many keys, itself included (as in HF's MistralConfig).
  const uint32_t window = reader.optional_count("attention.sliding_window", kMaxContext, 0).value_or(0);
  if (reader.optional_count("expert_count", kMaxExperts, 0).value_or(0) != 0)  // Mixtral
    reader.read_expert_counts(spec);
  reader.read_blocks(spec);
  for (LayerSpec& layer : spec.layers) {
    layer.rope = rope;
    layer.window = window;
    layer.activation = Activation::kSilu;
  }
  return spec;
}

}  // namespace orcd::model
