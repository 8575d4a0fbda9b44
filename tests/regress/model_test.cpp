// Sound files, as converters write them, that were once read as another model. All found by comparing the
// converters' keys with those that the adapters asked for.
#include <gtest/gtest.h>

#include "model/spec.h"
#include "support/synthetic_model.h"

namespace orcd::model {
namespace {

using test::GgufWriter;

// A spec with the bytes it refers to.
struct Model {
  explicit Model(const GgufWriter& writer)
      : bytes(writer.bytes()), spec(read_spec(gguf::File::parse(bytes))) {}
  const RopeSpec& rope(size_t layer) const {
    return spec.ropes.at(static_cast<size_t>(spec.layers.at(layer).rope));
  }
  test::Bytes bytes;
  ModelSpec spec;
};

GgufWriter gemma3(uint32_t n_layers) {
  return test::synthetic_writer({.family = "gemma3",
                                 .n_layers = n_layers,
                                 .dim = 64,
                                 .ffn_dim = 32,
                                 .n_heads = 4,
                                 .n_kv_heads = 1,
                                 .head_dim = 32,
                                 .n_vocab = 40,
                                 .window = 128});
}

// Converters write HF's attention_factor, which is the whole factor; it was multiplied with the formula's.
TEST(ModelRegression, AYarnAttentionFactorTakesThePlaceOfTheFormulas) {
  GgufWriter w = test::synthetic_writer({});
  w.add("llama.rope.scaling.type", "yarn").add("llama.rope.scaling.factor", 8.0f);
  w.add("llama.rope.scaling.yarn_attn_factor", 1.25f).add("llama.rope.scaling.yarn_ext_factor", 1.0f);
  EXPECT_EQ(Model(w).rope(0).yarn_attention_factor, 1.25);
  w.add("llama.rope.scaling.yarn_ext_factor", -1.0f);  // not set
  EXPECT_EQ(Model(w).rope(0).yarn_attention_factor, 1.25);
}

// Ollama's converter names the base so; global layers were rotated with the format's default of 10,000.
TEST(ModelRegression, Gemma3sGlobalBaseMayHaveAnotherName) {
  GgufWriter w = gemma3(6);
  w.remove("gemma3.rope.freq_base").add("gemma3.rope.global.freq_base", 1e6f);
  const Model m(w);
  EXPECT_EQ(m.rope(5).base, 1e6);
  EXPECT_EQ(m.rope(0).base, 1e4);
}

// A model of 62 layers was scaled as the 27B one, whatever its file said.
TEST(ModelRegression, Gemma3sOwnScaleWins) {
  GgufWriter w = gemma3(62);
  w.add("gemma3.attention.scale", 0.5f);
  EXPECT_EQ(Model(w).spec.layers[61].attention_scale, 0.5f);
}

// The converter of Granite 4 writes counts for each layer, keys of layers that dense models have not, and
// says with rope.scaling.finetuned whether anything is rotated, which was not asked for.
TEST(ModelRegression, ADenseGranite4IsReadAsItsConverterWritesIt) {
  const auto granite4 = [](bool rotates) {
    GgufWriter w = test::synthetic_writer({.family = "granite"});
    w.add("granite.attention.head_count_kv", std::vector<uint32_t>{2, 2});
    w.add("granite.expert_count", 0u).add("granite.expert_used_count", 0u);
    w.add("granite.ssm.conv_kernel", 4u).add("granite.ssm.state_size", 256u);
    w.add("granite.rope.scaling.finetuned", rotates);
    return w;
  };
  EXPECT_EQ(Model(granite4(true)).spec.layers[1].rope, 0);
  const Model without(granite4(false));
  EXPECT_EQ(without.spec.layers[1].rope, -1);
  EXPECT_TRUE(without.spec.ropes.empty());
}

}  // namespace
}  // namespace orcd::model
