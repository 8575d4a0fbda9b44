#include "server/execute_request.h"

#include <gtest/gtest.h>

#include "server/error_reply.h"
#include "unit/server/small_tokenizer.h"

namespace orcd::server {
namespace {

using test::ByteTokenizer;

ExecuteRequest parse(const std::string& body) { return parse_execute(body, ByteTokenizer(), {}); }

// The parameters that a body is refused for, in order.
std::vector<std::string> refused(const std::string& body) {
  try {
    parse(body);
  } catch (const InvalidRequest& error) {
    std::vector<std::string> params;
    for (const Problem& problem : error.problems()) params.push_back(problem.param);
    return params;
  }
  return {"accepted"};
}

std::string with(const std::string& fields) {
  return R"({"job_id":"a","prompt":"p")" + (fields.empty() ? "" : "," + fields) + "}";
}

using Params = std::vector<std::string>;

TEST(ExecuteRequest, DefaultsAreThoseOfTheWireContract) {
  const engine::Request request = parse(with("")).request;
  EXPECT_EQ(request.id, "a");
  EXPECT_EQ(request.prompt_tokens, (std::vector<int32_t>{256, 'p'}));
  EXPECT_EQ(request.max_tokens, 2048u);
  sampling::SamplingParams expected;
  expected.seed = request.sampling.seed;
  EXPECT_EQ(request.sampling, expected);
  EXPECT_TRUE(request.stop.empty());
}

TEST(ExecuteRequest, EveryFieldReachesTheEngine) {
  const engine::Request request =
      parse(
          with(
              R"("max_tokens":7,"temperature":0.5,"top_p":0.25,"top_k":258,"min_p":0.125,"repetition_penalty":1.5,"stop":["x","yz"],"seed":18446744073709551615)"))
          .request;
  EXPECT_EQ(request.max_tokens, 7u);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.25f);
  EXPECT_EQ(request.sampling.top_k, 258u);
  EXPECT_EQ(request.sampling.min_p, 0.125f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request.stop, (std::vector<std::string>{"x", "yz"}));
  EXPECT_EQ(request.sampling.seed, ~uint64_t{0});
}

TEST(ExecuteRequest, ZeroWithASignIsZero) {
  const engine::Request request = parse(with(R"("seed":-0,"top_k":-0,"min_p":-0)")).request;
  EXPECT_EQ(request.sampling.seed, 0u);
  EXPECT_EQ(request.sampling.top_k, 0u);
  EXPECT_EQ(refused(with(R"("seed":-1,"top_k":-1,"max_tokens":-0)")),
            (Params{"max_tokens", "top_k", "seed"}));
}

TEST(ExecuteRequest, IdsAndPromptsHaveTheirLengths) {
  EXPECT_EQ(refused(R"({"job_id":")" + std::string(kMaxJobIdBytes + 1, 'a') + R"(","prompt":"p"})"),
            Params{"job_id"});
  EXPECT_EQ(refused(R"({"job_id":")" + std::string(kMaxJobIdBytes, 'a') + R"(","prompt":"p"})"),
            Params{"accepted"});
  const ByteTokenizer tokenizer;
  EXPECT_NO_THROW(parse_execute(with(""), tokenizer, {.max_tokens_in = 2}));
  try {
    parse_execute(with(""), tokenizer, {.max_tokens_in = 1});
    FAIL() << "two tokens were taken for one";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_NE(error.line().find("n_prompt_tokens=2"), std::string::npos) << error.line();
  }
}

TEST(ExecuteRequest, ASeedIsMadeWhenAbsentAndDiffersEachTime) {
  const uint64_t first = parse(with("")).request.sampling.seed,
                 second = parse(with("")).request.sampling.seed;
  EXPECT_NE(first, second);
  EXPECT_LT(first, uint64_t{1} << 53);
}

TEST(ExecuteRequest, AllProblemsAreToldAtOnce) {
  EXPECT_EQ(
      refused(
          R"({"job_id":"","max_tokens":0,"temperature":3,"top_p":-1,"top_k":259,"min_p":2,"repetition_penalty":2.1,"stop":[""],"seed":-1,"extra":1})"),
      (Params{"job_id", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p",
              "repetition_penalty", "stop[0]", "seed", "extra"}));
}

struct Refusal {
  const char* fields;
  const char* param;
};
class ExecuteRequestRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(ExecuteRequestRefusal, NamesTheField) {
  EXPECT_EQ(refused(with(GetParam().fields)), Params{GetParam().param});
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ExecuteRequestRefusal,
    testing::Values(
        Refusal{R"("max_tokens":1.0)", "max_tokens"}, Refusal{R"("max_tokens":"5")", "max_tokens"},
        Refusal{R"("max_tokens":true)", "max_tokens"}, Refusal{R"("max_tokens":null)", "max_tokens"},
        Refusal{R"("max_tokens":2049)", "max_tokens"}, Refusal{R"("max_tokens":4294967297)", "max_tokens"},
        Refusal{R"("max_tokens":-1)", "max_tokens"}, Refusal{R"("temperature":"hot")", "temperature"},
        Refusal{R"("temperature":-0.1)", "temperature"}, Refusal{R"("temperature":2.0001)", "temperature"},
        Refusal{R"("top_p":1.5)", "top_p"}, Refusal{R"("top_k":-1)", "top_k"},
        Refusal{R"("top_k":1e2)", "top_k"}, Refusal{R"("min_p":[])", "min_p"},
        Refusal{R"("repetition_penalty":{})", "repetition_penalty"}, Refusal{R"("stop":"x")", "stop"},
        Refusal{R"("stop":["a","b","c","d","e"])", "stop"}, Refusal{R"("stop":[1])", "stop[0]"},
        Refusal{R"("stop":["ok","aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])", "stop[1]"},
        Refusal{R"("seed":18446744073709551616)", "seed"}, Refusal{R"("seed":1.5)", "seed"},
        Refusal{R"("seed":"1")", "seed"}, Refusal{R"("job_id":"b")", "job_id"},
        Refusal{R"("Temperature":1)", "Temperature"}));

TEST(ExecuteRequest, PromptLengthCountsCharactersNotBytes) {
  const auto body = [](size_t n, const char* character) {
    std::string prompt;
    for (size_t i = 0; i < n; ++i) prompt += character;
    return R"({"job_id":"a","prompt":")" + prompt + "\"}";
  };
  EXPECT_EQ(parse(body(32768, "🌍")).prompt_characters, 32768u);
  EXPECT_EQ(parse(body(32768, "🌍")).prompt_bytes, 4 * 32768u);
  EXPECT_EQ(refused(body(32769, "a")), Params{"prompt"});
  EXPECT_EQ(refused(body(0, "")), Params{"prompt"});
}

TEST(ExecuteRequest, WhatIsNotJsonIsRefused) {
  for (const char* body : {"", "{", "[]", "null", "\"x\"", "{\"job_id\":\"a\",\"prompt\":\"\xff\"}",
                           "{\"job_id\":\"a\",\"prompt\":\"\\ud800\"}",
                           "{\"job_id\":\"a\",\"prompt\":\"p\",\"temperature\":NaN}",
                           "{\"job_id\":\"a\",\"prompt\":\"p\",\"temperature\":1e999}"}) {
    EXPECT_EQ(refused(body), Params{""}) << body;
  }
}

TEST(ExecuteRequest, DeepNestingIsRefusedWithoutRecursion) {
  EXPECT_EQ(refused(std::string(1000000, '[')), Params{""});
  EXPECT_EQ(refused(with("\"stop\":" + std::string(31, '[') + std::string(31, ']'))), Params{"stop[0]"});
}

TEST(ExecuteRequest, MarkersInThePromptBecomeTheirIdsAndBosIsNotDoubled) {
  EXPECT_EQ(parse(R"({"job_id":"a","prompt":"<s>x<s>"})").request.prompt_tokens,
            (std::vector<int32_t>{256, 'x', 256}));
}

TEST(ExecuteRequest, AMessageNeverQuotesThePrompt) {
  try {
    parse("{\"job_id\":\"a\",\"prompt\":\"the secret\", oops}");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos) << error.what();
  }
}

TEST(ExecuteRequest, APromptOverMaxTokensInIsRefusedWithTheNumbers) {
  const Reply reply = [] {
    try {
      parse_execute(with(""), ByteTokenizer(), {.max_tokens_in = 1, .max_tokens_out = 8});
    } catch (const Error& error) {
      return error_reply(error);
    }
    return Reply{};
  }();
  EXPECT_EQ(reply.status, 400);
  EXPECT_NE(reply.body.find(R"("param":"prompt")"), std::string::npos) << reply.body;
  EXPECT_NE(reply.body.find(R"("n_prompt_tokens":2)"), std::string::npos) << reply.body;
}

}  // namespace
}  // namespace orcd::server
