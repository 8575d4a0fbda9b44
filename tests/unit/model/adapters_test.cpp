// What the adapters make of sound files: synthetic ones, and the two real models.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "model/program.h"
#include "support/synthetic_model.h"

namespace orcd::model {
namespace {

using test::GgufWriter;
using test::SyntheticModel;

// A spec with the bytes it refers to.
struct Model {
  explicit Model(const GgufWriter& writer)
      : bytes(writer.bytes()), spec(read_spec(gguf::File::parse(bytes))) {}
  test::Bytes bytes;
  ModelSpec spec;
};

GgufWriter gemma(uint32_t n_layers = 7, uint32_t window = 128) {
  return test::synthetic_writer({.family = "gemma3",
                                 .n_layers = n_layers,
                                 .dim = 64,
                                 .ffn_dim = 64,
                                 .n_heads = 2,
                                 .n_kv_heads = 1,
                                 .head_dim = 32,
                                 .n_vocab = 40,
                                 .window = window});
}

std::vector<uint32_t> windows(const ModelSpec& spec) {
  std::vector<uint32_t> out;
  for (const LayerSpec& layer : spec.layers) out.push_back(layer.window);
  return out;
}

TEST(Llama, ReadsShapesNormsAndTheTiedHead) {
  const Model m(test::synthetic_writer({}));
  EXPECT_EQ(m.spec.architecture, "llama");
  EXPECT_EQ(m.spec.name, "synthetic llama");
  EXPECT_EQ(m.spec.n_layers, 2u);
  EXPECT_EQ(m.spec.dim, 256u);
  EXPECT_EQ(m.spec.n_vocab, 300u);
  EXPECT_EQ(m.spec.context_length, 1024u);
  EXPECT_EQ(m.spec.norm_eps, 1e-5f);
  EXPECT_EQ(m.spec.norm_kind, NormKind::kRms);
  EXPECT_EQ(m.spec.embedding_scale, 1.0f);
  EXPECT_EQ(m.spec.head, m.spec.token_embedding);
  const LayerSpec& layer = m.spec.layers[1];
  EXPECT_EQ(layer.n_heads, 4u);
  EXPECT_EQ(layer.n_kv_heads, 2u);
  EXPECT_EQ(layer.head_dim, 64u);
  EXPECT_EQ(layer.ffn_dim, 512u);
  EXPECT_EQ(layer.window, 0u);
  EXPECT_EQ(layer.attention_scale, 0.125f);
  EXPECT_EQ(layer.activation, Activation::kSilu);
  EXPECT_EQ(layer.down.tensor->name, "blk.1.ffn_down.weight");
  EXPECT_FALSE(layer.q_norm);
  EXPECT_FALSE(layer.q_bias);
  EXPECT_FALSE(layer.post_ffn_norm.weight);
  ASSERT_EQ(m.spec.ropes.size(), 1u);
  EXPECT_EQ(m.spec.ropes[0],
            (RopeSpec{.n_dims = 64, .base = 10000, .style = RopeStyle::kInterleaved, .freq_factors = {}}));
}

TEST(Llama, HonoursBiasesAnOwnHeadAndAWindow) {
  const Model m(test::synthetic_writer({.window = 300, .tied = false, .biases = true}));
  EXPECT_EQ(m.spec.head.tensor->name, "output.weight");
  for (const LayerSpec& layer : m.spec.layers) {
    EXPECT_EQ(layer.window, 300u);
    for (const TensorRef& bias : {layer.q_bias, layer.k_bias, layer.v_bias, layer.o_bias, layer.gate_bias,
                                  layer.up_bias, layer.down_bias}) {
      EXPECT_TRUE(bias);
    }
    EXPECT_EQ(layer.k_bias.n_rows, 128u);
  }
}

TEST(Llama, DefaultsAreThoseOfTheFormat) {
  GgufWriter w = test::synthetic_writer({.n_kv_heads = 4});
  for (const char* key : {"llama.attention.key_length", "llama.attention.value_length",
                          "llama.attention.head_count_kv", "llama.rope.freq_base", "general.name"}) {
    w.remove(key);
  }
  const Model m(w);
  EXPECT_EQ(m.spec.layers[0].head_dim, 64u);
  EXPECT_EQ(m.spec.layers[0].n_kv_heads, 4u);
  EXPECT_EQ(m.spec.ropes[0].base, 10000.0);
  EXPECT_EQ(m.spec.name, "llama");
}

TEST(Llama, EachLayerHasItsOwnCounts) {
  GgufWriter w = test::synthetic_writer({});
  w.add("llama.attention.head_count_kv", std::vector<uint32_t>{2, 2});
  w.add("llama.feed_forward_length", std::vector<int32_t>{512, 512});
  EXPECT_EQ(Model(w).spec.layers[1].ffn_dim, 512u);
  w.add("llama.feed_forward_length", std::vector<int32_t>{512, 480});
  try {
    const Model m(w);
    FAIL() << "layer 1 took the width of layer 0";
  } catch (const Error& error) {
    EXPECT_NE(error.line().find("blk.1.ffn_gate.weight"), std::string::npos) << error.line();
    EXPECT_NE(error.line().find("[256, 480] is needed"), std::string::npos) << error.line();
  }
}

TEST(Llama, PartialRotationAndLinearScaling) {
  GgufWriter w = test::synthetic_writer({});
  w.add("llama.rope.dimension_count", 32u)
      .add("llama.rope.scaling.type", "linear")
      .add("llama.rope.scaling.factor", 4.0f);
  const Model m(w);
  EXPECT_EQ(m.spec.ropes[0].n_dims, 32u);
  EXPECT_EQ(m.spec.ropes[0].scale, 0.25);
  // Older files name no type, and the factor otherwise.
  GgufWriter old = test::synthetic_writer({});
  old.add("llama.rope.scale_linear", 2.0f);
  EXPECT_EQ(Model(old).spec.ropes[0].scale, 0.5);
  old.add("llama.rope.scaling.type", "none");
  EXPECT_EQ(Model(old).spec.ropes[0].scale, 1.0);
}

TEST(Llama, YarnTakesItsDefaultsFromTheFile) {
  GgufWriter w = test::synthetic_writer({});
  w.add("llama.rope.scaling.type", "yarn").add("llama.rope.scaling.factor", 8.0f);
  w.add("llama.rope.scaling.original_context_length", 256u);
  const Model m(w);
  const RopeSpec& rope = m.spec.ropes[0];
  EXPECT_EQ(rope.yarn_factor, 8.0);
  EXPECT_EQ(rope.yarn_original_ctx, 256.0);
  EXPECT_EQ(rope.yarn_beta_fast, 32.0);
  EXPECT_EQ(rope.yarn_beta_slow, 1.0);
  EXPECT_NEAR(rope.yarn_attention_factor, 1 + 0.1 * std::log(8.0), 1e-15);
  EXPECT_EQ(rope.scale, 1.0);
  const numerics::RopeParams params = rope_params(rope);
  EXPECT_EQ(params.n_dims, rope.n_dims);
  EXPECT_EQ(params.base, rope.base);
  EXPECT_EQ(params.scale, 1.0);
  EXPECT_TRUE(params.freq_factors.empty());
  EXPECT_EQ(params.yarn_factor, 8.0);
  EXPECT_EQ(params.yarn_original_ctx, 256.0);
  EXPECT_EQ(params.yarn_beta_fast, 32.0);
  EXPECT_EQ(params.yarn_beta_slow, 1.0);
  EXPECT_EQ(params.yarn_attention_factor, rope.yarn_attention_factor);
}

TEST(Llama, ScalesThatChangeNothingMayStandInTheFile) {
  GgufWriter w = test::synthetic_writer({});
  w.add("llama.logit_scale", 1.0f).add("llama.attention.clamp_kqv", 0.0f).add("llama.residual_scale", 1.0f);
  EXPECT_EQ(Model(w).spec.logit_scale, 1.0f);
}

TEST(Llama, Llama3FrequencyFactorsAreReadFromTheirTensor) {
  GgufWriter w = test::synthetic_writer({});
  test::Bytes data;
  for (int i = 0; i < 32; ++i) test::put(data, 1.0f + 0.25f * static_cast<float>(i));
  w.tensor("rope_freqs.weight", TensorType::kF32, {32}, data);
  const Model m(w);
  ASSERT_EQ(m.spec.ropes[0].freq_factors.size(), 32u);
  EXPECT_EQ(m.spec.ropes[0].freq_factors[0], 1.0f);
  EXPECT_EQ(m.spec.ropes[0].freq_factors[31], 8.75f);
}

TEST(Llama, VisionTensorsBesideTheTextModelAreLeftAlone) {
  GgufWriter w = test::synthetic_writer({});
  w.tensor("v.blk.0.attn_q.weight", TensorType::kF16, {32, 32})
      .tensor("mm.0.weight", TensorType::kF16, {32, 32});
  EXPECT_EQ(Model(w).spec.n_layers, 2u);
}

TEST(Llama, FewerTokensThanRowsAreFine) {
  GgufWriter w = test::synthetic_writer({});
  w.add("tokenizer.ggml.tokens", std::vector<std::string>(290, "t")).add("llama.vocab_size", 300u);
  EXPECT_EQ(Model(w).spec.n_vocab, 300u);
}

TEST(Gemma3, EverySixthLayerIsGlobalWithItsOwnRope) {
  GgufWriter w = gemma();
  w.add("gemma3.rope.freq_base", 1e6f)
      .add("gemma3.rope.scaling.type", "linear")
      .add("gemma3.rope.scaling.factor", 8.0f);
  const Model m(w);
  EXPECT_EQ(windows(m.spec), (std::vector<uint32_t>{128, 128, 128, 128, 128, 0, 128}));
  for (uint32_t i = 0; i < 7; ++i) {
    const RopeSpec& rope = m.spec.ropes[static_cast<size_t>(m.spec.layers[i].rope)];
    EXPECT_EQ(rope.base, i == 5 ? 1e6 : 1e4) << i;
    EXPECT_EQ(rope.scale, i == 5 ? 0.125 : 1.0) << i;
    EXPECT_EQ(rope.style, RopeStyle::kHalves);
  }
  EXPECT_EQ(m.spec.ropes.size(), 2u);
}

TEST(Gemma3, ThePatternMayBeAPeriodOrAListOrAbsentWithTheWindow) {
  GgufWriter w = gemma(4);
  w.add("gemma3.attention.sliding_window_pattern", 2u);
  EXPECT_EQ(windows(Model(w).spec), (std::vector<uint32_t>{128, 0, 128, 0}));
  w.add("gemma3.attention.sliding_window_pattern", 0u);
  EXPECT_EQ(windows(Model(w).spec), (std::vector<uint32_t>{128, 128, 128, 128}));
  w.add("gemma3.attention.sliding_window_pattern", 1u);
  EXPECT_EQ(windows(Model(w).spec), (std::vector<uint32_t>{0, 0, 0, 0}));
  w.add("gemma3.attention.sliding_window_pattern", std::vector<bool>{false, true, true, false});
  EXPECT_EQ(windows(Model(w).spec), (std::vector<uint32_t>{0, 128, 128, 0}));
  w.remove("gemma3.attention.sliding_window");
  EXPECT_EQ(windows(Model(w).spec), (std::vector<uint32_t>{0, 0, 0, 0}));
}

TEST(Gemma3, TheLocalBaseHasItsKey) {
  for (const char* key : {"gemma3.rope.freq_base_swa", "gemma3.rope.local.freq_base"}) {
    GgufWriter w = gemma();
    w.add(key, 5000.0f);
    EXPECT_EQ(Model(w).spec.ropes[0].base, 5000.0) << key;
  }
}

TEST(Gemma3, ScalesEmbeddingsAndNormsTwice) {
  GgufWriter w = gemma();
  w.add("gemma3.final_logit_softcapping", 30.0f);
  const Model m(w);
  EXPECT_EQ(m.spec.embedding_scale, 8.0f);
  EXPECT_EQ(m.spec.final_softcap, 30.0f);
  const LayerSpec& layer = m.spec.layers[3];
  EXPECT_EQ(layer.activation, Activation::kGeluTanh);
  EXPECT_EQ(layer.q_norm.tensor->name, "blk.3.attn_q_norm.weight");
  EXPECT_EQ(layer.post_attention_norm.weight.tensor->name, "blk.3.post_attention_norm.weight");
  EXPECT_EQ(layer.post_ffn_norm.weight.tensor->name, "blk.3.post_ffw_norm.weight");
  EXPECT_EQ(layer.attention_scale, 1.0f / std::sqrt(32.0f));
}

TEST(Gemma3, The27BModelScalesByItsWidthOverHeads) {
  const Model m(gemma(62));  // dim 64, 2 heads of 32 dimensions: the same scale both ways
  GgufWriter w = test::synthetic_writer({.family = "gemma3",
                                         .n_layers = 62,
                                         .dim = 64,
                                         .ffn_dim = 32,
                                         .n_heads = 4,
                                         .n_kv_heads = 1,
                                         .head_dim = 32,
                                         .n_vocab = 40});
  EXPECT_EQ(Model(w).spec.layers[61].attention_scale, 0.25f);
  EXPECT_EQ(m.spec.layers[61].attention_scale, 1.0f / std::sqrt(32.0f));
}

TEST(GptOss, ReadsExpertsSinksAndItsWindows) {
  const Model m(test::synthetic_writer(
      {.family = "gpt-oss", .n_layers = 4, .window = 128, .n_experts = 8, .n_experts_used = 4}));
  EXPECT_EQ(windows(m.spec), (std::vector<uint32_t>{128, 0, 128, 0}));
  ASSERT_EQ(m.spec.ropes.size(), 1u);
  const RopeSpec& rope = m.spec.ropes[0];
  EXPECT_EQ(rope.style, RopeStyle::kHalves);
  EXPECT_EQ(rope.yarn_factor, 4.0);
  EXPECT_EQ(rope.yarn_original_ctx, 256.0);
  EXPECT_FALSE(rope.yarn_rounded);
  EXPECT_FALSE(rope_params(rope).yarn_rounded);
  const LayerSpec& layer = m.spec.layers[3];
  EXPECT_EQ(layer.activation, Activation::kClampedSwiglu);
  EXPECT_EQ(layer.n_experts, 8u);
  EXPECT_EQ(layer.n_experts_used, 4u);
  EXPECT_EQ(layer.ffn_dim, 512u);
  EXPECT_EQ(layer.sinks.tensor->name, "blk.3.attn_sinks.weight");
  EXPECT_EQ(layer.sinks.n_rows, 4u);
  EXPECT_EQ(layer.ffn_norm.weight.tensor->name, "blk.3.post_attention_norm.weight");
  EXPECT_FALSE(layer.post_attention_norm.weight);
  EXPECT_EQ(layer.router.n_rows, 8u);
  EXPECT_EQ(layer.gate.n_rows, 512u);
  EXPECT_EQ(layer.gate.n_experts, 8u);
  EXPECT_EQ(layer.down_bias.n_rows, 256u);
  EXPECT_EQ(layer.down_bias.n_experts, 8u);
  for (const TensorRef& bias : {layer.q_bias, layer.k_bias, layer.v_bias, layer.o_bias, layer.router_bias,
                                layer.gate_bias, layer.up_bias})
    EXPECT_TRUE(bias);
}

TEST(Qwen3Moe, ReadsExpertsAndHeadNorms) {
  GgufWriter w = test::synthetic_writer({.family = "qwen3moe", .n_experts = 8, .n_experts_used = 3});
  w.add("qwen3moe.feed_forward_length", 6144u);  // of layers without experts, which it has none of
  w.add("qwen3moe.expert_gating_func", 1u).add("qwen3moe.expert_weights_norm", true);
  const Model m(w);
  const LayerSpec& layer = m.spec.layers[1];
  EXPECT_EQ(layer.ffn_dim, 512u);
  EXPECT_EQ(layer.n_experts_used, 3u);
  EXPECT_EQ(layer.activation, Activation::kSilu);
  EXPECT_EQ(layer.q_norm.tensor->name, "blk.1.attn_q_norm.weight");
  EXPECT_EQ(m.spec.ropes[0].style, RopeStyle::kHalves);
  EXPECT_FALSE(layer.sinks);
  EXPECT_FALSE(layer.router_bias);
}

TEST(Mixtral, IsALlamaWithExpertsOfTheFeedForwardsWidth) {
  GgufWriter w = test::synthetic_writer({.n_experts = 8});
  w.remove("llama.expert_feed_forward_length");
  const Model m(w);
  EXPECT_EQ(m.spec.layers[0].ffn_dim, 512u);
  EXPECT_EQ(m.spec.layers[0].n_experts, 8u);
  EXPECT_EQ(m.spec.ropes[0].style, RopeStyle::kInterleaved);
}

Model of(const char* family, const std::function<void(GgufWriter&)>& change = {}, uint32_t n_layers = 2) {
  SyntheticModel shape;
  shape.family = family;
  shape.n_layers = n_layers;
  GgufWriter w = test::synthetic_writer(shape);
  if (change) change(w);
  return Model(w);
}

TEST(Qwen2, HasBiasesOfQKAndVAndRotatesHalves) {
  const Model m = of("qwen2", [](GgufWriter& w) { w.add("qwen2.attention.sliding_window", 1024u); });
  const LayerSpec& layer = m.spec.layers[1];
  EXPECT_EQ(layer.q_bias.n_rows, 256u);
  EXPECT_EQ(layer.v_bias.tensor->name, "blk.1.attn_v.bias");
  EXPECT_FALSE(layer.o_bias);
  EXPECT_EQ(layer.window, 0u);
  EXPECT_EQ(m.spec.ropes.at(static_cast<size_t>(layer.rope)).style, RopeStyle::kHalves);
}

TEST(Phi3, TakesItsMatricesAsRowsOfFusedOnes) {
  const Model m = of("phi3", [](GgufWriter& w) { w.add("phi3.attention.sliding_window", 300u); });
  const LayerSpec& layer = m.spec.layers[1];
  EXPECT_EQ(layer.q, (TensorRef{layer.q.tensor, 0, 256}));
  EXPECT_EQ(layer.k, (TensorRef{layer.q.tensor, 256, 128}));
  EXPECT_EQ(layer.v, (TensorRef{layer.q.tensor, 384, 128}));
  EXPECT_EQ(layer.q.tensor->name, "blk.1.attn_qkv.weight");
  EXPECT_EQ(layer.gate, (TensorRef{layer.up.tensor, 0, 512}));
  EXPECT_EQ(layer.up, (TensorRef{layer.up.tensor, 512, 512}));
  EXPECT_FALSE(layer.q_bias);
  EXPECT_EQ(layer.window, 300u);
  EXPECT_EQ(m.spec.ropes.at(0).yarn_attention_factor, 1.0);
}

TEST(Phi3, TheContextOfTheFileChoosesLongRopesFactors) {
  const auto factors = [](uint32_t original, bool named = false) {
    return of("phi3",
              [=](GgufWriter& w) {
                if (named) w.add("phi3.rope.scaling.type", "longrope");
                test::Bytes longs, shorts;
                for (int i = 0; i < 32; ++i) {
                  test::put(longs, 4.0f);
                  test::put(shorts, 1.5f);
                }
                w.tensor("rope_factors_long.weight", TensorType::kF32, {32}, longs);
                w.tensor("rope_factors_short.weight", TensorType::kF32, {32}, shorts);
                w.add("phi3.rope.scaling.original_context_length", original);
                w.add("phi3.rope.scaling.attn_factor", 1.25f);
              })
        .spec.ropes.at(0);
  };
  EXPECT_EQ(factors(1023).freq_factors, std::vector<float>(32, 4.0f));
  EXPECT_EQ(factors(1024).freq_factors, std::vector<float>(32, 1.5f));
  EXPECT_EQ(factors(1023, true), factors(1023));
  EXPECT_EQ(factors(1023).yarn_attention_factor, 1.25);
  EXPECT_EQ(factors(1023).yarn_factor, 0.0);
  // The magnitude reaches cos and sin: at position 0 they are the factor and 0.
  float table[64];
  numerics::rope_table(rope_params(factors(1023)), 0, 1, table);
  EXPECT_EQ(table[0], 1.25f);
  EXPECT_EQ(table[1], 0.0f);
}

TEST(Gemma2, AlternatesWindowsAndCapsScoresAndLogits) {
  const Model m = of("gemma2", {}, 4);
  EXPECT_EQ(windows(m.spec), (std::vector<uint32_t>{128, 0, 128, 0}));
  EXPECT_EQ(m.spec.layers[3].attention_softcap, 50.0f);
  EXPECT_EQ(m.spec.final_softcap, 30.0f);
  EXPECT_EQ(m.spec.embedding_scale, 16.0f);
  EXPECT_EQ(m.spec.layers[0].attention_scale, 0.125f);
}

TEST(Gemma2, TheLargestModelScalesByDimPerHead) {
  const SyntheticModel shape{.family = "gemma2", .n_layers = 46, .n_heads = 4, .head_dim = 16};
  EXPECT_EQ(Model(test::synthetic_writer(shape)).spec.layers[45].attention_scale, 0.125f);
  GgufWriter w = test::synthetic_writer(shape);
  w.add("gemma2.attention.scale", 0.5f);
  EXPECT_EQ(Model(w).spec.layers[0].attention_scale, 0.5f);
}

TEST(Gemma, ScalesEmbeddingsAndRotatesHalves) {
  const Model m = of("gemma");
  EXPECT_EQ(m.spec.embedding_scale, 16.0f);
  EXPECT_EQ(m.spec.layers[1].activation, Activation::kGeluTanh);
  EXPECT_FALSE(m.spec.layers[1].post_ffn_norm.weight);
  EXPECT_EQ(m.spec.ropes.at(0).style, RopeStyle::kHalves);
}

TEST(Granite, HasFourScales) {
  const Model m = of("granite");
  EXPECT_EQ(m.spec.embedding_scale, 12.0f);
  EXPECT_EQ(m.spec.residual_scale, 0.22f);
  EXPECT_EQ(m.spec.logit_scale, 0.0625f);
  EXPECT_EQ(m.spec.layers[1].attention_scale, 0.015625f);
  const Program program = lower(m.spec);
  int n_scaled = 0;
  for (const Op& op : program.ops) {
    if (const auto* project = std::get_if<ProjectOp>(&op)) n_scaled += project->scale == 0.22f;
  }
  EXPECT_EQ(n_scaled, 4);
  EXPECT_NE(to_text(program).find("residual x 0.22"), std::string::npos);
}

TEST(SmolLm3, DoesNotRotateEveryFourthLayer) {
  const Model m = of("smollm3", {}, 9);
  for (uint32_t i = 0; i < 9; ++i) EXPECT_EQ(m.spec.layers[i].rope, i == 3 || i == 7 ? -1 : 0) << i;
  EXPECT_EQ(m.spec.ropes.at(0).style, RopeStyle::kInterleaved);
}

TEST(Gpt2, HasLearnedPositionsLayerNormsAndNoGate) {
  const Model m = of("gpt2");
  EXPECT_EQ(m.spec.norm_kind, NormKind::kLayer);
  EXPECT_EQ(m.spec.position_embedding.n_rows, 1024u);
  EXPECT_TRUE(m.spec.output_norm.bias);
  EXPECT_TRUE(m.spec.ropes.empty());
  const LayerSpec& layer = m.spec.layers[1];
  EXPECT_EQ(layer.rope, -1);
  EXPECT_FALSE(layer.gate);
  EXPECT_EQ(layer.activation, Activation::kGeluTanh);
  EXPECT_EQ(layer.v_bias, (TensorRef{layer.q_bias.tensor, 384, 128}));
  EXPECT_EQ(layer.k_bias.tensor->name, "blk.1.attn_qkv.bias");
  EXPECT_TRUE(layer.attention_norm.bias);
}

TEST(StarCoder2, HasBiasesEverywhereAndAWindowIfTheFileSaysSo) {
  EXPECT_EQ(windows(of("starcoder2").spec), (std::vector<uint32_t>{0, 0}));
  const Model m = of("starcoder2", [](GgufWriter& w) { w.add("starcoder2.attention.sliding_window", 96u); });
  EXPECT_EQ(windows(m.spec), (std::vector<uint32_t>{96, 96}));
  const LayerSpec& layer = m.spec.layers[0];
  for (const TensorRef& bias :
       {layer.q_bias, layer.o_bias, layer.up_bias, layer.down_bias, layer.ffn_norm.bias})
    EXPECT_TRUE(bias);
  EXPECT_FALSE(layer.gate);
  EXPECT_EQ(m.spec.ropes.at(0).style, RopeStyle::kHalves);
}

std::string model_path(const char* name) {
  const char* dir = std::getenv("ORCD_MODELS_DIR");
  return (dir ? std::string(dir) : std::string(ORCD_SOURCE_DIR) + "/models") + "/" + name;
}

TEST(RealModels, SmolLm2IsReadAsItsCardSays) {
  const Program p = lower(read_spec(gguf::File::open(model_path("smollm2-135m-instruct-q4_1.gguf"))));
  EXPECT_EQ(p.spec.n_layers, 30u);
  EXPECT_EQ(p.spec.dim, 576u);
  EXPECT_EQ(p.spec.n_vocab, 49152u);
  EXPECT_EQ(p.spec.layers[0].n_heads, 9u);
  EXPECT_EQ(p.spec.layers[0].n_kv_heads, 3u);
  EXPECT_EQ(p.ropes.at(0).base, 100000.0);
  EXPECT_EQ(p.ops.size(), 152u);
  EXPECT_EQ(p.weights.size(), 272u);
  EXPECT_EQ(weight_bytes_per_token(p), 96576768u);
}

TEST(RealModels, Gemma3IsReadAsItsCardSays) {
  const Program p = lower(read_spec(gguf::File::open(model_path("gemma-3-270m-q4_k_m.gguf"))));
  EXPECT_EQ(p.spec.n_layers, 18u);
  EXPECT_EQ(p.spec.n_vocab, 262144u);
  EXPECT_EQ(p.spec.embedding_scale, std::sqrt(640.0f));
  for (uint32_t i = 0; i < 18; ++i) {
    EXPECT_EQ(p.spec.layers[i].window, i % 6 == 5 ? 0u : 512u) << i;
    EXPECT_EQ(p.ropes[static_cast<size_t>(p.spec.layers[i].rope)].base, i % 6 == 5 ? 1e6 : 1e4) << i;
  }
  EXPECT_EQ(p.ops.size(), 92u);
  EXPECT_EQ(p.weights.size(), 236u);
  EXPECT_EQ(weight_bytes_per_token(p), 246587904u);
}

}  // namespace
}  // namespace orcd::model
