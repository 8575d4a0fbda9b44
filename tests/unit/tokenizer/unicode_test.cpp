#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace orcd::tokenizer {
namespace {

std::string nfc(std::string_view text) {
  std::string out;
  return normalize_nfc(text, out) ? out : std::string(text);
}

TEST(Utf8, EveryCodePointSurvivesEncodingAndDecoding) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    const Utf8Char back = decode_utf8(text);
    ASSERT_EQ(back.status, Utf8Status::kValid) << c;
    ASSERT_EQ(back.code_point, c);
    ASSERT_EQ(back.n_bytes, text.size());
  }
}

TEST(Utf8, IllFormedSequencesAreCutIntoMaximalSubparts) {
  struct Case {
    std::string_view text;
    int n_bytes;
    Utf8Status status;
  };
  const Case cases[] = {
      {"\x80", 1, Utf8Status::kInvalid},
      {"\xC0\x80", 1, Utf8Status::kInvalid},
      {"\xC1\xBF", 1, Utf8Status::kInvalid},
      {"\xE0\x80\x80", 1, Utf8Status::kInvalid},
      {"\xED\xA0\x80", 1, Utf8Status::kInvalid},
      {"\xF0\x80\x80\x80", 1, Utf8Status::kInvalid},
      {"\xF4\x90\x80\x80", 1, Utf8Status::kInvalid},
      {"\xF5\x80", 1, Utf8Status::kInvalid},
      {"\xFF", 1, Utf8Status::kInvalid},
      {"\xE2\x82x", 2, Utf8Status::kInvalid},
      {"\xF0\x9F\x98x", 3, Utf8Status::kInvalid},
      {"\xC3x", 1, Utf8Status::kInvalid},
      {"\xC3", 1, Utf8Status::kIncomplete},
      {"\xE2\x82", 2, Utf8Status::kIncomplete},
      {"\xF0\x9F\x98", 3, Utf8Status::kIncomplete},
      {"\xF0", 1, Utf8Status::kIncomplete},
  };
  for (const Case& c : cases) {
    const Utf8Char got = decode_utf8(c.text);
    EXPECT_EQ(got.n_bytes, c.n_bytes) << testing::PrintToString(std::string(c.text));
    EXPECT_EQ(got.status, c.status) << testing::PrintToString(std::string(c.text));
  }
}

TEST(Categories, AreThoseOfTheOracle) {
  EXPECT_EQ(category_of('A'), Category::kLu);
  EXPECT_EQ(category_of(' '), Category::kZs);
  EXPECT_EQ(category_of(0x180E), Category::kCf);  // not white space since Unicode 6.3
  EXPECT_EQ(category_of(0x4E00), Category::kLo);
  EXPECT_EQ(category_of(0x9FFF), Category::kLo);
  EXPECT_EQ(category_of(0x10D40), Category::kNd);  // Garay digit, Unicode 16
  EXPECT_EQ(category_of(0x11DE0), Category::kCn);  // a digit only from Unicode 17 on
  EXPECT_EQ(category_of(0xD800), Category::kCn);
  EXPECT_EQ(category_of(0x10FFFF), Category::kCn);
  EXPECT_EQ(category_index("Zp"), static_cast<int>(Category::kZp));
  EXPECT_EQ(category_index("Xx"), -1);
}

TEST(Nfc, ComposesAndOrdersMarks) {
  EXPECT_EQ(nfc("e\u0301"), "é");
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(nfc("\u212B"), "\u00C5");
  EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(nfc("plain ASCII"), "plain ASCII");
}

TEST(Nfc, LeavesWhatTheOracleDoesNotKnow) {
  EXPECT_EQ(nfc("a\u0898\u0301"),
            "a\u0898\u0301");  // U+0898 is a mark since Unicode 14; the oracle takes it for a starter
}

TEST(Nfc, LeavesInvalidBytesInPlace) {
  EXPECT_EQ(nfc("e\u0301\xFF\xE2\x82"
                "e\u0301"),
            "é\xFF\xE2\x82é");
}

TEST(Nfc, LongRunsOfMarksAreNotQuadratic) {
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += "\u0301\u0316";
  const std::string got = nfc(text);
  // Below-marks (class 220) come first, then the accents (230): the first accent is no longer next to a.
  EXPECT_EQ(got.size(), 2 + 200000 * 2 + 199999 * 2);
  EXPECT_EQ(got.substr(0, 4), "\u00E1\u0316");
}

TEST(UnicodeForms, AreThoseOfTheirNames) {
  const std::string text = "\u00e9 e\u0301 \ufb01 \u00bd";
  EXPECT_EQ(normalized(text, UnicodeForm::kNfc), "\u00e9 \u00e9 \ufb01 \u00bd");
  EXPECT_EQ(normalized(text, UnicodeForm::kNfd), "e\u0301 e\u0301 \ufb01 \u00bd");
  EXPECT_EQ(normalized(text, UnicodeForm::kNfkc), "\u00e9 \u00e9 fi 1\u20442");
  EXPECT_EQ(normalized(text, UnicodeForm::kNfkd), "e\u0301 e\u0301 fi 1\u20442");
  EXPECT_EQ(normalized("\xFF\u00e9\x80", UnicodeForm::kNfd),
            "\xFF"
            "e\u0301\x80");
}

TEST(UnicodeCase, LowerCaseMayBeTwoCharacters) {
  std::string out;
  for (const uint32_t c : {0x41u, 0x130u, 0x3A3u, 0xDFu, 0x10400u}) append_lowercase(c, out);
  EXPECT_EQ(out, "ai\u0307\u03C3\u00DF\U00010428");
}

TEST(UnicodeClasses, WhiteSpaceMarksAndWords) {
  EXPECT_TRUE(is_white_space(0x85) && is_white_space(0x3000) && !is_white_space(0x200B) &&
              !is_white_space(0x1C));
  EXPECT_TRUE(is_mark(0x301) && is_mark(0x903) && !is_mark('a'));
  EXPECT_TRUE(is_word('_') && is_word(0x2167) && is_word(0x24B6) && is_word(0x200D) && !is_word('-') &&
              !is_word(0xB2));
}

}  // namespace
}  // namespace orcd::tokenizer
