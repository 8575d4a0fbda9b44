#include "engine/request_limits.h"

#include <gtest/gtest.h>

#include <limits>

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

TEST(RequestLimits, EveryFieldThatIsWrongIsNamedWithItsRange) {
  const test::FakeTokenizer tokenizer(4);
  EXPECT_TRUE(request_problems(tokenizer, {}).empty());
  Request request;
  request.max_tokens = 0;
  request.sampling = {.temperature = 2.5f, .top_p = -1, .top_k = 5, .min_p = 2};
  request.sampling.repetition_penalty = std::numeric_limits<float>::quiet_NaN();
  request.stop = {"", "x"};
  std::string text;
  for (const FieldProblem& wrong : request_problems(tokenizer, request))
    text += wrong.field + " " + wrong.problem + "\n";
  EXPECT_EQ(text,
            "max_tokens must be at least 1\n"
            "temperature must be between 0 and 2, got 2.5\n"
            "top_p must be between 0 and 1, got -1\n"
            "top_k must be between 0 and 4, got 5\n"
            "min_p must be between 0 and 1, got 2\n"
            "repetition_penalty must be between 0 and 2, got nan\n"
            "stop must not be empty\n");
}

}  // namespace
}  // namespace orcd::engine
