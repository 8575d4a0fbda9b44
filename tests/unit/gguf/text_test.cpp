#include <gtest/gtest.h>

#include <string>

#include "gguf/string_index.h"
#include "gguf/utf8.h"

namespace orcd::gguf {
namespace {

TEST(Utf8, FindsTheFirstMalformedSequence) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("plain ASCII of more than eight bytes"));
  EXPECT_TRUE(is_utf8("\xC2\x80 \xE0\xA0\x80 \xED\x9F\xBF \xEE\x80\x80 \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"));
  EXPECT_TRUE(is_utf8(std::string_view("\0", 1)));
  const std::string_view bad[] = {
      "\x80",         "\xBF",         "\xC0\x80",         "\xC1\xBF",         "\xC3",
      "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
      "\xFF",         "\xE2\x82",     "\xF0\x9F\x98",     "\xE2\x28\xA1"};
  for (const std::string_view text : bad) {
    EXPECT_EQ(find_invalid_utf8(text), 0u) << printable(text);
    EXPECT_EQ(find_invalid_utf8("twelve bytes" + std::string(text)), 12u) << printable(text);
  }
}

TEST(Utf8, PrintableEscapesControlsAndCutsLongText) {
  EXPECT_EQ(printable("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(printable("a\x1b[0m\x7f\xFF\xC2\x9B"), "a\\x1b[0m\\x7f\\xff\\xc2\\x9b");
  EXPECT_EQ(printable(std::string(1000, 'x'), 10), std::string(10, 'x') + "...");
}

TEST(StringIndex, KeepsTheFirstOfEqualTexts) {
  StringIndex index;
  for (uint32_t i = 0; i < 10000; ++i) {
    // The index keeps views: the texts must outlive it, so they come from one string.
    static const std::string kDigits = [] {
      std::string all;
      for (int k = 100000; k < 110000; ++k) all += std::to_string(k);
      return all;
    }();
    EXPECT_EQ(index.insert(std::string_view(kDigits).substr(i * 6, 6), i), std::nullopt);
  }
  EXPECT_EQ(index.size(), 10000u);
  EXPECT_EQ(index.insert("104321", 7), 4321u);
  EXPECT_EQ(index.find("109999"), 9999u);
  EXPECT_EQ(index.find("110000"), std::nullopt);
  EXPECT_EQ(index.insert("", 5), std::nullopt);
  EXPECT_EQ(index.find(""), 5u);
}

}  // namespace
}  // namespace orcd::gguf
