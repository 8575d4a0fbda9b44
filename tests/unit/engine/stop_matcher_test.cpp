#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace orcd::engine {
namespace {

struct Outcome {
  std::string text;
  int matched = -1;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Outcome out;
  for (const std::string& piece : pieces) out.text += matcher.push(piece);
  if (matcher.matched()) {
    out.matched = static_cast<int>(*matcher.matched());
  } else {
    out.text += matcher.finish();
  }
  return out;
}

TEST(StopMatcher, FindsAStopAcrossPiecesAndLeavesItOut) {
  EXPECT_EQ(run({"STOP"}, {"one S", "TO", "P two"}), (Outcome{"one ", 0}));
  EXPECT_EQ(run({"\n\n"}, {"a\n", "\nb"}), (Outcome{"a", 0}));
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"abcab!"});
  EXPECT_EQ(matcher.push("xab"), "x");
  EXPECT_EQ(matcher.push("ca"), "");
  EXPECT_EQ(matcher.push("bc"), "abc");  // "abc" may begin it again
  EXPECT_EQ(matcher.push("z"), "abcz");
  EXPECT_EQ(matcher.push("ab"), "");
  EXPECT_EQ(matcher.finish(), "ab");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, TheMatchThatEndsFirstWinsThenTheOneThatStartsFirst) {
  EXPECT_EQ(run({"abcd", "bc"}, {"xabcd"}), (Outcome{"xa", 1}));
  EXPECT_EQ(run({"c", "abc"}, {"xabc"}), (Outcome{"x", 1}));
}

TEST(StopMatcher, NothingComesAfterAMatch) {
  StopMatcher matcher({"a"});
  EXPECT_EQ(matcher.push("ba"), "b");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, MatchesInsideMultiByteText) {
  EXPECT_EQ(run({"é"}, {"caf\xC3", "\xA9!"}), (Outcome{"caf", 0}));
  EXPECT_EQ(run({"🛑"}, {"go \xF0\x9F", "\x9A\x80 on"}), (Outcome{"go 🚀 on", -1}));
}

TEST(StopMatcher, CuttingOfTheTextDoesNotMatter) {
  std::mt19937 rng(5);
  const auto letters = [&](size_t n) {
    std::string s;
    for (size_t i = 0; i < n; ++i) s += static_cast<char>('a' + rng() % 3);
    return s;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (uint32_t i = rng() % 4; i > 0; --i) stops.push_back(letters(1 + rng() % 6));
    const std::string text = letters(rng() % 40);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng() % 5;
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    ASSERT_EQ(run(stops, {text}), run(stops, pieces)) << text;
  }
}

}  // namespace
}  // namespace orcd::engine
