// The parts of a tokenizer.json one by one, against what PyPI's `tokenizers` makes of the same text
// (tools/hf_parts_goldens.py), and the refusals of each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tokenizer/hf_decoder.h"
#include "tokenizer/hf_normalizer.h"
#include "tokenizer/hf_pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer::hf {
namespace {

using testing::HasSubstr;

template <class Function>
std::string refusal(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
  return "accepted";
}

std::string cutter_refusal(const char* json) {
  return refusal([&] { TextCutter cutter(parse(json)); });
}
std::string normalizer_refusal(const char* json) {
  return refusal([&] { Normalizer normalizer(parse(json)); });
}

TEST(HfParts, GiveWhatTheReferenceGives) {
  std::ifstream file(ORCD_SOURCE_DIR "/tests/golden/tokenizer/hf_parts.json");
  const Json cases = Json::parse(file);
  ASSERT_GT(cases.size(), 45u);
  for (const Json& one : cases) {
    SCOPED_TRACE(one.dump());
    const auto text = one["text"].get<std::string>();
    const auto want = one["pieces"].get<std::vector<std::string>>();
    if (one.contains("normalizer")) {
      EXPECT_EQ(Normalizer(one["normalizer"]).apply(text), want[0]);
    } else {
      EXPECT_EQ(TextCutter(one["pre_tokenizer"]).cut(text, true), want);
    }
  }
}

TEST(HfParts, BytesThatAreNoUtf8Stay) {
  EXPECT_EQ(Normalizer(parse(R"({"type": "Lowercase"})")).apply("A\xFF\xC3"), "a\xFF\xC3");
  EXPECT_EQ(Normalizer(parse(R"({"type": "Strip"})")).apply(" \xFF "), "\xFF");
}

TEST(HfParts, ATextBehindAnotherIsNoBeginning) {
  const TextCutter first(parse(R"({"type": "Metaspace", "prepend_scheme": "first"})"));
  EXPECT_EQ(first.cut("a", true), std::vector<std::string>{"▁a"});
  EXPECT_EQ(first.cut("a", false), std::vector<std::string>{"a"});
  EXPECT_TRUE(first.cut("", true).empty());
  const TextCutter old(parse(R"({"type": "Metaspace", "add_prefix_space": false})"));
  EXPECT_EQ(old.cut("a", true), std::vector<std::string>{"a"});
  EXPECT_EQ(TextCutter(parse(R"({"type": "Metaspace"})")).cut("a", false), std::vector<std::string>{"▁a"});
}

TEST(HfParts, ExpressionsAreThoseThatCutAlike) {
  const auto has = [](const char* json) { return TextCutter(parse(json)).expressions().has_value(); };
  EXPECT_TRUE(has(R"({"type": "ByteLevel", "add_prefix_space": false})"));
  EXPECT_FALSE(has(R"({"type": "ByteLevel"})"));
  EXPECT_FALSE(has(R"({"type": "Metaspace"})"));
  EXPECT_FALSE(has(R"({"type": "Whitespace"})"));
  EXPECT_FALSE(has(R"({"type": "Digits"})"));
  EXPECT_FALSE(
      has(R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": true})"));
  const auto two = TextCutter(parse(R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"},
    {"type": "ByteLevel", "add_prefix_space": false}, {"type": "Digits"}]})"))
                       .expressions();
  ASSERT_TRUE(two.has_value());
  EXPECT_EQ(two->patterns.size(), 2u);
  EXPECT_EQ(two->byte_patterns.size(), 1u);
}

TEST(HfParts, RefusalsNameTheField) {
  EXPECT_THAT(cutter_refusal(R"({"type": "Split", "pattern": "a", "behavior": "Isolated"})"),
              HasSubstr("field=pre_tokenizer.pattern"));
  EXPECT_THAT(cutter_refusal(R"({"type": "Split", "pattern": {"Regex": 1}, "behavior": "Isolated"})"),
              HasSubstr("field=pre_tokenizer.pattern"));
  EXPECT_THAT(cutter_refusal(R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})"),
              HasSubstr("field=pre_tokenizer"));
  EXPECT_THAT(
      cutter_refusal(R"({"type": "Split", "pattern": {"String": "a"}, "invert": 1, "behavior": "Removed"})"),
      HasSubstr("field=pre_tokenizer.invert"));
  EXPECT_THAT(cutter_refusal(R"({"type": "Split", "pattern": {"String": "a"}})"),
              HasSubstr("field=pre_tokenizer.behavior"));
  EXPECT_THAT(cutter_refusal(R"({"type": "Metaspace", "prepend_scheme": "often"})"),
              HasSubstr("field=pre_tokenizer.prepend_scheme"));
  EXPECT_THAT(cutter_refusal(R"({"type": "Metaspace", "replacement": ""})"),
              HasSubstr("field=pre_tokenizer.replacement"));
  EXPECT_THAT(cutter_refusal(R"({"type": "CharDelimiterSplit", "delimiter": 1})"),
              HasSubstr("field=pre_tokenizer.delimiter"));
  EXPECT_THAT(cutter_refusal(
                  R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "ByteLevel"}]})"),
              HasSubstr("field=pre_tokenizer.pretokenizers[1]"));
  EXPECT_THAT(cutter_refusal(R"({"type": "Sequence"})"), HasSubstr("field=pre_tokenizer.pretokenizers"));
  EXPECT_THAT(cutter_refusal(R"({"type": 1})"), HasSubstr("field=pre_tokenizer"));
  EXPECT_THAT(cutter_refusal("[]"), HasSubstr("field=pre_tokenizer"));
  EXPECT_THAT(normalizer_refusal(R"({"type": "Strip", "strip_left": "yes"})"),
              HasSubstr("field=normalizer.strip_left"));
  EXPECT_THAT(normalizer_refusal(R"({"type": "Prepend"})"), HasSubstr("field=normalizer.prepend"));
  EXPECT_THAT(normalizer_refusal(R"({"type": "Replace", "pattern": {"String": "a"}})"),
              HasSubstr("field=normalizer.content"));
}

TEST(HfParts, NfcAloneIsKnown) {
  EXPECT_TRUE(Normalizer(parse(R"({"type": "NFC"})")).is_nfc());
  EXPECT_FALSE(Normalizer(parse(R"({"type": "NFD"})")).is_nfc());
  EXPECT_FALSE(Normalizer(parse(R"({"type": "Lowercase"})")).is_nfc());
  EXPECT_FALSE(Normalizer(parse(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFC"}]})"))
                   .is_nfc());
}

// A vocabulary of characters with this decoder; nothing else of the document matters.
std::string with_decoder(const std::string& decoder) {
  return R"({"added_tokens": [{"id": 0, "content": "<unk>", "special": true}], "decoder": )" + decoder +
         R"(, "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": {"<unk>": 0, "▁": 1,
    "a": 2, "<0x41>": 3, "<0xZZ>": 4, "<0x4>": 5, "<0x4G>": 6, "▁▁a": 7}, "merges": []}})";
}

TEST(HfParts, DecodersGiveTheTextOfEachToken) {
  const auto pieces = [](const std::string& decoder) {
    const auto tokenizer = Tokenizer::from_hf_json(with_decoder(decoder));
    std::vector<std::string> out;
    for (int32_t id = 1; id < 8; ++id) out.emplace_back(tokenizer->token_bytes(id, true));
    return out;
  };
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces(R"({"type": "Metaspace"})"),
            (Pieces{" ", "a", "<0x41>", "<0xZZ>", "<0x4>", "<0x4G>", "  a"}));
  EXPECT_EQ(pieces(R"({"type": "ByteFallback"})"),
            (Pieces{"▁", "a", "A", "<0xZZ>", "<0x4>", "<0x4G>", "▁▁a"}));
  EXPECT_EQ(pieces(R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})"),
            (Pieces{"▁", "aa", "<0x41>", "<0xZZ>", "<0x4>", "<0x4G>", "▁▁aa"}));
  EXPECT_TRUE(Tokenizer::from_hf_json(with_decoder(R"({"type": "Metaspace"})"))->adds_space_prefix());
  EXPECT_FALSE(Tokenizer::from_hf_json(with_decoder(R"({"type": "Metaspace", "prepend_scheme": "never"})"))
                   ->adds_space_prefix());
  EXPECT_FALSE(Tokenizer::from_hf_json(with_decoder(R"({"type": "Metaspace", "add_prefix_space": false})"))
                   ->adds_space_prefix());
}

TEST(HfParts, DecodersAreRefusedByField) {
  const auto refused = [](const std::string& decoder) {
    return refusal([&] { Tokenizer::from_hf_json(with_decoder(decoder)); });
  };
  for (const char* strip :
       {R"("content": "x", "start": 1, "stop": 0)", R"("content": " ", "start": 2, "stop": 0)",
        R"("content": " ", "start": 1, "stop": 1)", R"("content": " ")"}) {
    EXPECT_THAT(refused(R"({"type": "Strip", )" + std::string(strip) + "}"),
                HasSubstr("Strip is supported with"));
  }
  for (const char* pattern : {R"("a")", R"({"Regex": "a"})", R"({"String": 1})", R"({"String": ""})"}) {
    EXPECT_THAT(refused(R"({"type": "Replace", "content": "", "pattern": )" + std::string(pattern) + "}"),
                HasSubstr("field=decoder.pattern"));
  }
  const std::string replace = R"({"type": "Replace", "pattern": {"String": "a"}, "content": "b"})";
  for (const std::string& other : {std::string(R"({"type": "ByteFallback"})"), replace}) {
    EXPECT_THAT(refused(R"({"type": "Sequence", "decoders": [{"type": "ByteLevel"}, )" + other + "]}"),
                HasSubstr("ByteLevel together"));
  }
  std::string growing = R"({"type": "Sequence", "decoders": [)";
  for (int i = 0; i < 20; ++i)
    growing +=
        std::string(i ? ", " : "") + R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  EXPECT_THAT(refused(growing + "]}"), HasSubstr("a token too long"));
}

}  // namespace
}  // namespace orcd::tokenizer::hf
