#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "gguf/file.h"
#include "gguf/validate.h"
#include "support/gguf_writer.h"

namespace orcd::gguf {
namespace {

using test::Bytes;
using test::GgufWriter;
using test::put;
using test::put_string;
using test::small_model;

constexpr uint32_t kArrayType = 9;
constexpr uint32_t kStringType = 8;
const std::string kTok = "tokenizer.ggml.";

// One way to spoil small_model(): what is changed, and where the refusal must point (a mark of the writer,
// plus bytes).
struct Case {
  std::string name;
  std::function<void(GgufWriter&)> spoil;
  std::string field;
  std::string mark;  // "" : offset is `plus` alone
  uint64_t plus = 0;
};

template <typename T>
Case value(const std::string& name, const std::string& key, T bad, uint64_t plus = 0,
           std::string field = {}) {
  return {name, [=](GgufWriter& w) { w.add(key, bad); }, field.empty() ? key : field, key, plus};
}

Case array_claim(const std::string& name, uint32_t element_type, uint64_t count) {
  return {name,
          [=](GgufWriter& w) {
            Bytes raw;
            put(raw, element_type);
            put(raw, count);
            w.add_raw("x.array", kArrayType, raw);
          },
          "x.array", "x.array", 12};
}

Case header(const std::string& name, std::function<void(GgufWriter&)> spoil, std::string field,
            uint64_t offset) {
  return {name, std::move(spoil), std::move(field), "", offset};
}

Case tensor(const std::string& name, std::function<void(GgufWriter&)> spoil, std::string suffix,
            std::string mark, uint64_t plus = 0) {
  return {name, std::move(spoil), "output_norm.weight" + suffix, "output_norm.weight" + mark, plus};
}

std::vector<Case> header_cases() {
  return {
      header(
          "MagicZero", [](auto& w) { w.magic(0); }, "magic", 0),
      header(
          "MagicGgml", [](auto& w) { w.magic(0x67676d6c); }, "magic", 0),
      header(
          "MagicByteSwapped", [](auto& w) { w.magic(0x47475546); }, "magic", 0),
      header(
          "MagicGgmf", [](auto& w) { w.magic(0x67676d66); }, "magic", 0),
      header(
          "MagicGgjt", [](auto& w) { w.magic(0x67676a74); }, "magic", 0),
      header(
          "MagicLfsPointer", [](auto& w) { w.magic(0x73726576); }, "magic", 0),
      header(
          "MagicWebPage", [](auto& w) { w.magic(0x4f44213c); }, "magic", 0),
      header(
          "MagicWebPageInSmallLetters", [](auto& w) { w.magic(0x6f64213c); }, "magic", 0),
      header(
          "MagicHtml", [](auto& w) { w.magic(0x6d74683c); }, "magic", 0),
      header(
          "MagicXz", [](auto& w) { w.magic(0x587a37fd); }, "magic", 0),
      header(
          "VersionOfNoEndianness", [](auto& w) { w.version(0x10001); }, "version", 4),
      header(
          "MagicZip", [](auto& w) { w.magic(0x04034b50); }, "magic", 0),
      header(
          "VersionZero", [](auto& w) { w.version(0); }, "version", 4),
      header(
          "VersionOne", [](auto& w) { w.version(1); }, "version", 4),
      header(
          "VersionFour", [](auto& w) { w.version(4); }, "version", 4),
      header(
          "VersionHuge", [](auto& w) { w.version(0xFFFFFFFF); }, "version", 4),
      header(
          "BigEndian", [](auto& w) { w.version(0x03000000); }, "version", 4),
      header(
          "TensorsClaimed2To60", [](auto& w) { w.claim_tensors(1ull << 60); }, "tensor_count", 8),
      header(
          "TensorsClaimedMinusOne", [](auto& w) { w.claim_tensors(~uint64_t{1}); }, "tensor_count", 8),
      header(
          "EntriesClaimed2To60", [](auto& w) { w.claim_entries(1ull << 60); }, "metadata_kv_count", 16),
      header(
          "EntriesClaimedMinusOne", [](auto& w) { w.claim_entries(~uint64_t{1}); }, "metadata_kv_count", 16),
  };
}

std::vector<Case> metadata_cases() {
  const auto raw_value = [](std::string name, uint32_t type, Bytes raw, std::string field, std::string mark,
                            uint64_t plus) {
    return Case{std::move(name), [=](GgufWriter& w) { w.add_raw("x.k", type, raw); }, std::move(field),
                std::move(mark), plus};
  };
  const Bytes huge_length = [] {
    Bytes raw;
    put(raw, uint64_t{1} << 60);
    return raw;
  }();
  const Bytes nested = [] {
    Bytes raw;
    for (int i = 0; i < 9; ++i) {
      put(raw, kArrayType);
      put(raw, uint64_t{1});
    }
    return raw;
  }();
  std::vector<Case> cases = {
      {"KeyTwice", [](auto& w) { w.append_raw("general.name", 7, {1}); }, "general.name",
       "tokenizer.chat_template", 8 + 14},
      {"KeyEmpty", [](auto& w) { w.append_raw("", 7, {1}); }, "metadata[21].key", " key"},
      {"KeyTooLong", [](auto& w) { w.append_raw(std::string(65536, 'k'), 7, {1}); }, "metadata[21].key",
       std::string(65536, 'k') + " key"},
      {"KeyNotUtf8", [](auto& w) { w.append_raw("a\xFF", 7, {1}); }, "metadata[21].key", "a\xFF key", 9},
      {"KeySurrogate", [](auto& w) { w.append_raw("\xED\xA0\x80", 7, {1}); }, "metadata[21].key",
       "\xED\xA0\x80 key", 8},
      raw_value("Type13", 13, {0}, "x.k.type", "x.k type", 0),
      raw_value("TypeHuge", 0xFFFFFFFF, {0}, "x.k.type", "x.k type", 0),
      raw_value("BoolTwo", 7, {2}, "x.k", "x.k", 0),
      raw_value("StringNotUtf8", kStringType, {3, 0, 0, 0, 0, 0, 0, 0, 'a', 0xC0, 0x80}, "x.k", "x.k", 9),
      raw_value("StringCutSequence", kStringType, {2, 0, 0, 0, 0, 0, 0, 0, 0xE2, 0x82}, "x.k", "x.k", 8),
      raw_value("StringClaims2To60", kStringType, huge_length, "x.k", "x.k", 0),
      raw_value("ArrayOfType13", kArrayType, {13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, "x.k.type", "x.k", 0),
      raw_value("ArrayOfBoolTwo", kArrayType, {7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2}, "x.k[1]", "x.k",
                13),
      raw_value("ArraysTooDeep", kArrayType, nested, "x.k[0]", "x.k", 12 * 8),
      array_claim("StringsClaimed2To60", kStringType, 1ull << 60),
      array_claim("ArraysClaimed2To60", kArrayType, 1ull << 60),
      array_claim("BytesClaimed2To60", 0, 1ull << 60),
      array_claim("DoublesClaimed2To61SoBytesOverflow", 12, 1ull << 61),
      array_claim("StringsClaimedMax", kStringType, ~uint64_t{0}),
  };
  for (const uint32_t bad : {0u, 1u, 4u, 24u, 33u, 0xFFFFFFFFu}) {
    cases.push_back(value("Alignment" + std::to_string(bad), "general.alignment", bad));
  }
  cases.push_back(value("AlignmentString", "general.alignment", "32"));
  cases.push_back(value("AlignmentNegative", "general.alignment", int32_t{-32}));
  return cases;
}

std::vector<Case> tensor_cases() {
  const std::string t = "output_norm.weight";
  const auto dims = [=](std::vector<uint64_t> d) { return [=](GgufWriter& w) { w.claim_dims(t, d); }; };
  const auto rename = [=](std::string name) { return [=](GgufWriter& w) { w.rename(t, name); }; };
  return {
      tensor("DimsNone", dims({}), ".n_dims", " n_dims"),
      tensor("DimsFive", dims({32, 1, 1, 1, 1}), ".n_dims", " n_dims"),
      tensor(
          "DimsClaimedMax", [=](auto& w) { w.claim_n_dims(t, 0xFFFFFFFF); }, ".n_dims", " n_dims"),
      tensor("DimZero", dims({0}), ".dims", " dims"),
      tensor("SecondDimZero", dims({32, 0}), ".dims", " dims", 8),
      tensor("FourthDimZero", dims({32, 1, 1, 0}), ".dims", " dims", 24),
      tensor("DimsProductOverflows", dims({1ull << 32, 1ull << 32}), ".dims", " dims", 8),
      tensor("DimsProductOverflowsToSmall", dims({(1ull << 33), (1ull << 31) + 1}), ".dims", " dims", 8),
      tensor("DimNegative", dims({~uint64_t{0}}), ".dims", " dims"),
      tensor("BytesOverflow", dims({(1ull << 62), 1}), ".dims", " dims"),
      tensor("LargerThanFile", dims({1ull << 40}), ".offset", " offset"),
      tensor("OneRowTooMany", dims({32, 2}), ".offset", " offset"),
      tensor(
          "TypeUnknown", [=](auto& w) { w.claim_type(t, 4); }, ".type", " type"),
      tensor(
          "TypeHuge", [=](auto& w) { w.claim_type(t, 0xFFFFFFFF); }, ".type", " type"),
      tensor(
          "RowNotWholeBlocks",
          [=](auto& w) {
            w.claim_type(t, 2);
            w.claim_dims(t, {33});
          },
          ".dims", " dims"),
      tensor(
          "RowNotWholeSuperBlocks", [=](auto& w) { w.claim_type(t, 12); }, ".dims", " dims"),
      tensor(
          "OffsetUnaligned", [=](auto& w) { w.claim_offset(t, 16); }, ".offset", " offset"),
      tensor(
          "OffsetOutside", [=](auto& w) { w.claim_offset(t, 1 << 20); }, ".offset", " offset"),
      tensor(
          "OffsetOverflows", [=](auto& w) { w.claim_offset(t, ~uint64_t{31}); }, ".offset", " offset"),
      tensor(
          "OverlapsFirst", [=](auto& w) { w.claim_offset(t, 64); }, ".offset", " offset"),
      tensor(
          "SamePlaceAsAnother", [=](auto& w) { w.claim_offset(t, 224); }, ".offset", " offset"),
      {"TensorNameTwice", rename("blk.0.attn_norm.weight"), "blk.0.attn_norm.weight",
       "blk.0.attn_norm.weight"},
      {"TensorNameEmpty", rename(""), "tensor[3].name", "blk.1.attn_norm.weight offset", 8},
      {"TensorNameTooLong", rename(std::string(65, 'n')), "tensor[3].name", std::string(65, 'n')},
      {"TensorNameNotUtf8", rename("n\x80"), "tensor[3].name", "n\x80", 9},
  };
}

std::vector<Case> hyperparameter_cases() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::string eps = "llama.attention.layer_norm_rms_epsilon";
  std::vector<Case> cases = {
      {"ArchitectureAbsent", [](auto& w) { w.remove("general.architecture"); }, "general.architecture", "",
       24},
      value("ArchitectureEmpty", "general.architecture", ""),
      value("ArchitectureNumber", "general.architecture", uint32_t{1}),
      value("NameNumber", "general.name", uint32_t{1}),
      value("EpsilonNan", eps, nan),
      value("EpsilonInfinite", eps, inf),
      value("EpsilonNegative", eps, -1e-5f),
      value("EpsilonOne", eps, 1.0f),
      value("EpsilonInteger", eps, uint32_t{0}),
      value("EpsilonNanDouble", eps, double{nan}),
      value("RopeBaseZero", "llama.rope.freq_base", 0.0f),
      value("RopeBaseNegative", "llama.rope.freq_base", -1.0f),
      value("RopeBaseNan", "llama.rope.freq_base", nan),
      value("RopeBaseInteger", "llama.rope.freq_base", uint32_t{10000}),
      value("RopeFactorNegative", "llama.rope.scaling.factor", -2.0f),
      value("AnyFloatInfinite", "llama.logit_scale", -inf),
      value("FloatArrayNan", "llama.factors", std::vector<float>{1, nan}, 16, "llama.factors[1]"),
      value("RopeDimensionsOdd", "llama.rope.dimension_count", uint32_t{7}),
      value("HeadsNotDividingWidth", "llama.attention.head_count", uint32_t{6}),
      value("KvHeadsNotDividingHeads", "llama.attention.head_count_kv", uint32_t{3}),
      value("KvHeadsMoreThanHeads", "llama.attention.head_count_kv", uint32_t{8}),
      value("HeadArrayTooShort", "llama.attention.head_count", std::vector<int32_t>{4}),
      value("HeadArrayAllZero", "llama.attention.head_count", std::vector<int32_t>{0, 0}),
      value("HeadArrayNegative", "llama.attention.head_count", std::vector<int32_t>{4, -4}, 16,
            "llama.attention.head_count[1]"),
      value("HeadArrayOfFloats", "llama.attention.head_count", std::vector<float>{4, 4}),
      {"KvHeadArrayNotDividing",
       [](auto& w) {
         w.add("llama.attention.head_count_kv", std::vector<uint32_t>{2, 3});
       },
       "llama.attention.head_count_kv[1]", "llama.attention.head_count_kv"},
      {"ExpertsUsedMoreThanThere",
       [](auto& w) { w.add("llama.expert_count", uint32_t{4}).add("llama.expert_used_count", uint32_t{5}); },
       "llama.expert_used_count", "llama.expert_used_count"},
      {"ExpertsUsedNone",
       [](auto& w) { w.add("llama.expert_count", uint32_t{4}).add("llama.expert_used_count", uint32_t{0}); },
       "llama.expert_used_count", "llama.expert_used_count"},
      value("LayerMissing", "llama.block_count", uint32_t{3}),
      {"LayerBeyondCount", [](auto& w) { w.add("llama.block_count", uint32_t{1}); }, "blk.1.attn_norm.weight",
       "blk.1.attn_norm.weight"},
      {"LayerCountAbsent", [](auto& w) { w.remove("llama.block_count"); }, "llama.block_count", "", 24},
      {"LayerNumberHuge", [](auto& w) { w.rename("output_norm.weight", "blk.99999999999999999999999.x"); },
       "blk.99999999999999999999999.x", "blk.99999999999999999999999.x"},
  };
  for (const char* key : {"block_count", "context_length", "embedding_length", "feed_forward_length",
                          "attention.head_count", "attention.head_count_kv", "attention.key_length"}) {
    cases.push_back(value(std::string("Zero_") + key, std::string("llama.") + key, uint32_t{0}));
    cases.push_back(value(std::string("Huge_") + key, std::string("llama.") + key, uint32_t{0xFFFFFFFF}));
    cases.push_back(value(std::string("Negative_") + key, std::string("llama.") + key, int32_t{-1}));
    cases.push_back(value(std::string("String_") + key, std::string("llama.") + key, "8"));
  }
  return cases;
}

std::vector<Case> tokenizer_cases() {
  const std::string tokens = kTok + "tokens";
  const std::string merges = kTok + "merges";
  const auto with_merges = [=](std::string name, std::vector<std::string> list, uint64_t plus) {
    return Case{std::move(name), [=](GgufWriter& w) { w.add(kTok + "model", "gpt2").add(merges, list); },
                merges + "[1]", merges, plus};
  };
  const auto byte_token = [=](std::string name, std::string text) {
    return value(std::move(name), tokens, std::vector<std::string>{"<unk>", "<s>", "</s>", text, "a", "b"},
                 12 + 13 + 11 + 12, tokens + "[3]");
  };
  // In this case the first merge, "a b", takes 11 bytes after the array's 12.
  constexpr uint64_t kSecondMerge = 12 + 11;
  std::vector<Case> cases = {
      value("TokensEmpty", tokens, std::vector<std::string>{}),
      value("TokensNumbers", tokens, std::vector<uint32_t>{1, 2, 3, 4, 5, 6}),
      value("TokensString", tokens, "abc"),
      {"TokensFewerThanTypes", [=](auto& w) { w.add(tokens, std::vector<std::string>{"a"}); },
       kTok + "scores", kTok + "scores"},
      {"TokensAbsentButScores", [=](auto& w) { w.remove(tokens); }, kTok + "scores", kTok + "scores"},
      value("TokenNotUtf8", tokens, std::vector<std::string>{"a", "\x80", "", "", "", ""}, 12 + 9 + 8,
            tokens + "[1]"),
      byte_token("ByteTokenNotHex", "<0xZZ>"),
      byte_token("ByteTokenHalfHex", "<0xag>"),
      byte_token("ByteTokenSigned", "<0x-0>"),
      byte_token("ByteTokenTooLong", "<0x411>"),
      byte_token("ByteTokenTooShort", "<0x4>"),
      byte_token("ByteTokenUnclosed", "<0x41}"),
      byte_token("ByteTokenPlain", "A"),
      byte_token("ByteTokenEmpty", ""),
      value("ScoresTooShort", kTok + "scores", std::vector<float>{0, 0}),
      value("ScoresIntegers", kTok + "scores", std::vector<int32_t>{0, 0, 0, 0, 0, 0}),
      value("ScoreNan", kTok + "scores", std::vector<float>{0, 0, 0, NAN, 0, 0}, 24, kTok + "scores[3]"),
      value("TypesTooLong", kTok + "token_type", std::vector<int32_t>(7, 1)),
      value("TypesFloats", kTok + "token_type", std::vector<float>(6, 1)),
      value("TypeSeven", kTok + "token_type", std::vector<int32_t>{2, 3, 3, 6, 1, 7}, 32,
            kTok + "token_type[5]"),
      value("TypeMinusOne", kTok + "token_type", std::vector<int32_t>{-1, 3, 3, 6, 1, 1}, 12,
            kTok + "token_type[0]"),
      with_merges("MergeWithoutBlank", {"a b", "ab"}, kSecondMerge),
      with_merges("MergeEmpty", {"a b", ""}, kSecondMerge),
      with_merges("MergeLeftEmpty", {"a b", " b"}, kSecondMerge),
      with_merges("MergeRightEmpty", {"a b", "a "}, kSecondMerge),
      with_merges("MergeOfThree", {"a b", "a b a"}, kSecondMerge),
      with_merges("MergeOfNoToken", {"a b", "a c"}, kSecondMerge),
      value("MergesNumbers", merges, std::vector<uint32_t>{1}),
      value("IdsOutOfRange", kTok + "eog_token_ids", std::vector<int32_t>{1, 6}, 16,
            kTok + "eog_token_ids[1]"),
      value("AddBosNumber", kTok + "add_bos_token", uint32_t{1}),
      value("ModelNumber", kTok + "model", uint32_t{1}),
      value("FileTypeText", "general.file_type", "x"),
      value("ChatTemplateNumber", "tokenizer.chat_template", uint32_t{1}),
      value("NamedChatTemplateNumber", "tokenizer.chat_template.rag", uint32_t{1}),
      {"EmbeddingRowsTooFew", [](auto& w) { w.claim_dims("token_embd.weight", {32, 5}); },
       "token_embd.weight.dims", "token_embd.weight dims", 8},
      {"EmbeddingOneDimension", [](auto& w) { w.claim_dims("token_embd.weight", {32}); },
       "token_embd.weight.dims", "token_embd.weight dims"},
      {"EmbeddingWidthWrong", [](auto& w) { w.claim_dims("token_embd.weight", {64, 3}); },
       "token_embd.weight.dims", "token_embd.weight dims"},
  };
  for (const char* id : {"bos", "eos", "unknown", "padding", "eot", "eom", "seperator", "mask", "fim_pre"}) {
    const std::string key = kTok + id + "_token_id";
    cases.push_back(value(std::string("IdOutOfRange_") + id, key, uint32_t{6}));
  }
  cases.push_back(value("IdMinusOne", kTok + "padding_token_id", int32_t{-1}));
  cases.push_back(value("IdMax", kTok + "padding_token_id", uint32_t{0xFFFFFFFF}));
  cases.push_back(value("IdFloat", kTok + "bos_token_id", 1.0f));
  return cases;
}

class Malformed : public testing::TestWithParam<Case> {};

TEST_P(Malformed, IsRefusedWithFieldAndOffset) {
  const Case& test_case = GetParam();
  GgufWriter writer = small_model();
  test_case.spoil(writer);
  const Bytes bytes = writer.bytes();
  uint64_t offset = test_case.plus;
  if (!test_case.mark.empty()) offset += writer.at(test_case.mark);
  try {
    const auto file = File::parse(bytes);
    validate(*file);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    ASSERT_GE(error.values().size(), 2u);
    EXPECT_EQ(error.values()[0].first, "field");
    EXPECT_EQ(error_value_text(error.values()[0].second), test_case.field) << error.line();
    EXPECT_EQ(error.values()[1].first, "offset");
    EXPECT_EQ(error_value_text(error.values()[1].second), std::to_string(offset)) << error.line();
  }
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.name;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Header, Malformed, testing::ValuesIn(header_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Metadata, Malformed, testing::ValuesIn(metadata_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Tensors, Malformed, testing::ValuesIn(tensor_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Hyperparameters, Malformed, testing::ValuesIn(hyperparameter_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Tokenizer, Malformed, testing::ValuesIn(tokenizer_cases()), case_name);

}  // namespace
}  // namespace orcd::gguf
