// Bodies whose refusal was larger than they were.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/error_reply.h"
#include "server/execute_request.h"
#include "server/text_requests.h"
#include "unit/server/small_tokenizer.h"

namespace orcd::server {
namespace {

constexpr size_t kSmall = 16 * 1024;

nlohmann::json refusal_of(const std::function<void()>& parse) {
  try {
    parse();
  } catch (const Error& error) {
    const Reply reply = error_reply(error);
    EXPECT_EQ(reply.status, 400);
    EXPECT_LT(reply.body.size(), kSmall);
    return nlohmann::json::parse(reply.body)["error"];
  }
  ADD_FAILURE() << "accepted";
  return {};
}

// Each of them was told with a sentence: 2 bytes in, 120 out, so that 4 MiB became 240 MiB.
TEST(JsonRegression, ManyWrongIdsAreToldByTheirNumber) {
  const test::ByteTokenizer tokenizer;
  std::string body = R"({"tokens":[-1)";
  for (int i = 1; i < 100'000; ++i) body += ",9999";
  const nlohmann::json error = refusal_of([&] { detokenize_json(body + "]}", tokenizer); });
  ASSERT_EQ(error["problems"].size(), 33u);
  EXPECT_EQ(error["problems"][0]["param"], "tokens[0]");
  EXPECT_EQ(error["problems"][32]["message"], "and 99968 more problems");
}

TEST(JsonRegression, AManyTimesUnknownNameIsToldByItsBeginning) {
  const test::ByteTokenizer tokenizer;
  std::string name;
  for (int i = 0; i < 100'000; ++i) name += "\u00e9\u4e2d";
  for (const std::string& body : {"{\"job_id\":\"j\",\"prompt\":\"x\",\"" + name + "\":1}",
                                  "{\"" + name + "\":1,\"" + name + "\":2}"}) {
    const nlohmann::json error = refusal_of([&] { parse_execute(body, tokenizer, {}); });
    EXPECT_LE(error["param"].get<std::string>().size(), 67u);
    EXPECT_TRUE(error["param"].get<std::string>().starts_with("\u00e9\u4e2d"));
  }
}

}  // namespace
}  // namespace orcd::server
