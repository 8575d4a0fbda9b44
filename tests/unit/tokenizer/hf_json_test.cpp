#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {
namespace {

constexpr std::string_view kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";

struct Parts {
  std::string normalizer = "null", pre = std::string(kByteLevel), post = "null", model_extra, added_extra;
  std::string merges = R"([["a", "b"], "ab c"])";

  std::string json() const {
    return R"({"added_tokens": [{"id": 6, "content": "<end>", "special": true)" + added_extra +
           R"(}, {"id": 7, "content": "<think>", "special": false, "normalized": false}], "normalizer": )" +
           normalizer + R"(, "pre_tokenizer": )" + pre + R"(, "post_processor": )" + post +
           R"(, "model": {"type": "BPE")" + model_extra +
           R"(, "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5}, "merges": )" + merges + "}}";
  }
};

std::vector<int32_t> encode(const Parts& parts, std::string_view text, bool special = true) {
  return Tokenizer::from_hf_json(parts.json())->encode(text, {.add_bos = true, .parse_special = special});
}

std::string refusal(const Parts& parts) {
  try {
    Tokenizer::from_hf_json(parts.json());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
  return "accepted";
}

using testing::ElementsAre;
using testing::HasSubstr;

TEST(HfJson, MergesAddedTokensAndKind) {
  EXPECT_THAT(encode({}, "abc ab"), ElementsAre(4, 5, 3));
  EXPECT_THAT(encode({}, "a<end><think>b"), ElementsAre(0, 6, 7, 1));
  // Without special tokens a control token is text, whose other letters this vocabulary lacks; <think> is
  // always one.
  EXPECT_THAT(encode({}, "<end>a<think>", false), ElementsAre(0, 7));
  const auto tokenizer = Tokenizer::from_hf_json(Parts{}.json());
  EXPECT_EQ(tokenizer->kind(), "hf-json");
  EXPECT_EQ(tokenizer->pre(), "gpt-2");
  EXPECT_EQ(tokenizer->vocab_size(), 8);
  EXPECT_TRUE(tokenizer->is_control(6));
  EXPECT_FALSE(tokenizer->is_control(7));
}

TEST(HfJson, IgnoreMergesTakesWholeWords) {
  Parts parts;
  parts.merges = "[]";
  EXPECT_THAT(encode(parts, "abc"), ElementsAre(0, 1, 2));
  parts.model_extra = R"(, "ignore_merges": true)";
  EXPECT_THAT(encode(parts, "abc"), ElementsAre(4));
}

TEST(HfJson, SplitsBeforeTheBytes) {
  Parts parts;
  parts.pre =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"String": "b"}, "behavior":
    "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  EXPECT_THAT(encode(parts, "abc"), ElementsAre(0, 1, 2));
}

TEST(HfJson, TheFirstTokenOfTheTemplateIsBos) {
  Parts parts;
  parts.post = R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<end>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}]})";
  EXPECT_THAT(encode(parts, "a"), ElementsAre(6, 0));
}

TEST(HfJson, WhatIsNotSupportedIsRefusedByName) {
  EXPECT_THAT(refusal({.normalizer = R"({"type": "Lowercase"})"}), HasSubstr("normalizer Lowercase"));
  EXPECT_THAT(refusal({.pre = R"({"type": "Metaspace"})"}), HasSubstr("pre-tokenizer Metaspace"));
  EXPECT_THAT(refusal({.pre = R"({"type": "Digits"})"}), HasSubstr("ByteLevel must come last"));
  EXPECT_THAT(refusal({.model_extra = R"(, "byte_fallback": true)"}), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(refusal({.added_extra = R"(, "lstrip": true)"}), HasSubstr("added_tokens[0].lstrip"));
  EXPECT_THAT(refusal({.merges = R"([["a", "x"]])"}), HasSubstr("model.merges[0]"));
  EXPECT_THAT(refusal({.merges = R"(["ab"])"}), HasSubstr("two tokens"));
  EXPECT_THROW(Tokenizer::from_hf_json("{\"model\": "), Error);
  EXPECT_THROW(Tokenizer::from_hf_json("{}"), Error);
}

TEST(HfJson, TheModelsOwnVocabularyMustSpellTheSame) {
  const auto own = Tokenizer::from_hf_json(Parts{}.json());
  EXPECT_EQ(Tokenizer::from_hf_json(Parts{}.json(), own.get())->vocab_size(), 8);
  std::string other = Parts{}.json();
  other.replace(other.find("\"c\": 2"), 6, "\"d\": 2");
  other.replace(other.find("\"ab c\""), 6, "\"a b\"");
  try {
    Tokenizer::from_hf_json(other, own.get());
    FAIL() << "two spellings were accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.line(), HasSubstr("id=2"));
  }
}

}  // namespace
}  // namespace orcd::tokenizer
