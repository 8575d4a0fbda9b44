#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
#include "tokenizer/compare.h"
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

// "▁" stands for a blank; bytes for what is no token.
constexpr std::string_view kCharacters = R"({"added_tokens": [{"id": 0, "content": "<unk>", "special": true}],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>", "vocab":
    {"<unk>": 0, "▁": 1, "a": 2, "b": 3, "▁a": 4, "<0xC3>": 5, "<0xA9>": 6}, "merges": ["▁ a"]}})";

TEST(HfJson, CharactersFallBackToBytesAndComeBack) {
  const auto tokenizer = Tokenizer::from_hf_json(kCharacters);
  const std::vector<int32_t> ids = tokenizer->encode("a aéb", {});
  EXPECT_THAT(ids, ElementsAre(4, 4, 5, 6, 3));
  EXPECT_EQ(decode_bytes(*tokenizer, ids, false), "a aéb");
  EXPECT_TRUE(tokenizer->adds_space_prefix());
  EXPECT_EQ(tokenizer->pre(), "custom");
  EXPECT_EQ(tokenizer->conformance().total, 0u);
}

TEST(HfJson, UnknownCharactersAreFusedOnRequest) {
  std::string json(kCharacters);
  EXPECT_THAT(Tokenizer::from_hf_json(json)->encode("xyb", {}), ElementsAre(1, 0, 3));
  json.replace(json.find("\"fuse_unk\": true"), 16, "\"fuse_unk\": false");
  EXPECT_THAT(Tokenizer::from_hf_json(json)->encode("xyb", {}), ElementsAre(1, 0, 0, 3));
}

TEST(HfJson, AddedTokensTakeWhiteSpaceAndStandAlone) {
  Parts parts;
  parts.added_extra = R"(, "lstrip": true, "rstrip": true)";
  EXPECT_THAT(encode(parts, "a  <end> \n b"), ElementsAre(0, 6, 1));
  parts.added_extra = R"(, "single_word": true)";
  EXPECT_THAT(encode(parts, "a<end> <end>b"), ElementsAre(0, 5, 1));
  EXPECT_THAT(encode(parts, "a <end> b"), ElementsAre(0, 5, 6, 5, 1));
}

TEST(HfJson, TheFamilyIsKnownByItsPreTokenizerAndProbed) {
  const auto tokenizer = Tokenizer::from_hf_json(Parts{}.json());
  EXPECT_EQ(tokenizer->conformance().passed, 10u);
}

TEST(HfJson, WhatIsNotSupportedIsRefusedByName) {
  const auto with = [](auto set) {
    Parts parts;
    set(parts);
    return refusal(parts);
  };
  EXPECT_THAT(with([](Parts& p) { p.normalizer = R"({"type": "Nmt"})"; }), HasSubstr("normalizer Nmt"));
  EXPECT_THAT(
      with([](Parts& p) {
        p.pre = R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "UnicodeScripts"}]})";
      }),
      HasSubstr("field=pre_tokenizer.pretokenizers[1]"));
  EXPECT_THAT(
      with([](Parts& p) { p.pre = R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Gone"})"; }),
      HasSubstr("pre_tokenizer.behavior"));
  EXPECT_THAT(with([](Parts& p) { p.post = R"({"type": "BertProcessing"})"; }),
              HasSubstr("post-processor Bert"));
  EXPECT_THAT(with([](Parts& p) {
                p.post = R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}},
                  {"SpecialToken": {"id": "<end>"}}]})";
              }),
              HasSubstr("post_processor.single[1]"));
  EXPECT_THAT(with([](Parts& p) { p.model_extra = R"(, "dropout": 0.1)"; }), HasSubstr("model.dropout"));
  EXPECT_THAT(with([](Parts& p) { p.model_extra = R"(, "unk_token": "<none>")"; }),
              HasSubstr("model.unk_token"));
  EXPECT_THAT(with([](Parts& p) { p.pre = R"({"type": "CharDelimiterSplit", "delimiter": "ab"})"; }),
              HasSubstr("pre_tokenizer.delimiter"));
  EXPECT_THAT(with([](Parts& p) { p.merges = R"([["a", "x"]])"; }), HasSubstr("model.merges[0]"));
  EXPECT_THAT(with([](Parts& p) { p.merges = R"(["ab"])"; }), HasSubstr("two tokens"));
  std::string decoder(kCharacters);
  decoder.replace(decoder.find("\"Fuse\""), 6, "\"CTC\"");
  try {
    Tokenizer::from_hf_json(decoder);
    FAIL() << "a decoder was taken";
  } catch (const Error& error) {
    EXPECT_THAT(error.line(), HasSubstr("field=decoder.decoders[2]"));
  }
  EXPECT_THROW(Tokenizer::from_hf_json("{\"model\": "), Error);
  EXPECT_THROW(Tokenizer::from_hf_json("{}"), Error);
}

TEST(HfJson, EveryFieldOfTheDocumentIsChecked) {
  const std::string good = Parts{}.json();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string json = good;
    const size_t at = json.find(from);
    EXPECT_NE(at, json.npos) << from;
    json.replace(at, from.size(), to);
    try {
      Tokenizer::from_hf_json(json);
    } catch (const Error& error) {
      return error.line();
    }
    return std::string("accepted");
  };
  EXPECT_THAT(with(R"("a": 0)", R"("a": -1)"), HasSubstr("out of range"));
  EXPECT_THAT(with(R"("a": 0)", R"("a": 16777216)"), HasSubstr("out of range"));
  EXPECT_THAT(with(R"("a": 0)", R"("a": "0")"), HasSubstr("field=model.vocab"));
  EXPECT_THAT(with(R"("a": 0)", R"("a": 0.5)"), HasSubstr("must be an integer"));
  EXPECT_THAT(with(R"("a": 0)", R"("a": 1)"), HasSubstr("stands for"));
  EXPECT_THAT(with(R"({"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5})", "{}"),
              HasSubstr("object with tokens"));
  EXPECT_THAT(with(R"({"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5})", "[]"),
              HasSubstr("object with tokens"));
  EXPECT_THAT(with(R"([{"id": 6)", R"(["x", {"id": 6)"), HasSubstr("field=added_tokens[0]"));
  EXPECT_THAT(with(R"("id": 6)", R"("id": "6")"), HasSubstr("field=added_tokens[0].id"));
  EXPECT_THAT(with(R"("content": "<end>")", R"("content": 1)"), HasSubstr("field=added_tokens[0].content"));
  EXPECT_THAT(with(R"("special": true)", R"("special": 1)"), HasSubstr("field=added_tokens[0].special"));
  EXPECT_THAT(with(R"({"type": "BPE")", R"({"type": "Unigram")"), HasSubstr("model Unigram"));
  EXPECT_THAT(with(R"("normalizer": null)", R"("normalizer": 1)"), HasSubstr("field=normalizer"));
  const std::string merges = R"([["a", "b"], "ab c"])";
  for (const char* wrong : {R"([["a"]])", R"([["a", 1]])", R"([[1, "a"]])", R"([1])", R"(["a "])",
                            R"([" a"])", R"([["a", "b", "c"]])", R"([["", "a"]])"}) {
    EXPECT_THAT(with(merges, wrong), HasSubstr("two tokens")) << wrong;
  }
  EXPECT_THAT(with(merges, R"("a b")"), HasSubstr("must be an array"));
  EXPECT_EQ(with(merges, R"(["a b"])"), "accepted");
  EXPECT_EQ(with(merges, R"([["a", "b"]], "dropout": 0.0)"), "accepted");
  EXPECT_EQ(with(merges, R"([["a", "b"]], "dropout": null)"), "accepted");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    EXPECT_THAT(with(merges, R"([], ")" + std::string(affix) + R"(": "##")"), HasSubstr(affix));
    EXPECT_EQ(with(merges, R"([], ")" + std::string(affix) + R"(": "")"), "accepted");
  }
  const std::string post = R"("post_processor": null)";
  const auto processed = [&](const std::string& single) {
    return with(post, R"("post_processor": {"type": "TemplateProcessing", "single": )" + single + "}");
  };
  EXPECT_THAT(processed("1"), HasSubstr("field=post_processor.single"));
  EXPECT_THAT(processed(R"([{"SpecialToken": {"id": "<none>"}}, {"Sequence": {"id": "A"}}])"),
              HasSubstr("unknown token"));
  EXPECT_THAT(processed(R"([{"SpecialToken": {"id": 1}}])"),
              HasSubstr("field=post_processor.single[0].SpecialToken"));
  EXPECT_THAT(with(post, R"("post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<end>"}}]},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<end>"}}]}]})"),
              HasSubstr("only one special token"));
  std::string json = good;
  json.replace(json.find(R"("added_tokens": [)"), 17, R"("added_tokens": 1, "others": [)");
  EXPECT_THROW(Tokenizer::from_hf_json(json), Error);
}

TEST(HfJson, IdsWithoutATokenSpellNothing) {
  std::string json = Parts{}.json();
  json.replace(json.find("\"id\": 6"), 7, "\"id\": 9");
  const auto tokenizer = Tokenizer::from_hf_json(json);
  EXPECT_EQ(tokenizer->vocab_size(), 10);
  EXPECT_EQ(tokenizer->token_text(8), "");
  EXPECT_THAT(tokenizer->encode("a<end>", {.add_bos = true, .parse_special = true}), ElementsAre(0, 9));
}

TEST(HfJson, AnUnknownTokenNeedsTheGeneralTokenizerUnlessEveryByteIsSpelled) {
  Parts parts;
  parts.model_extra = R"(, "unk_token": "a")";
  EXPECT_THAT(encode(parts, "bx"), ElementsAre(1, 0));
  parts.model_extra = R"(, "byte_fallback": true)";
  EXPECT_THAT(encode(parts, "ab"), ElementsAre(3));
}

TEST(HfJson, SpecialTokensMayBeginAndEndWithAnything) {
  Parts parts;
  parts.added_extra =
      R"(, "single_word": true}, {"id": 8, "content": "é", "special": true, "single_word": true,
    "lstrip": true, "rstrip": true)";
  EXPECT_THAT(encode(parts,
                     "\xC2\xA0é \xE3\x80\x80"
                     "a"),
              ElementsAre(8, 0));
  EXPECT_THAT(encode(parts, "é"), ElementsAre(8));
  EXPECT_THAT(encode(parts, "é\x80"), ElementsAre(8));
  EXPECT_THAT(encode(parts,
                     "\x80<end>\x80"
                     "b"),
              ElementsAre(6, 1));
}

TEST(HfJson, TextsThatGrowWithoutEndAreRefused) {
  Parts parts;
  const std::string doubled = R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  parts.normalizer = R"({"type": "Sequence", "normalizers": [)" + doubled;
  for (int i = 0; i < 40; ++i) parts.normalizer += ", " + doubled;
  parts.normalizer += "]}";
  const auto tokenizer = Tokenizer::from_hf_json(parts.json());
  EXPECT_TRUE(tokenizer->encode("c", {}).size() == 1);
  EXPECT_THROW(tokenizer->encode("a", {}), Error);
}

TEST(HfJson, WhatTheModelCutsOtherwiseIsToldAndTaken) {
  const auto own = Tokenizer::from_hf_json(Parts{}.json());
  Parts parts;
  parts.pre =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "a"}, "behavior":
    "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]})";
  std::vector<std::string> events;
  const LogSink before = set_log_sink([&](const LogEvent& event) { events.emplace_back(event.event); });
  Tokenizer::from_hf_json(Parts{}.json(), own.get());
  EXPECT_TRUE(events.empty());
  EXPECT_THAT(Tokenizer::from_hf_json(parts.json(), own.get())->encode("ab", {}), ElementsAre(0, 1));
  set_log_sink(before);
  EXPECT_THAT(events, ElementsAre("tokenizer_differs"));
  const auto difference = first_difference(*Tokenizer::from_hf_json(parts.json()), *own);
  ASSERT_TRUE(difference);
  EXPECT_THAT(difference->text, HasSubstr("tabs"));
  EXPECT_EQ(difference->first, 0);
  EXPECT_EQ(difference->second, 3);
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
