#include <gtest/gtest.h>

#include "unit/tokenizer/vocabularies.h"

namespace orcd::test {
namespace {

using Ids = std::vector<int32_t>;
using tokenizer::Detokenizer;

const tokenizer::Tokenizer& bytes_only() {
  static const auto tokenizer = make_tokenizer(small_bpe("gpt-2", {{"\xF0", "\x9F"}, {"\x98", "\x80"}}));
  return *tokenizer;
}

std::vector<std::string> stream(const tokenizer::Tokenizer& tokenizer, const Ids& ids, bool special = false) {
  Detokenizer detokenizer(tokenizer, special);
  std::vector<std::string> pieces;
  for (const int32_t id : ids) pieces.push_back(detokenizer.push(id));
  pieces.push_back(detokenizer.finish());
  return pieces;
}
std::string joined(const Ids& ids) {
  std::string text;
  for (const std::string& piece : stream(bytes_only(), ids)) text += piece;
  return text;
}

TEST(Detokenizer, ACharacterAppearsWithItsLastByte) {
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(stream(bytes_only(), {'a', 0xF0, 0x9F, 0x98, 0x80, 'b'}),
            (Pieces{"a", "", "", "", "😀", "b", ""}));
  EXPECT_EQ(stream(bytes_only(), {256, 257}), (Pieces{"", "😀", ""}));
  EXPECT_EQ(stream(bytes_only(), {256, 0x98, 0x80}), (Pieces{"", "", "😀", ""}));
  EXPECT_EQ(stream(bytes_only(), {0xF0, 0x9F, 257}), (Pieces{"", "", "😀", ""}));
}

TEST(Detokenizer, WhatIsNotUtf8BecomesOneReplacementPerMaximalSubpart) {
  EXPECT_EQ(joined({0xF0, 0x9F, 0x98}), "\uFFFD");  // the text ends inside a character
  EXPECT_EQ(joined({0xF0, 0x9F, 'x'}), "\uFFFDx");
  EXPECT_EQ(joined({0x80, 0x80}), "\uFFFD\uFFFD");
  EXPECT_EQ(joined({0xC0, 0xAF}), "\uFFFD\uFFFD");
  EXPECT_EQ(joined({0xED, 0xA0, 0x80}), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(joined({0xE2, 0x82, 0xE2, 0x82, 0xAC}), "\uFFFD€");
  EXPECT_EQ(joined({0xF4, 0x90, 'a'}), "\uFFFD\uFFFDa");
  EXPECT_EQ(decode_bytes(bytes_only(), Ids{0xF0, 0x9F, 'x'}, false), "\xF0\x9Fx");
}

TEST(Detokenizer, FinishLeavesNothingBehind) {
  Detokenizer detokenizer(bytes_only());
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, ControlTokensAreSilentUnlessAskedFor) {
  const Ids ids{'a', 258, 'b'};
  EXPECT_EQ(stream(bytes_only(), ids), (std::vector<std::string>{"a", "", "b", ""}));
  EXPECT_EQ(stream(bytes_only(), ids, true), (std::vector<std::string>{"a", "<|bos|>", "b", ""}));
}

TEST(Detokenizer, DropsTheSpacePrefixAtTheStartOnly) {
  using Pieces = std::vector<std::string>;
  const auto t = make_tokenizer(small_spm({"\u2581a", "\u2581", "a"}, true));
  const int32_t space_a = 259;
  EXPECT_EQ(stream(*t, {1, space_a, space_a}), (Pieces{"", "a", " a", ""}));
  EXPECT_EQ(stream(*t, {space_a + 1, space_a}), (Pieces{"", " a", ""}));
  const auto plain = make_tokenizer(small_spm({"\u2581a", "\u2581", "a"}, false));
  EXPECT_EQ(stream(*plain, {1, space_a, space_a}), (Pieces{"", " a", " a", ""}));
}

TEST(Detokenizer, AfterAPromptTheFirstSpaceStays) {
  const auto t = make_tokenizer(small_spm({"\u2581a", "\u2581", "a"}, true));
  const int32_t space_a = 259;
  EXPECT_EQ(Detokenizer(*t, Ids{1, space_a}, false).push(space_a), " a");
  EXPECT_EQ(Detokenizer(*t, Ids{space_a, 2}, false).push(space_a), "a");
  EXPECT_EQ(Detokenizer(*t, Ids{}, false).push(space_a), "a");
}

}  // namespace
}  // namespace orcd::test
