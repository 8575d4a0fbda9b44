#include "tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "tokenizer/pattern.h"
#include "tokenizer/pre_families.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces_of(const PreTokenizer& pre_tokenizer, std::string_view text) {
  std::vector<size_t> ends;
  pre_tokenizer.split(text, ends);
  Pieces pieces;
  size_t begin = 0;
  for (const size_t end : ends) {
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return pieces;
}
Pieces split(std::string_view family, std::string_view text) {
  return pieces_of(PreTokenizer(find_pre_family(family)->used_patterns()), text);
}
Pieces split_by(std::vector<std::string_view> patterns, std::string_view text) {
  return pieces_of(PreTokenizer(patterns), text);
}

TEST(PreFamilies, GiveThePiecesOfTheirReference) {
  EXPECT_EQ(split("gpt-2", "I'm  here, 42 times"), (Pieces{"I", "'m", " ", " here", ",", " 42", " times"}));
  EXPECT_EQ(split("gpt-2", "DON'T"), (Pieces{"DON", "'", "T"}));
  EXPECT_EQ(split("qwen2", "DON'T 123\n\n x"), (Pieces{"DON", "'T", " ", "1", "2", "3", "\n\n", " x"}));
  EXPECT_EQ(split("llama-bpe", "it'S 12345 é\u0301!\n"),
            (Pieces{"it", "'S", " ", "123", "45", " é", "\u0301!\n"}));
  EXPECT_EQ(split("smollm", "a  12b ٣"), (Pieces{"a", "  ", "1", "2", "b", " ", "٣"}));
  EXPECT_EQ(split("default", "x1234 $5"), (Pieces{"x", "123", "4", " ", "$", "5"}));
}

TEST(PreFamilies, CaselessContractionsTakeTheLongS) {
  EXPECT_EQ(split("llama-bpe", "a'\u017F b"), (Pieces{"a", "'\u017F", " b"}));
  EXPECT_EQ(split("gpt-2", "a'\u017F b"), (Pieces{"a", "'", "\u017F", " b"}));
}

TEST(PreFamilies, WhiteSpaceIsThatOfUnicode) {
  // U+0085 and U+3000 are white space; U+180E, U+200B and U+001C are not.
  EXPECT_EQ(split("gpt-2", "a\u0085\u3000b"), (Pieces{"a", "\u0085", "\u3000", "b"}));
  EXPECT_EQ(split("gpt-2", "a\u180E\u200B\x1C"), (Pieces{"a", "\u180E\u200B\x1C"}));
}

TEST(PreFamilies, InvalidBytesAreNeitherLettersNorBlanks) {
  EXPECT_EQ(split("gpt-2", "a\xFF\x80 \xC3(b"), (Pieces{"a", "\xFF\x80", " \xC3(", "b"}));
}

TEST(PreFamilies, AreFoundByNameAndAlias) {
  EXPECT_EQ(find_pre_family("llama3"), find_pre_family("llama-bpe"));
  EXPECT_EQ(find_pre_family("llama-v3"), find_pre_family("llama-bpe"));
  EXPECT_EQ(find_pre_family("nonesuch"), nullptr);
  EXPECT_EQ(find_pre_family(""), nullptr);
  EXPECT_TRUE(find_pre_family("qwen2")->normalize_nfc);
  EXPECT_TRUE(find_pre_family("llama-bpe")->ignore_merges);
}

TEST(Patterns, SpelledOutRangesGetTheirOwnClasses) {
  EXPECT_EQ(split_by({"[一-龥]+"}, "ab中文x\u3400"), (Pieces{"ab", "中文", "x\u3400"}));
  EXPECT_EQ(split_by({"[À-Öa-f]+|é"}, "ÀÖzéü"), (Pieces{"ÀÖ", "z", "é", "ü"}));
  EXPECT_EQ(split_by({"[^\\p{L}é]+"}, "é1üñ22"), (Pieces{"é", "1", "üñ", "22"}));
  EXPECT_EQ(split_by({R"([\x{10D40}-\x{10D42}\u00B2]+)"}, "1²\U00010D41\U00010D43"),
            (Pieces{"1", "²\U00010D41", "\U00010D43"}));
}

TEST(Patterns, SetsHoldSetsAndAreNarrowed) {
  EXPECT_EQ(split_by({"[a[b-d]é]+"}, "xabcdéx"), (Pieces{"x", "abcdé", "x"}));
  EXPECT_EQ(split_by({"[^a[bé]]+"}, "xaéby"), (Pieces{"x", "aéb", "y"}));
  EXPECT_EQ(split_by({R"([\p{L}&&[^\p{Han}]&&[^c]]+)"}, "ab中cdж"), (Pieces{"ab", "中c", "dж"}));
  EXPECT_EQ(split_by({R"([\p{Han}]+|\P{Han})"}, "中国ab"), (Pieces{"中国", "a", "b"}));
  EXPECT_EQ(split_by({R"(\w+)"}, "a_1é²Ⓐ-b"), (Pieces{"a_1é²Ⓐ", "-", "b"}));
  EXPECT_EQ(split_by({R"(\W)"}, "a-Ⅷ "), (Pieces{"a", "-", "Ⅷ", " "}));
}

TEST(Patterns, EmptyMatchesCut) {
  EXPECT_EQ(split_by({R"((?=(\d{3})+(?!\d)))"}, "x1234567y"), (Pieces{"x1", "234", "567y"}));
  EXPECT_EQ(split_by({"b*"}, "abbc"), (Pieces{"a", "bb", "c"}));
}

TEST(Patterns, LineEndsAreThoseOfLines) {
  EXPECT_EQ(split_by({R"(\s+$)"}, "a  \n b  "), (Pieces{"a", "  ", "\n b", "  "}));
  EXPECT_EQ(split_by({"^a"}, "aba\na"), (Pieces{"a", "ba\n", "a"}));
}

TEST(Patterns, BytePatternsCutInsideCharacters) {
  // U+043C is D0 BC, and BC is the alphabet's fraction one quarter: a number.
  const std::vector<std::string_view> characters{R"(\p{L}+)"}, bytes{R"(\p{N})"};
  EXPECT_EQ(pieces_of(PreTokenizer(characters, bytes), "aм1"), (Pieces{"a\xD0", "\xBC", "1"}));
}

TEST(Patterns, StagesSeeOnlyTheirPiece) {
  EXPECT_EQ(split_by({"[0-9]", R"(\s+(?!\S)|\s+)"}, "a  1"), (Pieces{"a", "  ", "1"}));
  EXPECT_EQ(split_by({R"(\s+(?!\S)|\s+)"}, "a  1"), (Pieces{"a", " ", " ", "1"}));
}

TEST(Patterns, EscapesAndGroupsAreUnderstood) {
  EXPECT_EQ(split_by({R"(\d{2}|\D)"}, "123x"), (Pieces{"12", "3", "x"}));
  EXPECT_EQ(split_by({R"((?<=a)b|[\]\-^]+|(?i:k)+)"}, "ab]-^K\u212Ab"),
            (Pieces{"a", "b", "]-^", "K\u212A", "b"}));
  EXPECT_EQ(split_by({R"(\P{L}+|\p{^Nd}x)"}, "ab12"), (Pieces{"ab", "12"}));
}

TEST(Patterns, EveryEscapeOfACharacterIsThatCharacter) {
  EXPECT_EQ(split_by({R"([\t\f\v\0\n\r]|\x41|\x{e9}|\u00fc)"}, std::string_view("a\t\f\v\0\n\rAbéüc", 14)),
            (Pieces{"a", "\t", "\f", "\v", std::string(1, '\0'), "\n", "\r", "A", "b", "é", "ü", "c"}));
  EXPECT_EQ(split_by({R"((?<!a)b|a(?=c)|(?>x+)|(?:y){2,3})"}, "abbacxxyyy"),
            (Pieces{"ab", "b", "a", "c", "xx", "yyy"}));
  EXPECT_EQ(split_by({R"([a-]+|\-)"}, "b-a-c"), (Pieces{"b", "-a-", "c"}));
  EXPECT_EQ(split_by({R"([\x{100}-\x{10FFFF}]+)"}, "aĀ\U0010FFFFb"), (Pieces{"a", "Ā\U0010FFFF", "b"}));
}

TEST(Patterns, SetsAreCounted) {
  const auto message = [](const std::string& pattern) -> std::string {
    try {
      compile_patterns(std::vector<std::string_view>{pattern});
    } catch (const Error& error) {
      return error.message();
    }
    return "";
  };
  std::string many;
  for (uint32_t i = 0; i < 32; ++i) {
    many += '[';
    append_utf8(0x400 + i, many);
    many += ']';
  }
  EXPECT_EQ(message(many), "");
  EXPECT_NE(message(many + "é").find("more than 32"), std::string::npos);
}

TEST(Patterns, WhatIsNotUnderstoodIsRefusedByName) {
  for (const auto& [pattern, named] :
       std::vector<std::pair<std::string_view, std::string_view>>{{R"(\h+)", "\\h"},
                                                                  {R"(\p{Greek})", "\\p{Greek}"},
                                                                  {"[[:alpha:]]", "POSIX"},
                                                                  {"[[[[[[[[[a]]]]]]]]]", "8 deep"},
                                                                  {"[a&&", "ends too early"},
                                                                  {"(?<n>a)", "(?<"},
                                                                  {"a)", "unmatched"},
                                                                  {"(a", "ends too early"},
                                                                  {"[a", "ends too early"},
                                                                  {"a{x}", "bare {"},
                                                                  {"[z-a]", "backwards"},
                                                                  {"\\", "ends too early"},
                                                                  {"(?i:é)", "beyond ASCII"},
                                                                  {"[\xFF]", "not UTF-8"},
                                                                  {R"(\xg)", "hexadecimal"},
                                                                  {R"(\x)", "hexadecimal"},
                                                                  {R"(\x{41)", "hexadecimal"},
                                                                  {R"(\x{110000})", "hexadecimal"},
                                                                  {R"(\pL)", "without braces"},
                                                                  {R"(\p{L)", "ends too early"},
                                                                  {R"(\p{X})", "\\p{X}"},
                                                                  {"[a-\\d]", "ends in a class"},
                                                                  {"(?i:[a-z])", "caseless range"},
                                                                  {"a{", "bare {"},
                                                                  {"a{}", "bare {"},
                                                                  {"(?", "ends too early"}}) {
    try {
      compile_patterns(std::vector{pattern});
      ADD_FAILURE() << pattern << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
      EXPECT_NE(error.message().find(named), std::string::npos) << error.line();
    }
  }
}

}  // namespace
}  // namespace orcd::tokenizer
