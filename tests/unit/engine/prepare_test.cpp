#include "engine/prepare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace orcd::engine {
namespace {

std::vector<std::string> names(const std::vector<Problem>& problems) {
  std::vector<std::string> out;
  for (const Problem& p : problems) out.push_back(p.param);
  return out;
}

TEST(Validate, AcceptsDefaultsAndTheEdges) {
  EXPECT_TRUE(validate({}, 1, 2048, {}, 100).empty());
  sampling::SamplingParams params;
  params.temperature = 2;
  params.top_p = 0;
  params.top_k = 100;
  params.min_p = 1;
  params.repetition_penalty = 0;
  EXPECT_TRUE(validate(params, 2048, 2048, {"a", "b", "c", "d"}, 100).empty());
}

TEST(Validate, NamesEveryProblemAtOnce) {
  sampling::SamplingParams params;
  params.temperature = 2.5f;
  params.top_p = std::nanf("");
  params.top_k = 101;
  params.min_p = -0.1f;
  params.repetition_penalty = 3;
  const auto problems = validate(params, 0, 2048, {"a", "", "c", "d", "e"}, 100);
  EXPECT_EQ(names(problems), (std::vector<std::string>{"max_tokens", "temperature", "top_p", "top_k", "min_p",
                                                       "repetition_penalty", "stop", "stop[1]"}));
  EXPECT_EQ(problems[1].message, "must be between 0 and 2, got 2.5");
  try {
    throw_problems(problems);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    for (const Problem& p : problems) EXPECT_NE(error.message().find(p.param), std::string::npos);
  }
  EXPECT_NO_THROW(throw_problems({}));
}

}  // namespace
}  // namespace orcd::engine
