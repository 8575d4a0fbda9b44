// What a GGUF file's vocabulary must say of itself, and what may be missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kTok = "tokenizer.ggml.";

// <s> </s> a b, byte-level, without merges.
test::GgufWriter four_tokens() {
  test::GgufWriter w;
  w.add(kTok + "model", "gpt2").add(kTok + "pre", "gpt-2");
  w.add(kTok + "tokens", std::vector<std::string>{"<s>", "</s>", "a", "b"});
  w.add(kTok + "merges", std::vector<std::string>{});
  return w;
}

std::string refusal(const test::GgufWriter& w) {
  try {
    test::make_tokenizer(w);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
  return "accepted";
}

TEST(Vocabulary, TypesAreIntegersOfAnyWidthOneForEachToken) {
  const auto with = [](auto types) { return refusal(four_tokens().add(kTok + "token_type", types)); };
  EXPECT_EQ(with(std::vector<int32_t>{3, 3, 1, 0}), "accepted");
  EXPECT_EQ(with(std::vector<uint32_t>{3, 3, 1, 1}), "accepted");
  EXPECT_EQ(with(std::vector<uint64_t>{3, 3, 1, 1}), "accepted");
  EXPECT_EQ(with(std::vector<int64_t>{3, 3, 1, 1}), "accepted");
  EXPECT_EQ(with(std::vector<uint8_t>{3, 3, 1, 1}), "accepted");
  EXPECT_THAT(with(std::vector<int32_t>{3, 3, 1}), HasSubstr("the file has 3 ("));
  EXPECT_THAT(with(std::vector<float>{3, 3, 1, 1}), HasSubstr("values of another type"));
  EXPECT_THAT(with(std::vector<std::string>{"3", "3", "1", "1"}), HasSubstr("values of another type"));
  EXPECT_THAT(with(std::vector<int32_t>{3, 3, -1, 1}), HasSubstr("token_type[2]"));
  EXPECT_THAT(with(std::vector<int32_t>{3, 3, 1, 7}), HasSubstr("token_type[3]"));
}

TEST(Vocabulary, TokensAreStringsAndNotNone) {
  EXPECT_THAT(refusal(four_tokens().add(kTok + "tokens", std::vector<std::string>{})),
              HasSubstr("1 to 2147483647 strings"));
  EXPECT_THAT(refusal(four_tokens().add(kTok + "tokens", std::vector<int32_t>{1})),
              HasSubstr("1 to 2147483647 strings"));
}

TEST(Vocabulary, IdsMayBeNoneInEverySpellingOfIt) {
  const auto bos = [](auto id) {
    return test::make_tokenizer(four_tokens().add(kTok + "bos_token_id", id))->bos_id();
  };
  EXPECT_EQ(bos(uint32_t{1}), 1);
  EXPECT_EQ(bos(uint64_t{1}), 1);
  EXPECT_EQ(bos(int32_t{1}), 1);
  EXPECT_EQ(bos(int32_t{-1}), -1);
  EXPECT_EQ(bos(int64_t{-1}), -1);
  EXPECT_EQ(bos(std::numeric_limits<uint32_t>::max()), -1);
  EXPECT_THAT(refusal(four_tokens().add(kTok + "bos_token_id", uint32_t{4})),
              HasSubstr("outside the vocabulary of 4"));
  EXPECT_THAT(refusal(four_tokens().add(kTok + "bos_token_id", int32_t{-2})), HasSubstr("bos_token_id"));
  EXPECT_THAT(refusal(four_tokens().add(kTok + "bos_token_id", "1")), HasSubstr("bos_token_id"));
}

TEST(Vocabulary, AMessageOfHarmonyEndsWithoutTheTurn) {
  const auto ends = [](const std::string& third, const std::string& fourth, uint32_t eos) {
    test::GgufWriter w = four_tokens();
    w.add(kTok + "tokens", std::vector<std::string>{"<|end|>", "<s>", third, fourth});
    w.add(kTok + "token_type", std::vector<int32_t>{3, 3, 3, 3}).add(kTok + "eos_token_id", eos);
    w.add(kTok + "eot_token_id", uint32_t{0});
    const auto tokenizer = test::make_tokenizer(w);
    return std::vector<int32_t>(tokenizer->end_ids().begin(), tokenizer->end_ids().end());
  };
  EXPECT_THAT(ends("<|return|>", "<|call|>", 2), testing::Not(testing::Contains(0)));
  EXPECT_THAT(ends("<|return|>", "<|call|>", 0), testing::Contains(0));
  EXPECT_THAT(ends("<|return|>", "x", 2), testing::Contains(0));
  EXPECT_THAT(ends("x", "<|call|>", 3), testing::Contains(0));
}

}  // namespace
}  // namespace orcd::tokenizer
