// The bodies of /tokenize, /detokenize and /apply-template: what templates get to see of a conversation, and
// what is refused.
#include "server/text_requests.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "jinja/json.h"
#include "server/chat_messages.h"
#include "server/error_reply.h"
#include "server/json_input.h"
#include "unit/server/small_tokenizer.h"

namespace orcd::server {
namespace {

using Params = std::vector<std::string>;

template <class Function>
Params refused(Function&& function) {
  try {
    function();
  } catch (const InvalidRequest& error) {
    Params params;
    for (const Problem& problem : error.problems()) params.push_back(problem.param);
    return params;
  }
  return {"accepted"};
}

// The variables of a body, as JSON.
std::string variables(const std::string& body) {
  const nlohmann::json document = parse_json(body);
  Fields fields(document);
  jinja::Dict taken = take_chat_variables(fields, body);
  fields.finish();
  return jinja::to_json(jinja::Value(std::move(taken)), {});
}
std::string messages(const std::string& list) {
  const std::string all = variables(R"({"messages":[)" + list + R"(],"add_generation_prompt":false})");
  const std::string begin = R"({"messages": [)", end = R"(], "add_generation_prompt": false})";
  EXPECT_TRUE(all.starts_with(begin) && all.ends_with(end)) << all;
  return all.substr(begin.size(), all.size() - begin.size() - end.size());
}

TEST(ChatMessages, TextPartsBecomeOneTextAndOthersStay) {
  EXPECT_EQ(messages(R"({"role":"user","content":[{"type":"text","text":"a"},{"text":"b","type":"text"}]})"),
            R"({"role": "user", "content": "ab"})");
  for (const char* part :
       {R"({"type": "image"})", R"({"text": "a"})", R"({"type": 1, "text": "a"})", R"({"type": "text"})",
        R"({"type": "text", "text": 1})", R"("a")", R"({"type": "image", "text": "a"})"}) {
    const std::string message = R"({"role": "user", "content": [)" + std::string(part) + "]}";
    EXPECT_EQ(messages(message), message);
  }
  EXPECT_EQ(messages(R"({"role": "user", "content": []})"), R"({"role": "user", "content": ""})");
}

TEST(ChatMessages, ContentThatIsMissingIsEmptyOrNoneBesideCalls) {
  EXPECT_EQ(messages(R"({"role": "user"})"), R"({"role": "user", "content": ""})");
  EXPECT_EQ(messages(R"({"role": "user", "content": null})"), R"({"role": "user", "content": null})");
  EXPECT_EQ(messages(R"({"role": "assistant", "tool_calls": []})"),
            R"({"role": "assistant", "tool_calls": [], "content": null})");
  EXPECT_EQ(messages(R"({"role": "assistant", "tool_calls": "none", "content": "x"})"),
            R"({"role": "assistant", "tool_calls": "none", "content": "x"})");
}

TEST(ChatMessages, ArgumentsThatAreJsonTextOfAnObjectBecomeThatObject) {
  const auto call = [](const std::string& call_json) {
    const std::string all = messages(R"({"role": "a", "content": "", "tool_calls": [)" + call_json + "]}");
    const std::string begin = R"({"role": "a", "content": "", "tool_calls": [)";
    return all.substr(begin.size(), all.size() - begin.size() - 2);
  };
  EXPECT_EQ(call(R"({"id": "x", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}})"),
            R"({"id": "x", "function": {"name": "f", "arguments": {"b": 1, "a": [2]}}})");
  for (const char* same :
       {R"({"function": {"name": "f", "arguments": "[1]"}})",
        R"({"function": {"name": "f", "arguments": "{"}})",
        R"({"function": {"name": "f", "arguments": {"a": 1}}})", R"({"function": {"name": "f"}})",
        R"({"function": "f"})", R"({"id": 1})", R"("call")"}) {
    EXPECT_EQ(call(same), same);
  }
}

TEST(ChatMessages, ToolsAndKeywordsAreVariables) {
  EXPECT_EQ(
      variables(
          R"({"messages": [], "tools": [{"b": 1, "a": 2}], "chat_template_kwargs": {"z": 1, "y": {}}})"),
      R"({"z": 1, "y": {}, "messages": [], "tools": [{"b": 1, "a": 2}], "add_generation_prompt": true})");
  for (const char* none : {"[]", "null"}) {
    EXPECT_EQ(variables(R"({"messages": [], "tools": )" + std::string(none) + "}"),
              R"({"messages": [], "add_generation_prompt": true})");
  }
}

TEST(ChatMessages, WhatIsNoConversationIsRefusedByField) {
  const auto params = [](const std::string& body) { return refused([&] { variables(body); }); };
  EXPECT_EQ(params("{}"), Params{"messages"});
  EXPECT_EQ(
      params(R"({"messages": {}, "tools": 1, "chat_template_kwargs": [], "add_generation_prompt": "yes"})"),
      (Params{"add_generation_prompt", "messages", "tools", "chat_template_kwargs"}));
  EXPECT_EQ(
      params(
          R"({"messages": ["hi", {"content": "x"}, {"role": 1}, {"role": "user", "content": 1}], "x": 1})"),
      (Params{"messages[0]", "messages[1].role", "messages[2].role", "messages[3].content", "x"}));
}

TEST(TextRequests, TokensComeWithTheirPiecesOnRequest) {
  const test::ByteTokenizer tokenizer;
  EXPECT_EQ(tokenize_json(R"({"content": "a<s>"})", tokenizer), R"({"tokens":[97,256]})");
  EXPECT_EQ(tokenize_json(R"({"content": "a", "add_special": true, "parse_special": false})", tokenizer),
            R"({"tokens":[256,97]})");
  EXPECT_EQ(tokenize_json(R"({"content": "aé", "with_pieces": true})", tokenizer),
            R"({"tokens":[{"id":97,"piece":"a"},{"id":195,"piece":[195]},{"id":169,"piece":[169]}]})");
  EXPECT_EQ(refused([&] { tokenize_json(R"({"content": 1, "with_pieces": 1, "add": true})", tokenizer); }),
            (Params{"content", "with_pieces", "add"}));
}

TEST(TextRequests, IdsAreCheckedOneByOne) {
  const test::ByteTokenizer tokenizer;
  EXPECT_EQ(detokenize_json(R"({"tokens": [97, 195, 169, 255]})", tokenizer), "{\"content\":\"aé\uFFFD\"}");
  for (const char* body : {"{}", R"({"tokens": "97"})", R"({"tokens": {"0": 97}})"})
    EXPECT_EQ(refused([&] { detokenize_json(body, tokenizer); }), Params{"tokens"}) << body;
  EXPECT_EQ(
      refused([&] { detokenize_json(R"({"tokens": [97, -1, 1.5, "a", 99999999999, null]})", tokenizer); }),
      (Params{"tokens[1]", "tokens[2]", "tokens[3]", "tokens[4]", "tokens[5]"}));
}

}  // namespace
}  // namespace orcd::server
