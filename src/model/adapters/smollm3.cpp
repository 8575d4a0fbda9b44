// SmolLM3 (Hugging Face 2025): llama without rotation in every fourth layer (NoPE: Yang et al. 2025). The
// converter permutes q and k as llama's.
#include "model/adapters/registry.h"

namespace orcd::model {

ModelSpec read_smollm3(const Reader& reader) {
  constexpr uint32_t kNoRopeEvery = 4;  // no file says it: all SmolLM3 models have it so
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  const int32_t rope = Reader::add_rope(spec, reader.rope(RopeStyle::kInterleaved, spec));
  reader.refuse_window(spec);
  reader.read_blocks(spec);
  for (uint32_t i = 0; i < spec.n_layers; ++i) spec.layers[i].rope = (i + 1) % kNoRopeEvery == 0 ? -1 : rope;
  return spec;
}

}  // namespace orcd::model
