#include "server/completion_json.h"

#include <nlohmann/json.hpp>

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;
using Kind = engine::TurnPart::Kind;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json usage_json(const CompletionHead& head, const CompletionUsage& usage) {
  Json json = {{"prompt_tokens", usage.prompt_tokens},
               {"completion_tokens", usage.completion_tokens},
               {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
               {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
  if (head.is_chat) json["completion_tokens_details"] = {{"reasoning_tokens", usage.reasoning_tokens}};
  return json;
}

// What it takes to ask for the same bits again, and to see that they are the same.
Json receipt_json(const engine::EndEvent& end) {
  return {{"seed", end.seed},
          {"model_digest", end.receipt.model_digest},
          {"logits_digest", end.receipt.logits_digest},
          {"numerics_version", end.receipt.numerics_version}};
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

std::string chunk(const CompletionHead& head, Json choices, Json usage = nullptr) {
  Json json = head_json(head, "chat.completion.chunk");
  json["choices"] = std::move(choices);
  if (head.include_usage) json["usage"] = std::move(usage);
  return dump(json);
}

// `content`: the delta of a chat, the text of a completion.
std::string choice_chunk(const CompletionHead& head, size_t choice, Json content,
                         const char* finish_reason = nullptr, const engine::EndEvent* end = nullptr) {
  Json json = {{"index", choice}};
  json[head.is_chat ? "delta" : "text"] = std::move(content);
  json["logprobs"] = nullptr;
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
    json["logprobs"] = nullptr;
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
  return choice_chunk(head, choice, {{"role", "assistant"}, {"content", ""}});
}

std::string part_chunk(const CompletionHead& head, size_t choice, const engine::TurnPart& part, size_t call,
                       std::string_view call_id) {
  if (!head.is_chat) return choice_chunk(head, choice, part.text);
  switch (part.kind) {
    case Kind::kContent:
      return choice_chunk(head, choice, {{"content", part.text}});
    case Kind::kReasoning:
      return choice_chunk(head, choice, {{"reasoning_content", part.text}});
    case Kind::kCall: {
      Json begun = call_json({std::string(call_id), part.text, ""});
      begun["index"] = call;
      return choice_chunk(head, choice, {{"tool_calls", Json::array({std::move(begun)})}});
    }
    case Kind::kArguments:
      break;
  }
  const Json more = {{"index", call}, {"function", {{"arguments", part.text}}}};
  return choice_chunk(head, choice, {{"tool_calls", Json::array({more})}});
}

std::string end_chunk(const CompletionHead& head, size_t choice, const char* finish_reason,
                      const engine::EndEvent& end) {
  return choice_chunk(head, choice, head.is_chat ? Json::object() : Json(""), finish_reason, &end);
}

std::string usage_chunk(const CompletionHead& head, const CompletionUsage& usage) {
  return chunk(head, Json::array(), usage_json(head, usage));
}

}  // namespace orcd::server
