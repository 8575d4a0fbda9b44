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

}  // namespace
}  // namespace orcd::tokenizer
