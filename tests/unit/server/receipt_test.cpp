#include "server/receipt.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/error_reply.h"
#include "unit/server/small_tokenizer.h"

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;
using test::ByteTokenizer;

engine::EndEvent some_end() {
  engine::EndEvent end{};
  end.prompt_tokens = 5;
  end.tokens_out = 8;
  end.receipt.model_digest = std::string(32, 'a');
  end.receipt.logits_digest = "00112233445566778899aabbccddeeff";
  end.receipt.logits_rows = 9;
  end.receipt.sampling = {.temperature = 0.7f,
                          .top_p = 0.95f,
                          .top_k = 40,
                          .min_p = 1e-7f,
                          .repetition_penalty = 1.1f,
                          .seed = UINT64_MAX,
                          .choice = 3};
  return end;
}

WrittenReceipt parse(const std::string& text) { return parse_receipt(text, ByteTokenizer()); }

std::vector<std::string> refused(const Json& json) {
  try {
    parse(json.dump());
  } catch (const InvalidRequest& error) {
    std::vector<std::string> params;
    for (const Problem& problem : error.problems()) params.push_back(problem.param);
    return params;
  }
  return {"accepted"};
}

TEST(Receipt, ComesBackAsItWasWritten) {
  const engine::EndEvent end = some_end();
  for (const bool nested : {false, true}) {
    const Json json = receipt_json(end);
    const WrittenReceipt back = parse((nested ? Json{{"receipt", json}, {"text", "x"}} : json).dump());
    EXPECT_EQ(back.receipt.sampling, end.receipt.sampling);
    EXPECT_EQ(back.receipt.model_digest, end.receipt.model_digest);
    EXPECT_EQ(back.receipt.logits_digest, end.receipt.logits_digest);
    EXPECT_EQ(back.receipt.logits_rows, 9u);
    EXPECT_EQ(back.receipt.numerics_version, 1u);
    EXPECT_EQ(back.prompt_tokens, 5u);
    EXPECT_EQ(back.prompt_ids, std::nullopt);
    EXPECT_EQ(back.answer_ids, std::nullopt);
  }
}

TEST(Receipt, NumbersAreWrittenAsTheyWereGiven) {
  EXPECT_EQ(
      receipt_json(some_end())["sampling"].dump(),
      R"({"temperature":0.7,"top_p":0.95,"top_k":40,"min_p":1e-07,"repetition_penalty":1.1,"choice":3})");
  EXPECT_EQ(receipt_json(some_end())["seed"].dump(), "18446744073709551615");
}

TEST(Receipt, TokensStandBesideIt) {
  const Json json = {
      {"receipt", receipt_json(some_end())}, {"prompt_token_ids", {1, 2}}, {"token_ids", Json::array()}};
  const WrittenReceipt back = parse(json.dump());
  EXPECT_EQ(back.prompt_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(back.answer_ids, std::vector<int32_t>{});
  for (const Json& wrong : {Json("1"), Json{-1}, Json{1.5}, Json{2147483648}, Json{"1"}}) {
    Json other = json;
    other["token_ids"] = wrong;
    EXPECT_EQ(refused(other), std::vector<std::string>{"token_ids"}) << wrong;
  }
}

TEST(Receipt, WhatIsMissingOrWrongIsToldAtOnce) {
  Json json = receipt_json(some_end());
  EXPECT_EQ(refused(json), std::vector<std::string>{"accepted"});
  EXPECT_EQ(refused(Json::object()),
            (std::vector<std::string>{"sampling", "seed", "model_digest", "logits_digest", "logits_rows",
                                      "numerics_version", "prompt_tokens"}));
  json["logits_digest"] = "0x";
  json["logits_rows"] = 0;
  json["note"] = 1;
  EXPECT_EQ(refused(json), (std::vector<std::string>{"logits_digest", "logits_rows", "note"}));
  json = receipt_json(some_end());
  json["sampling"] = {{"temperature", 3}, {"heat", 1}};
  EXPECT_EQ(refused(json), (std::vector<std::string>{"temperature", "heat"}));
  json["sampling"] = 1;
  EXPECT_EQ(refused(json), std::vector<std::string>{"sampling"});
  EXPECT_EQ(refused(Json{{"receipt", 1}}), std::vector<std::string>{"receipt"});
  EXPECT_EQ(refused(Json::array()), std::vector<std::string>{""});
}

}  // namespace
}  // namespace orcd::server
