#include "model/program.h"

#include <gtest/gtest.h>

#include "support/synthetic_model.h"

namespace orcd::model {
namespace {

using test::LoadedModel;

template <typename T>
std::vector<T> ops_of(const Program& program) {
  std::vector<T> out;
  for (const Op& op : program.ops) {
    if (const T* found = std::get_if<T>(&op)) out.push_back(*found);
  }
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

TEST(Lower, GivesFiveOpsALayerBetweenEmbeddingAndHead) {
  const LoadedModel m({.n_layers = 3});
  ASSERT_EQ(m.program->ops.size(), 17u);
  EXPECT_TRUE(std::holds_alternative<EmbedOp>(m.program->ops.front()));
  EXPECT_TRUE(std::holds_alternative<HeadOp>(m.program->ops.back()));
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const Op* op = &m.program->ops[1 + 5 * layer];
    EXPECT_EQ(std::get<QkvOp>(op[0]).layer, layer);
    EXPECT_EQ(std::get<AttentionOp>(op[1]).layer, layer);
    EXPECT_FALSE(std::get<ProjectOp>(op[2]).from_ffn);
    EXPECT_EQ(std::get<GateUpOp>(op[3]).layer, layer);
    EXPECT_TRUE(std::get<ProjectOp>(op[4]).from_ffn);
  }
}

TEST(Lower, HoldsEachWeightOnceAndTheTiedHeadIsTheEmbedding) {
  const LoadedModel m({});
  const auto embed = ops_of<EmbedOp>(*m.program).at(0);
  const auto head = ops_of<HeadOp>(*m.program).at(0);
  EXPECT_EQ(head.w, embed.table);
  EXPECT_TRUE(m.program->weights[embed.table].embedding);
  EXPECT_EQ(m.program->weights.size(), m.program->spec.file->tensors().size());
  for (const Weight& weight : m.program->weights) EXPECT_EQ(weight.name, weight.tensor->name);
}

TEST(Lower, AnOwnHeadIsAnotherWeight) {
  const LoadedModel m({.tied = false});
  const auto head = ops_of<HeadOp>(*m.program).at(0);
  EXPECT_EQ(m.program->weights[head.w].name, "output.weight");
  EXPECT_FALSE(m.program->weights[head.w].embedding);
}

TEST(Lower, CarriesShapesScalesAndAbsences) {
  const LoadedModel m({.family = "gemma3", .window = 100});
  const auto qkv = ops_of<QkvOp>(*m.program).at(1);
  EXPECT_EQ(qkv.n_heads, 4u);
  EXPECT_EQ(qkv.scale, 0.125f);
  EXPECT_EQ(qkv.qk_norm_eps, 1e-5f);
  EXPECT_EQ(qkv.q_bias, kNoWeight);
  EXPECT_EQ(m.program->weights[qkv.q_norm].name, "blk.1.attn_q_norm.weight");
  EXPECT_EQ(m.program->weights[qkv.q_norm].role, WeightRole::kVector);
  EXPECT_EQ(m.program->weights[qkv.q_norm].rows, 1u);
  EXPECT_EQ(m.program->weights[qkv.q_norm].cols, 64u);
  const Weight& k = m.program->weights[qkv.k];
  EXPECT_EQ(k.rows, 128u);
  EXPECT_EQ(k.cols, 256u);
  EXPECT_EQ(ops_of<AttentionOp>(*m.program).at(0).window, 100u);
  EXPECT_NE(ops_of<ProjectOp>(*m.program).at(0).post_norm.weight, kNoWeight);
  EXPECT_EQ(ops_of<EmbedOp>(*m.program).at(0).scale, 16.0f);
  EXPECT_EQ(m.program->max_q_dim, 256u);
  EXPECT_EQ(m.program->max_kv_dim, 128u);
  EXPECT_EQ(m.program->max_ffn_dim, 512u);
}

TEST(Lower, ExpertsTakeTheTwoOpsOfTheFeedForwardNetwork) {
  const LoadedModel m(
      {.family = "gpt-oss", .ffn_dim = 96, .window = 128, .n_experts = 8, .n_experts_used = 4});
  const Program& program = *m.program;
  ASSERT_EQ(program.ops.size(), 12u);
  const auto gate_up = std::get<MoeGateUpOp>(program.ops[9]);
  EXPECT_EQ(gate_up.layer, 1u);
  EXPECT_EQ(gate_up.n_experts, 8u);
  EXPECT_EQ(gate_up.n_used, 4u);
  EXPECT_EQ(gate_up.activation, Activation::kClampedSwiglu);
  const Weight& up = program.weights[gate_up.up];
  EXPECT_EQ(up.name, "blk.1.ffn_up_exps.weight");
  EXPECT_EQ(up.rows, 96u);
  EXPECT_EQ(up.cols, 256u);
  EXPECT_EQ(up.n_experts, 8u);
  const Weight& bias = program.weights[gate_up.gate_bias];
  EXPECT_EQ(bias.rows, 1u);
  EXPECT_EQ(bias.cols, 96u);
  EXPECT_EQ(bias.n_experts, 8u);
  const Weight& router = program.weights[gate_up.router];
  EXPECT_EQ(router.rows, 8u);
  EXPECT_EQ(router.n_experts, 1u);
  const auto down = std::get<MoeDownOp>(program.ops[10]);
  EXPECT_EQ(program.weights[down.w].name, "blk.1.ffn_down_exps.weight");
  EXPECT_EQ(program.weights[down.bias].cols, 256u);
  const auto attention = std::get<AttentionOp>(program.ops[7]);
  EXPECT_EQ(program.weights[attention.sinks].name, "blk.1.attn_sinks.weight");
  EXPECT_EQ(attention.window, 0u);
  EXPECT_EQ(program.max_ffn_dim, 4 * 96u);
  EXPECT_EQ(program.max_experts, 8u);
  EXPECT_EQ(program.max_experts_used, 4u);
}

TEST(Lower, SlicesOfOneTensorAreWeightsOfTheirOwn) {
  const test::Bytes bytes = test::synthetic_gguf({.n_layers = 1});
  ModelSpec spec = read_spec(gguf::File::parse(bytes));
  LayerSpec& layer = spec.layers[0];
  layer.k = {layer.q.tensor, 0, 128};
  layer.v = {layer.q.tensor, 128, 128};
  const Program program = lower(std::move(spec));
  const auto qkv = ops_of<QkvOp>(program).at(0);
  EXPECT_EQ(program.weights[qkv.k].name, "blk.0.attn_q.weight[0:128]");
  EXPECT_EQ(program.weights[qkv.v].name, "blk.0.attn_q.weight[128:256]");
  EXPECT_EQ(program.weights[qkv.v].row_begin, 128u);
  EXPECT_EQ(program.weights[qkv.q].name, "blk.0.attn_q.weight");
}

TEST(Program, ATokenReadsEveryWeightButOneRowOfAnUntiedEmbedding) {
  // Q4_1 is 20 bytes for 32 elements; F32 vectors: 2 norms a layer and the last.
  const uint64_t layer = (256 * 256 * 2 + 128 * 256 * 2 + 512 * 256 * 3) / 32 * 20 + 2 * 256 * 4;
  const uint64_t table = 300 * 256 / 32 * 20;
  EXPECT_EQ(weight_bytes_per_token(*LoadedModel({}).program), 2 * layer + table + 256 * 4);
  EXPECT_EQ(weight_bytes_per_token(*LoadedModel({.tied = false}).program),
            2 * layer + table + 256 * 4 + 256 / 32 * 20);
}

TEST(Program, ATokenReadsTheExpertsThatItUses) {
  const LoadedModel m(
      {.family = "gpt-oss", .ffn_dim = 96, .window = 128, .n_experts = 8, .n_experts_used = 3});
  const uint64_t attention = (256 * 256 * 2 + 128 * 256 * 2) / 32 * 20 + (256 + 128 * 2 + 256) * 4 + 4 * 4;
  const uint64_t router = 8 * 256 * 4 + 8 * 4;
  const uint64_t expert = 96 * 256 * 3 / 32 * 20 + (96 + 96 + 256) * 4;
  const uint64_t table = 300 * 256 / 32 * 20;
  EXPECT_EQ(weight_bytes_per_token(*m.program),
            2 * (attention + router + 3 * expert + 2 * 256 * 4) + table + 256 * 4);
}

TEST(Program, TextShowsExpertsAndSinks) {
  const LoadedModel m(
      {.family = "gpt-oss", .ffn_dim = 96, .window = 128, .n_experts = 8, .n_experts_used = 3});
  const std::vector<std::string> lines = lines_of(to_text(*m.program));
  EXPECT_NE(lines[1].find("YaRN x 4 from 256 positions, bounds not rounded"), std::string::npos) << lines[1];
  const std::vector<std::pair<size_t, std::vector<std::string>>> expected = {
      {6, {"attention", "window 128", "attn_sinks F32 4"}},
      {8,
       {"moe_gate_up", "x[n, 256] -> h[n, 3x96]", "rms 1e-05, 3 of 8 experts, clamped_swiglu",
        "ffn_gate_inp F32 8x256 /2", "ffn_up_exps Q4_1 8x96x256 /2", "ffn_up_exps.bias F32 8x96"}},
      {9,
       {"moe_down", "h[n, 3x96] -> x[n, 256]", "3 of 8 experts, residual", "ffn_down_exps Q4_1 8x256x96 /1"}},
  };
  for (const auto& [line, parts] : expected) {
    for (const std::string& part : parts)
      EXPECT_NE(lines[line].find(part), std::string::npos) << part << " in " << lines[line];
  }
}

TEST(Program, TextHasOneAlignedLineForEachOp) {
  const LoadedModel m({.window = 200, .biases = true});
  const std::vector<std::string> lines = lines_of(to_text(*m.program));
  ASSERT_EQ(lines.size(), 4 + m.program->ops.size());
  EXPECT_EQ(lines[0], "synthetic llama: llama, 2 layers, dim 256, vocabulary 300, context 1024");
  EXPECT_EQ(lines[1], "rope 0: 64 dimensions, interleaved, base 10000");
  const std::vector<std::pair<size_t, std::vector<std::string>>> expected = {
      {4, {"embed", "tokens[n] -> x[n, 256]", "token_embd Q4_1 300x256 /2"}},
      {5,
       {"qkv", "q[n, 4x64]", "k, v[n, 2x64]", "rms 1e-05, rope 0, scale 0.125", "attn_k Q4_1 128x256 /2",
        "attn_q.bias F32 256"}},
      {6, {"attention", "window 200"}},
      {7, {"output", "a[n, 256] -> x[n, 256]", "residual"}},
      {8, {"gate_up", "h[n, 512]", "silu", "ffn_gate Q4_1 512x256 /2"}},
      {9, {"down", "h[n, 512] -> x[n, 256]", "ffn_down Q4_1 256x512 /4"}},
      {15, {"head", "logits[n, 300]", "tied"}},
  };
  for (const auto& [line, parts] : expected) {
    for (const std::string& part : parts)
      EXPECT_NE(lines[line].find(part), std::string::npos) << part << " in " << lines[line];
  }
  const size_t column = lines[3].find("weights");
  for (size_t i = 4; i < lines.size(); ++i) {
    if (lines[i].size() > column) {
      EXPECT_EQ(lines[i][column - 1], ' ') << lines[i];
      EXPECT_NE(lines[i][column], ' ') << lines[i];
    }
  }
}

}  // namespace
}  // namespace orcd::model
