// Phi-3, Phi-3.5 and Phi-4-mini (Phi-3 report, 2024): fused QKV and gate-up, a window on every layer where
// the file names one, and LongRoPE (Ding et al. 2024) for the long contexts.
#include "model/adapters/registry.h"

namespace orcd::model {
namespace {

// Two sets of factors: `short` up to the context the model was first trained on, `long` beyond it. The
// context length of the file chooses, once for all positions, so that a token's keys do not depend on what
// follows it.
void add_longrope(const Reader& reader, const ModelSpec& spec, RopeSpec& rope) {
  constexpr std::string_view kOriginal = "rope.scaling.original_context_length";
  constexpr std::string_view kMagnitude = "rope.scaling.attn_factor";
  const auto long_factors = reader.frequency_factors("rope_factors_long.weight", rope.n_dims / 2);
  const auto short_factors = reader.frequency_factors("rope_factors_short.weight", rope.n_dims / 2);
  if (long_factors.empty() && short_factors.empty()) return;
  if (long_factors.empty() != short_factors.empty()) {
    const std::string missing =
        long_factors.empty() ? "rope_factors_long.weight" : "rope_factors_short.weight";
    throw gguf::load_error(reader.file(), missing, kHeaderEnd,
                           "tensor is missing; LongRoPE needs long and short factors");
  }
  if (!rope.freq_factors.empty() || rope.yarn_factor > 0 || rope.scale != 1.0)
    reader.fail("rope.scaling.type", "another scaling stands beside LongRoPE's factors");
  const uint32_t original = reader.count(kOriginal, kMaxContext);
  const auto magnitude = reader.positive(kMagnitude);
  if (!magnitude) reader.fail(kMagnitude, "is missing, but LongRoPE's factors need it");
  rope.freq_factors = spec.context_length > original ? long_factors : short_factors;
  rope.yarn_attention_factor = *magnitude;
}

}  // namespace

ModelSpec read_phi3(const Reader& reader) {
  ModelSpec spec = reader.start();
  spec.norm_eps = reader.epsilon("attention.layer_norm_rms_epsilon");
  RopeSpec rope = reader.rope(RopeStyle::kHalves, spec);
  add_longrope(reader, spec, rope);
  const int32_t index = Reader::add_rope(spec, rope);
  // A query sees `window` keys, itself included, as in transformers.
  const uint32_t window = reader.optional_count("attention.sliding_window", kMaxContext, 0).value_or(0);
  reader.read_blocks(spec, {.fused_qkv = true, .fused_gate_up = true});
  for (LayerSpec& layer : spec.layers) {
    layer.rope = index;
    layer.window = window;
  }
  return spec;
}

}  // namespace orcd::model
