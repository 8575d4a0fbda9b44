// Files and texts that once ended in something else than ids or one error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tokenizer/tokenizer.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::tokenizer {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& json) {
  try {
    Tokenizer::from_hf_json(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
  return "accepted";
}

// Another exception than the parser's usual one came through. Found by fuzz_hf_json.
TEST(TokenizerRegression, ANumberOutOfRangeIsOneError) {
  EXPECT_THAT(refusal("[9e399999999"), HasSubstr("tokenizer.json cannot be read"));
  EXPECT_THAT(refusal(R"({"model": {"vocab": {"a": 1e999}}})"), HasSubstr("tokenizer.json cannot be read"));
}

// Each level of a Sequence took a stack frame. Found by reading.
TEST(TokenizerRegression, NestedSequencesDoNotEndTheStack) {
  std::string json = R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": )";
  constexpr int kLevels = 100'000;
  for (int i = 0; i < kLevels; ++i) json += R"({"type": "Sequence", "normalizers": [)";
  json += R"({"type": "NFC"})";
  for (int i = 0; i < kLevels; ++i) json += "]}";
  EXPECT_THAT(refusal(json + "}"), HasSubstr("nest too deeply"));
}

// Google's own files of Gemma 3 (QAT), and such as others exported, type the turns' tokens as ordinary text:
// a template's <start_of_turn> was spelled out in letters, and <end_of_turn> did not end an answer. Found in
// reports on other programs.
TEST(TokenizerRegression, TurnsAreControlTokensWhateverTheirType) {
  test::GgufWriter spm = test::small_spm({"<start_of_turn>", "<end_of_turn>", "a"}, false);
  const auto gemma = test::make_tokenizer(spm);
  const int32_t start = gemma->token_id("<start_of_turn>"), end = gemma->token_id("<end_of_turn>");
  EXPECT_TRUE(gemma->is_control(start) && gemma->is_control(end));
  EXPECT_FALSE(gemma->is_control(gemma->token_id("a")));
  EXPECT_THAT(gemma->end_ids(), testing::Contains(end));
  EXPECT_THAT(gemma->encode("<start_of_turn>a<end_of_turn>", test::kSpecial),
              testing::ElementsAre(start, gemma->token_id("a"), end));
  EXPECT_EQ(gemma->token_bytes(end, false), "");
  // What people write stays text.
  EXPECT_THAT(gemma->encode("<end_of_turn>", test::kPlain), testing::Not(testing::Contains(end)));

  test::GgufWriter bpe = test::small_bpe("qwen2");
  std::vector<int32_t> types(260, 1);  // all of them text
  const auto qwen = test::make_tokenizer(bpe.add("tokenizer.ggml.token_type", types));
  EXPECT_TRUE(qwen->is_control(257));
  EXPECT_FALSE(qwen->is_control(256));  // <|bos|> ends no turn
  EXPECT_THAT(qwen->end_ids(), testing::Contains(257));
}

// Vocabularies of Gemma 4 were refused. tests/integration holds its form to `tokenizers`.
TEST(TokenizerRegression, Gemma4sVocabularyIsBpeOverCharacters) {
  test::GgufWriter file;
  file.add("tokenizer.ggml.model", "gemma4").add("tokenizer.ggml.add_bos_token", false);
  const std::vector<std::string> tokens = {"<pad>", "<eos>", "<bos>",  "<unk>",  "\n",     "\n\n",   "▁", "a",
                                           "▁a",    "▁▁",    "<0xC3>", "<0xA9>", "<0x0A>", "<turn|>"};
  file.add("tokenizer.ggml.tokens", tokens);
  file.add("tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 3, 2, 1, 1, 1, 1, 1, 1, 6, 6, 6, 3});
  file.add("tokenizer.ggml.merges", std::vector<std::string>{"▁ a", "▁ ▁"});
  const auto gemma = test::make_tokenizer(file);
  EXPECT_EQ(gemma->kind(), "gguf-bpe");
  EXPECT_EQ(gemma->pre(), "gemma4");
  const std::vector<int32_t> ids = gemma->encode("a a  a\n\n\né z", {});  // BOS whatever the file says
  EXPECT_THAT(ids, testing::ElementsAre(2, 7, 8, 6, 8, 5, 4, 10, 11, 6, 3));
  EXPECT_EQ(decode_bytes(*gemma, std::vector<int32_t>(ids.begin() + 1, ids.end() - 1), false),
            "a a  a\n\n\né ");
  EXPECT_THAT(gemma->end_ids(), testing::ElementsAre(1, 13));
}

std::vector<int32_t> encode(const std::string& json, std::string_view text, const EncodeOptions& options) {
  return Tokenizer::from_hf_json(json)->encode(text, options);
}

// Llama 2's own tokenizer.json has such tokens. It was refused wherever the normalizer changes one; where it
// did not, a special one was looked for before normalisation. Ids of PyPI's `tokenizers`. Found by comparing
// with it.
TEST(TokenizerRegression, NormalizedAddedTokensAreFoundInNormalizedText) {
  const std::string json =
      R"({"added_tokens": [{"id": 3, "content": "<S>", "special": true, "normalized": true},
    {"id": 4, "content": "WORD", "special": false, "normalized": true}], "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "model": {"type": "BPE", "vocab": {"a": 0, "<": 1, "s": 2}, "merges": []}})";
  EXPECT_THAT(encode(json, "<S>a<s>AwOrD", test::kSpecial), testing::ElementsAre(3, 0, 3, 0, 4));
  EXPECT_THAT(encode(json, "<s>word", test::kPlain), testing::ElementsAre(1, 2, 4));  // what people write
  const std::vector<size_t> guards = {5};
  EXPECT_THAT(encode(json, "<s>a<s>", {.add_bos = false, .parse_special = true, .guards = guards}),
              testing::ElementsAre(1, 2, 0, 1, 2));  // nor behind a template

  const std::string llama =
      R"({"added_tokens": [{"id": 2, "content": "<s>", "special": true, "normalized": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "_"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]},
    "model": {"type": "BPE", "vocab": {"a": 0, "_": 1}, "merges": []}})";
  EXPECT_THAT(encode(llama, "<s>a <s>", test::kSpecial), testing::ElementsAre(2, 0, 2));
  EXPECT_THAT(encode(llama, "a<s>", test::kSpecial), testing::ElementsAre(1, 0));  // "_<s>" is not there
}

// PCRE reads {1,3}+ and {2}? as other quantifiers than the engine of `tokenizers` does, and {,2} as text:
// cuts were others in silence, also with the expression of cl100k. Found by comparing with it.
TEST(TokenizerRegression, IntervalsRepeatAsTheReferencesEngineHasThem) {
  const auto pieces = [](const std::string& pattern, std::string_view text) {
    const std::string json =
        R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": ")" + pattern +
        R"("}, "behavior": "Isolated"}, "model": {"type": "BPE", "ignore_merges": true, "merges": [["a", "a"], ["aa", "a"],
        ["aaa", "aa"]], "vocab": {"a": 1, "aa": 2, "aaa": 3, "aaaaa": 5, "b": 9}}})";
    return encode(json, text, test::kPlain);
  };
  EXPECT_THAT(pieces("a{1,3}+", "aaaaab"), testing::ElementsAre(5, 9));
  EXPECT_THAT(pieces("(?:a|b){2}+", "aaa"), testing::ElementsAre(2, 1));
  EXPECT_THAT(pieces("a{2}?", "aaa"), testing::ElementsAre(2, 1));
  EXPECT_THAT(pieces("a{,2}", "aaa"), testing::ElementsAre(2, 1));
  EXPECT_THAT(pieces("a{1,2}", "aaa"), testing::ElementsAre(2, 1));
}

// The line that a merges.txt begins with was refused as a merge of unknown tokens; `tokenizers` passes over
// it.
TEST(TokenizerRegression, TheVersionOfAMergesFileIsNoMerge) {
  const std::string json = R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
                               "merges": ["#version: 0.2", "a b"]}})";
  EXPECT_THAT(encode(json, "ab", test::kPlain), testing::ElementsAre(2));
}

}  // namespace
}  // namespace orcd::tokenizer
