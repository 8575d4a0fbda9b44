#include "engine/request_limits.h"

#include <gtest/gtest.h>

#include "support/fake_tokenizer.h"

namespace orcd::engine {
namespace {

TEST(RequestLimits, StopStringsAreCountedInTokens) {
  const test::FakeTokenizer tokenizer(4);
  EXPECT_EQ(stop_problem(tokenizer, ""), "must not be empty");
  EXPECT_EQ(stop_problem(tokenizer, "x"), "");
  EXPECT_EQ(stop_problem(tokenizer, std::string(32, 'x')), "");
  EXPECT_EQ(stop_problem(tokenizer, std::string(33, 'x')), "must have at most 32 tokens, got 33");
  EXPECT_EQ(stop_count_problem(0), "");
  EXPECT_EQ(stop_count_problem(4), "");
  EXPECT_EQ(stop_count_problem(5), "must have at most 4 strings, got 5");
}

}  // namespace
}  // namespace orcd::engine
