#include "server/completion_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "server/execute_request.h"
#include "server/json_text.h"
#include "server/receipt.h"

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;
using Kind = engine::TurnPart::Kind;

// What is not UTF-8 as U+FFFD: two tokens of a part of a character may then look alike.
std::string as_utf8(const std::string& bytes) { return Json::parse(dump(bytes)).get<std::string>(); }

Json usage_json(const CompletionHead& head, const CompletionUsage& usage) {
  Json json = {{"prompt_tokens", usage.prompt_tokens},
               {"completion_tokens", usage.completion_tokens},
               {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
               {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
  if (head.is_chat) json["completion_tokens_details"] = {{"reasoning_tokens", usage.reasoning_tokens}};
  return json;
}

Json head_json(const CompletionHead& head, const char* chat_object) {
  return {{"id", head.id},
          {"object", head.is_chat ? chat_object : "text_completion"},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint}};
}

Json call_json(const ToolCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

Json message_json(const CompletionMessage& message) {
  Json json = {{"role", "assistant"}};
  const bool has_content = !message.content.empty() || message.calls.empty();
  json["content"] = has_content ? Json(message.content) : Json(nullptr);
  json["refusal"] = nullptr;
  if (!message.reasoning.empty()) json["reasoning_content"] = message.reasoning;
  if (!message.calls.empty()) {
    Json calls = Json::array();
    for (const ToolCall& call : message.calls) calls.push_back(call_json(call));
    json["tool_calls"] = std::move(calls);
  }
  return json;
}

// JSON has no infinities; the number is vLLM's.
double finite(float logprob) { return std::isfinite(logprob) ? static_cast<double>(logprob) : -9999.0; }

Json bytes_json(const std::string& bytes) {
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<uint8_t>(c));
  return list;
}

Json token_json(const TokenText& token) {
  return {{"token", token.bytes}, {"logprob", finite(token.logprob)}, {"bytes", bytes_json(token.bytes)}};
}

Json chat_logprobs(const std::vector<TokenText>& tokens) {
  Json content = Json::array();
  for (const TokenText& token : tokens) {
    Json json = token_json(token);
    json["top_logprobs"] = Json::array();
    for (const TokenText& top : token.top) json["top_logprobs"].push_back(token_json(top));
    content.push_back(std::move(json));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

// Of tokens that are spelled alike the likelier one stays.
Json top_json(const TokenText& token) {
  Json json = Json::object();
  for (const TokenText& top : token.top) json.emplace(as_utf8(top.bytes), finite(top.logprob));
  json.emplace(as_utf8(token.bytes), finite(token.logprob));
  return json;
}

Json text_logprobs(const std::vector<TokenText>& tokens, size_t offset) {
  Json texts = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const TokenText& token : tokens) {
    texts.push_back(token.bytes);
    logprobs.push_back(finite(token.logprob));
    tops.push_back(top_json(token));
    offsets.push_back(offset);
    offset += count_characters(token.bytes);
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json logprobs_json(const CompletionHead& head, const std::vector<TokenText>& tokens, size_t offset) {
  if (!head.logprobs) return nullptr;
  return head.is_chat ? chat_logprobs(tokens) : text_logprobs(tokens, offset);
}

std::string chunk(const CompletionHead& head, Json choices, Json usage = nullptr) {
  Json json = head_json(head, "chat.completion.chunk");
  json["choices"] = std::move(choices);
  if (head.include_usage) json["usage"] = std::move(usage);
  return dump(json);
}

// `content`: the delta of a chat, the text of a completion. tokens: none means null.
std::string choice_chunk(const CompletionHead& head, size_t choice, Json content, const ChunkTokens& tokens,
                         const char* finish_reason = nullptr, const engine::EndEvent* end = nullptr) {
  Json json = {{"index", choice}};
  json[head.is_chat ? "delta" : "text"] = std::move(content);
  json["logprobs"] =
      tokens.tokens.empty() ? Json(nullptr) : logprobs_json(head, tokens.tokens, tokens.offset);
  json["finish_reason"] = finish_reason ? Json(finish_reason) : Json(nullptr);
  if (end) json["receipt"] = receipt_json(*end);
  return chunk(head, Json::array({std::move(json)}));
}

}  // namespace

std::string completion_json(const CompletionHead& head, const std::vector<CompletionMessage>& choices,
                            const CompletionUsage& usage) {
  Json list = Json::array();
  for (const CompletionMessage& message : choices) {
    Json json = {{"index", list.size()}};
    json[head.is_chat ? "message" : "text"] = head.is_chat ? message_json(message) : Json(message.content);
    json["logprobs"] = logprobs_json(head, message.tokens, 0);
    json["finish_reason"] = message.finish_reason;
    json["receipt"] = receipt_json(message.end);
    list.push_back(std::move(json));
  }
  Json json = head_json(head, "chat.completion");
  json["choices"] = std::move(list);
  json["usage"] = usage_json(head, usage);
  return dump(json);
}

std::string role_chunk(const CompletionHead& head, size_t choice) {
  return choice_chunk(head, choice, {{"role", "assistant"}, {"content", ""}}, {});
}

std::string part_chunk(const CompletionHead& head, size_t choice, const engine::TurnPart& part, size_t call,
                       std::string_view call_id, const ChunkTokens& tokens) {
  if (!head.is_chat) return choice_chunk(head, choice, part.text, tokens);
  switch (part.kind) {
    case Kind::kContent:
      return choice_chunk(head, choice, {{"content", part.text}}, tokens);
    case Kind::kReasoning:
      return choice_chunk(head, choice, {{"reasoning_content", part.text}}, tokens);
    case Kind::kCall: {
      Json begun = call_json({std::string(call_id), part.text, ""});
      begun["index"] = call;
      return choice_chunk(head, choice, {{"tool_calls", Json::array({std::move(begun)})}}, tokens);
    }
    case Kind::kArguments:
      break;
  }
  const Json more = {{"index", call}, {"function", {{"arguments", part.text}}}};
  return choice_chunk(head, choice, {{"tool_calls", Json::array({more})}}, tokens);
}

std::string end_chunk(const CompletionHead& head, size_t choice, const char* finish_reason,
                      const engine::EndEvent& end, const ChunkTokens& tokens) {
  return choice_chunk(head, choice, head.is_chat ? Json::object() : Json(""), tokens, finish_reason, &end);
}

std::string usage_chunk(const CompletionHead& head, const CompletionUsage& usage) {
  return chunk(head, Json::array(), usage_json(head, usage));
}

}  // namespace orcd::server
