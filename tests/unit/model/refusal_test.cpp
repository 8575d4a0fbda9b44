// Files that are sound GGUF but no sound model: each is refused with the field and its byte offset.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "model/spec.h"
#include "support/synthetic_model.h"

namespace orcd::model {
namespace {

using test::GgufWriter;
using test::SyntheticModel;

std::string value(const Error& error, std::string_view name) {
  for (const auto& [key, v] : error.values()) {
    if (key == name) return error_value_text(v);
  }
  return "no " + std::string(name);
}

struct Case {
  std::string name;
  std::function<void(GgufWriter&)> spoil;
  std::string field, says;
  SyntheticModel shape = {};
};

// What a failing case shows of itself.
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Refusal : public testing::TestWithParam<Case> {};

TEST_P(Refusal, NamesTheFieldItsOffsetAndTheReason) {
  GgufWriter writer = test::synthetic_writer(GetParam().shape);
  GetParam().spoil(writer);
  const test::Bytes bytes = writer.bytes();
  const auto file = gguf::File::parse(bytes, "spoilt.gguf");
  try {
    read_spec(file);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    EXPECT_EQ(value(error, "field"), GetParam().field) << error.line();
    EXPECT_NE(error.line().find(GetParam().says), std::string::npos) << error.line();
    const gguf::MetadataEntry* entry = file->find(GetParam().field);
    const gguf::TensorInfo* tensor = file->find_tensor(GetParam().field);
    const uint64_t offset = entry ? entry->value_offset : tensor ? tensor->info_offset : 24;
    EXPECT_EQ(value(error, "offset"), std::to_string(offset)) << error.line();
  }
}

// A spoiler that sets one key.
template <typename T>
std::function<void(GgufWriter&)> set(const std::string& key, T v) {
  return [=](GgufWriter& w) { w.add(key, v); };
}
std::function<void(GgufWriter&)> drop(const std::string& key) {
  return [=](GgufWriter& w) { w.remove(key); };
}
std::function<void(GgufWriter&)> rename(const std::string& from, const std::string& to) {
  return [=](GgufWriter& w) { w.rename(from, to); };
}

const SyntheticModel kExperts = {.n_experts = 4};
const SyntheticModel kGptOss = {.family = "gpt-oss", .window = 128, .n_experts = 4};

SyntheticModel of(const char* family) {
  SyntheticModel shape;
  shape.family = family;
  return shape;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::vector<Case> hyperparameters() {
  std::vector<Case> cases = {
      {"UnknownArchitecture", set("general.architecture", "mamba"), "general.architecture",
       "known: llama, gemma3, gpt-oss, qwen3moe"},
      {"NotCausal", set("llama.attention.causal", false), "llama.attention.causal", "does not generate text"},
      {"ScaledLogits", set("llama.logit_scale", 0.0625f), "llama.logit_scale", "not part of a llama model"},
      {"ClampedProjections", set("llama.attention.clamp_kqv", 8.0f), "llama.attention.clamp_kqv",
       "not part of"},
      {"CappedScores", set("gemma3.attn_logit_softcapping", 50.0f), "gemma3.attn_logit_softcapping",
       "not part of", of("gemma3")},
      {"Gpt2WithAWindow", set("gpt2.attention.sliding_window", 256u), "gpt2.attention.sliding_window",
       "not part of", of("gpt2")},
      {"YarnThatExtrapolatesByHalf",
       [](GgufWriter& w) {
         w.add("llama.rope.scaling.type", "yarn").add("llama.rope.scaling.factor", 4.0f);
         w.add("llama.rope.scaling.yarn_ext_factor", 0.5f);
       },
       "llama.rope.scaling.yarn_ext_factor", "other than 1"},
      {"ExpertsWithoutTheirUse", set("llama.expert_count", 8u), "llama.expert_used_count", "lacks this key"},
      {"ExpertsThatHaveNoTensors",
       [](GgufWriter& w) { w.add("llama.expert_count", 8u).add("llama.expert_used_count", 2u); },
       "blk.0.ffn_gate_inp.weight", "tensor is missing"},
      {"MoreExpertsUsedThanThereAre", set("llama.expert_used_count", 5u), "llama.expert_used_count",
       "is 5, but there are 4 experts", kExperts},
      {"TooManyExperts", set("llama.expert_count", 1025u), "llama.expert_count", "outside 0..1024", kExperts},
      {"SharedExperts", set("llama.expert_shared_count", 1u), "llama.expert_shared_count",
       "shared experts are not supported", kExperts},
      {"GroupedExperts", set("llama.expert_group_count", 2u), "llama.expert_group_count", "in groups",
       kExperts},
      {"ScaledExpertWeights", set("llama.expert_weights_scale", 2.5f), "llama.expert_weights_scale",
       "scale of the experts' weights", kExperts},
      {"UnnormalisedExpertWeights", set("llama.expert_weights_norm", false), "llama.expert_weights_norm",
       "do not add up to 1", kExperts},
      {"SigmoidGate", set("llama.expert_gating_func", 2u), "llama.expert_gating_func", "sigmoid", kExperts},
      {"ExpertsOfAnotherWidth", set("llama.expert_feed_forward_length", 544u), "blk.0.ffn_gate_exps.weight",
       "[256, 512, 4], but [256, 544, 4] is needed", kExperts},
      {"AnotherNumberOfExperts",
       [](GgufWriter& w) {
         w.claim_dims("blk.1.ffn_down_exps.weight", {512, 128, 8});
       },
       "blk.1.ffn_down_exps.weight", "[512, 128, 8], but [512, 256, 4] is needed", kExperts},
      {"ExpertBiasesOfAnotherNumber",
       [](GgufWriter& w) {
         w.tensor("blk.1.ffn_up_exps.bias", TensorType::kF32, {512, 3});
       },
       "blk.1.ffn_up_exps.bias", "[512, 3], but [512, 4] is needed", kExperts},
      {"SinksOfAnotherNumber", [](GgufWriter& w) { w.claim_dims("blk.1.attn_sinks.weight", {2}); },
       "blk.1.attn_sinks.weight", "[2], but [4] is needed", kGptOss},
      {"GptOssWithoutItsWindow", drop("gpt-oss.attention.sliding_window"), "gpt-oss.attention.sliding_window",
       "lacks this key", kGptOss},
      {"GptOssWithoutSinks", rename("blk.0.attn_sinks.weight", "blk.0.x"), "blk.0.attn_sinks.weight",
       "tensor is missing", kGptOss},
      {"GptOssWithoutABias", rename("blk.0.attn_q.bias", "blk.0.x"), "blk.0.attn_q.bias", "tensor is missing",
       kGptOss},
      {"GptOssWithoutTheRoutersBias", rename("blk.1.ffn_gate_inp.bias", "blk.1.x"), "blk.1.ffn_gate_inp.bias",
       "tensor is missing", kGptOss},
      {"GptOssWithoutBiasesOfExperts", rename("blk.1.ffn_down_exps.bias", "blk.1.x"),
       "blk.1.ffn_down_exps.bias", "tensor is missing", kGptOss},
      {"HeadsThatDoNotDivideWithoutKeyLength",
       [](GgufWriter& w) { w.remove("llama.attention.key_length").add("llama.attention.head_count", 6u); },
       "llama.attention.head_count", "do not divide"},
      {"KeyHeadsThatDoNotDivide", set("llama.attention.head_count_kv", 3u), "llama.attention.head_count_kv",
       "3 key heads do not divide 4"},
      {"MoreKeyHeadsThanHeads", set("llama.attention.head_count_kv", 8u), "llama.attention.head_count_kv",
       "8 key heads"},
      {"OddHeadDim", set("llama.attention.key_length", 63u), "llama.attention.key_length", "even number"},
      {"HugeHeadDim", set("llama.attention.key_length", 514u), "llama.attention.key_length",
       "outside 1..512"},
      {"ValueLengthOfItsOwn", set("llama.attention.value_length", 32u), "llama.attention.value_length",
       "differs from the key length"},
      {"TooFewLayersNamed", set("llama.block_count", 1u), "llama.block_count", "up to layer 1"},
      {"TooManyLayersNamed", set("llama.block_count", 3u), "llama.block_count", "up to layer 1"},
      {"HeadArrayOfAnotherLength", set("llama.attention.head_count", std::vector<uint32_t>{4, 4, 4}),
       "llama.attention.head_count", "3 values for 2 layers"},
      {"HeadArrayWithZero", set("llama.attention.head_count", std::vector<int32_t>{4, 0}),
       "llama.attention.head_count", "value 0 of layer 1"},
      {"HeadArrayWithNegative", set("llama.attention.head_count", std::vector<int32_t>{-4, 4}),
       "llama.attention.head_count", "value -4 of layer 0"},
      {"HeadArrayOfFloats", set("llama.attention.head_count", std::vector<float>{4, 4}),
       "llama.attention.head_count", "integers"},
      {"OddRopeDimensions", set("llama.rope.dimension_count", 31u), "llama.rope.dimension_count", "odd"},
      {"MoreRopeDimensionsThanHeadDim", set("llama.rope.dimension_count", 66u), "llama.rope.dimension_count",
       "outside 1..64"},
      {"UnknownRopeScaling", set("llama.rope.scaling.type", "longrope"), "llama.rope.scaling.type",
       "known: none, linear, yarn"},
      {"LongRopeInAFamilyWithoutIt",
       [](GgufWriter& w) {
         w.add("llama.rope.scaling.type", "longrope");
         w.tensor("rope_factors_long.weight", TensorType::kF32, {32});
       },
       "rope_factors_long.weight", "not part of a llama model"},
      {"RopeScalingWithoutFactor", set("llama.rope.scaling.type", "linear"), "llama.rope.scaling.factor",
       "is missing"},
      {"RopeBaseOfAnotherType", set("llama.rope.freq_base", "10000"), "llama.rope.freq_base", "type string"},
      {"MoreTokensThanRows", set("tokenizer.ggml.tokens", std::vector<std::string>(301, "t")),
       "tokenizer.ggml.tokens", "301 tokens, but only 300"},
      {"LargerVocabularyThanRows", set("llama.vocab_size", 301u), "llama.vocab_size",
       "301 tokens, but only 300"},
  };
  for (const std::string key : {"block_count", "embedding_length", "context_length", "feed_forward_length",
                                "attention.head_count", "attention.head_count_kv", "attention.key_length"}) {
    std::string name;
    for (const char c : key) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
    const std::string full = "llama." + key;
    cases.push_back({"Zero_" + name, set(full, 0u), full, "0 is outside"});
    cases.push_back({"Huge_" + name, set(full, ~uint64_t{0}), full, "is outside"});
    cases.push_back({"Negative_" + name, set(full, int32_t{-1}), full, "negative"});
    cases.push_back({"Text_" + name, set(full, "7"), full, "type string"});
    if (key != "attention.head_count_kv" && key != "attention.key_length") {
      cases.push_back({"Missing_" + name, drop(full), full, "lacks"});
    }
  }
  const std::string eps = "llama.attention.layer_norm_rms_epsilon", base = "llama.rope.freq_base";
  for (const auto& [name, v] :
       {std::pair{"Nan", kNan}, {"Infinite", kInf}, {"Negative", -1e-5f}, {"Zero", 0.0f}}) {
    cases.push_back({std::string(name) + "Epsilon", set(eps, v), eps, "outside (0, 1]"});
    cases.push_back({std::string(name) + "RopeBase", set(base, v), base, "not a finite number"});
    cases.push_back({std::string(name) + "RopeFactor", set("llama.rope.scaling.factor", v),
                     "llama.rope.scaling.factor", "not a finite number"});
  }
  cases.push_back({"EpsilonBelowBinary32", set(eps, 1e-60), eps, "zero in binary32"});
  cases.push_back({"MissingEpsilon", drop(eps), eps, "lacks"});
  return cases;
}

std::vector<Case> tensors() {
  const SyntheticModel gemma{.family = "gemma3"};
  const auto extra = [](const std::string& name, TensorType type, std::vector<uint64_t> dims) {
    return [=](GgufWriter& w) { w.tensor(name, type, dims); };
  };
  std::vector<Case> cases = {
      {"Transposed",
       [](GgufWriter& w) {
         w.claim_dims("blk.0.ffn_up.weight", {512, 256});
       },
       "blk.0.ffn_up.weight", "[512, 256], but [256, 512] is needed"},
      {"ThreeDimensions",
       [](GgufWriter& w) {
         w.claim_dims("blk.1.attn_q.weight", {256, 128, 2});
       },
       "blk.1.attn_q.weight", "[256, 128, 2]"},
      {"NormAsMatrix",
       [](GgufWriter& w) {
         w.claim_dims("output_norm.weight", {128, 2});
       },
       "output_norm.weight", "[128, 2], but [256] is needed"},
      {"EmbeddingOfAnotherWidth", set("llama.embedding_length", 512u), "token_embd.weight",
       "[256, 300], but [512, 300]"},
      {"FfnOfAnotherWidth", set("llama.feed_forward_length", 544u), "blk.0.ffn_gate.weight",
       "[256, 512], but [256, 544]"},
      {"HeadsOfAnotherNumber", set("llama.attention.head_count", 8u), "blk.0.attn_q.weight",
       "[256, 256], but [256, 512]"},
      {"FormatWithoutCodec",
       [](GgufWriter&) {},
       "blk.0.attn_q.weight",
       "has type IQ2_S, which this build cannot compute",
       {.types = {TensorType::kQ8_0, TensorType::kIQ2_S}}},
      {"IntegerMatrix",
       [](GgufWriter&) {},
       "token_embd.weight",
       "has type I16",
       {.types = {TensorType::kI16}}},
      {"QuantisedVector", extra("blk.0.attn_q.bias", TensorType::kQ8_0, {256}), "blk.0.attn_q.bias",
       "has type Q8_0, but a vector"},
      {"HeadOfAnotherShape", extra("output.weight", TensorType::kF16, {256, 299}), "output.weight",
       "[256, 299]"},
      {"BiasOfAnotherLength", extra("blk.1.ffn_down.bias", TensorType::kF32, {255}), "blk.1.ffn_down.bias",
       "[255], but [256]"},
      {"LayerBeyondTheCount", extra("blk.2.attn_norm.weight", TensorType::kF32, {256}), "llama.block_count",
       "up to layer 2"},
      {"LayerOfAHugeNumber", extra("blk.18446744073709551615.attn_norm.weight", TensorType::kF32, {256}),
       "llama.block_count", "says 2 layers"},
      {"TensorThatNothingReads", extra("blk.1.attn_sinks.weight", TensorType::kF32, {4}),
       "blk.1.attn_sinks.weight", "not part of a llama model"},
      {"NormThatNothingReads", extra("token_embd_norm.weight", TensorType::kF32, {256}),
       "token_embd_norm.weight", "not part of"},
      {"RopeFactorsOfAnotherLength", extra("rope_freqs.weight", TensorType::kF32, {31}), "rope_freqs.weight",
       "[31], but [32]"},
      {"RopeFactorsOfZero", extra("rope_freqs.weight", TensorType::kF32, {32}), "rope_freqs.weight",
       "not above 0"},
  };
  const auto with_window = [](auto pattern) {
    return [=](GgufWriter& w) {
      w.add("gemma3.attention.sliding_window", 128u).add("gemma3.attention.sliding_window_pattern", pattern);
    };
  };
  cases.push_back({"GemmaPatternOfIntegers", with_window(std::vector<uint32_t>{1, 0}),
                   "gemma3.attention.sliding_window_pattern", "one boolean for each of the 2 layers", gemma});
  for (const std::string name : {"attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"}) {
    cases.push_back({"GemmaWithout_" + name, rename("blk.1." + name + ".weight", "blk.1.x"),
                     "blk.1." + name + ".weight", "tensor is missing", gemma});
  }
  for (const std::string name :
       {"token_embd.weight", "output_norm.weight", "blk.1.attn_norm.weight", "blk.0.attn_q.weight",
        "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.1.attn_output.weight", "blk.1.ffn_norm.weight",
        "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"}) {
    std::string test_name = "Without_" + name;
    std::replace(test_name.begin(), test_name.end(), '.', '_');
    cases.push_back({test_name, rename(name, "blk.1.unknown"), name, "tensor is missing"});
  }
  return cases;
}

std::vector<Case> families() {
  const auto extra = [](const std::string& name, std::vector<uint64_t> dims) {
    return [=](GgufWriter& w) { w.tensor(name, TensorType::kF32, dims); };
  };
  const auto longrope = [](const std::function<void(GgufWriter&)>& spoil) {
    return [=](GgufWriter& w) {
      const test::Bytes ones = [] {
        test::Bytes bytes;
        for (int i = 0; i < 32; ++i) test::put(bytes, 1.0f);
        return bytes;
      }();
      w.tensor("rope_factors_long.weight", TensorType::kF32, {32}, ones);
      w.tensor("rope_factors_short.weight", TensorType::kF32, {32}, ones);
      w.add("phi3.rope.scaling.original_context_length", 128u).add("phi3.rope.scaling.attn_factor", 1.2f);
      spoil(w);
    };
  };
  std::vector<Case> cases = {
      {"Gemma1WithAWindow", set("gemma.attention.sliding_window", 256u), "gemma.attention.sliding_window",
       "not part of a gemma model", of("gemma")},
      {"Gemma1WithoutItsEpsilon", drop("gemma.attention.layer_norm_rms_epsilon"),
       "gemma.attention.layer_norm_rms_epsilon", "lacks this key", of("gemma")},
      {"Qwen2WithoutABias", rename("blk.1.attn_k.bias", "blk.1.x"), "blk.1.attn_k.bias", "tensor is missing",
       of("qwen2")},
      {"Qwen3WithoutAHeadNorm", rename("blk.0.attn_q_norm.weight", "blk.0.x"), "blk.0.attn_q_norm.weight",
       "tensor is missing", of("qwen3")},
      {"Qwen3NormOfAllHeads", [](GgufWriter& w) { w.claim_dims("blk.0.attn_k_norm.weight", {32}); },
       "blk.0.attn_k_norm.weight", "[32], but [64] is needed", of("qwen3")},
      {"Phi3WithOneGateTooFew", set("phi3.feed_forward_length", 544u), "blk.0.ffn_up.weight",
       "[256, 1024], but [256, 1088] is needed", of("phi3")},
      {"Phi3WithFewerFusedRows", set("phi3.attention.head_count_kv", 1u), "blk.0.attn_qkv.weight",
       "[256, 512], but [256, 384] is needed", of("phi3")},
      {"Phi3WithSeparateMatrices", rename("blk.1.attn_qkv.weight", "blk.1.attn_q.weight"),
       "blk.1.attn_qkv.weight", "tensor is missing", of("phi3")},
      {"LongFactorsAlone", longrope(rename("rope_factors_short.weight", "x")), "rope_factors_short.weight",
       "needs long and short factors", of("phi3")},
      {"ShortFactorsAlone", longrope(rename("rope_factors_long.weight", "x")), "rope_factors_long.weight",
       "needs long and short factors", of("phi3")},
      {"LongFactorsOfAnotherLength", [=](GgufWriter& w) { extra("rope_factors_long.weight", {16})(w); },
       "rope_factors_long.weight", "[16], but [32] is needed", of("phi3")},
      {"LongRopeWithoutItsFirstContext", longrope(drop("phi3.rope.scaling.original_context_length")),
       "phi3.rope.scaling.original_context_length", "lacks this key", of("phi3")},
      {"LongRopeWithoutItsMagnitude", longrope(drop("phi3.rope.scaling.attn_factor")),
       "phi3.rope.scaling.attn_factor", "is missing", of("phi3")},
      {"LongRopeBesideAnotherScaling", longrope([](GgufWriter& w) {
         w.add("phi3.rope.scaling.type", "linear").add("phi3.rope.scaling.factor", 4.0f);
       }),
       "phi3.rope.scaling.type", "beside LongRoPE's factors", of("phi3")},
      {"Gemma2WithoutAPostNorm", rename("blk.1.post_ffw_norm.weight", "blk.1.x"),
       "blk.1.post_ffw_norm.weight", "tensor is missing", of("gemma2")},
      {"Gemma2WithoutItsWindow", drop("gemma2.attention.sliding_window"), "gemma2.attention.sliding_window",
       "lacks this key", of("gemma2")},
      {"Gemma3WithoutItsGlobalBase", drop("gemma3.rope.freq_base"), "gemma3.rope.freq_base", "is missing",
       of("gemma3")},
      {"GraniteWithExperts", set("granite.expert_count", 8u), "granite.expert_count", "not supported",
       of("granite")},
      {"Gpt2PositionsOfAnotherNumber", set("gpt2.context_length", 512u), "position_embd.weight",
       "[256, 1024], but [256, 512] is needed", of("gpt2")},
      {"Gpt2WithoutPositions", rename("position_embd.weight", "x"), "position_embd.weight",
       "tensor is missing", of("gpt2")},
      {"Gpt2WithAnRmsEpsilonAlone",
       [](GgufWriter& w) {
         w.remove("gpt2.attention.layer_norm_epsilon").add("gpt2.attention.layer_norm_rms_epsilon", 1e-5f);
       },
       "gpt2.attention.layer_norm_epsilon", "lacks", of("gpt2")},
  };
  // Which layers have the window, no file of these families says.
  for (const std::string family : {"qwen2", "qwen3", "granite", "smollm3"}) {
    const std::string key = family + ".attention.sliding_window";
    cases.push_back(
        {family + "WithAShortWindow", set(key, 512u), key, "shorter than the context", of(family.c_str())});
  }
  cases.push_back({"qwen3moeWithAShortWindow",
                   set("qwen3moe.attention.sliding_window", 512u),
                   "qwen3moe.attention.sliding_window",
                   "shorter than the context",
                   {.family = "qwen3moe", .n_experts = 4}});
  for (const std::string key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    cases.push_back(
        {"Gemma2Without_" + key, drop("gemma2." + key), "gemma2." + key, "is missing", of("gemma2")});
  }
  for (const std::string key : {"embedding_scale", "residual_scale", "logit_scale"}) {
    cases.push_back(
        {"GraniteWithout_" + key, drop("granite." + key), "granite." + key, "is missing", of("granite")});
  }
  cases.push_back({"GraniteWithoutItsAttentionScale", drop("granite.attention.scale"),
                   "granite.attention.scale", "is missing", of("granite")});
  for (const std::string name : {"attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down"}) {
    cases.push_back({"Gpt2WithoutTheBiasOf_" + name, rename("blk.1." + name + ".bias", "blk.1.x"),
                     "blk.1." + name + ".bias", "tensor is missing", of("gpt2")});
  }
  for (const std::string name : {"attn_norm.bias", "attn_q.bias", "ffn_up.bias", "ffn_down.bias"}) {
    std::string test_name = "StarCoder2Without_" + name;
    std::replace(test_name.begin(), test_name.end(), '.', '_');
    cases.push_back({test_name, rename("blk.0." + name, "blk.0.x"), "blk.0." + name, "tensor is missing",
                     of("starcoder2")});
  }
  return cases;
}

const auto kName = [](const auto& test) { return test.param.name; };
INSTANTIATE_TEST_SUITE_P(Hyperparameters, Refusal, testing::ValuesIn(hyperparameters()), kName);
INSTANTIATE_TEST_SUITE_P(Families, Refusal, testing::ValuesIn(families()), kName);
INSTANTIATE_TEST_SUITE_P(Tensors, Refusal, testing::ValuesIn(tensors()), kName);

}  // namespace
}  // namespace orcd::model
