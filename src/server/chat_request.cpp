#include "server/chat_request.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "engine/harmony.h"
#include "engine/prompt.h"
#include "server/chat_messages.h"
#include "server/json_input.h"

namespace orcd::server {
namespace {

using nlohmann::json;

constexpr std::array kRoles = {"system", "developer", "user", "assistant", "tool"};

// "f[3].g", for the messages about it.
std::string at(const std::string& name, size_t i) { return name + "[" + std::to_string(i) + "]"; }

void check_content(const json& message, const std::string& role, const std::string& name, Fields& fields) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    if (role != "assistant") fields.problem(name + ".content", "is required", kMissing);
    return;
  }
  if (!content->is_array()) return;  // take_chat_variables() says what else it must be
  for (size_t i = 0; i < content->size(); ++i) {
    const json& part = (*content)[i];
    const std::string path = at(name + ".content", i);
    const json type = part.is_object() ? part.value("type", json()) : json();
    if (!type.is_string()) {
      fields.problem(path, "must be an object with a type", kInvalidType);
    } else if (type != "text") {
      fields.problem(path + ".type",
                     clipped(type.get<std::string>()) + " is not supported: this worker reads text",
                     kUnsupported);
    } else if (!part.contains("text") || !part["text"].is_string()) {
      fields.problem(path + ".text", "must be a string", kInvalidType);
    }
  }
}

void check_calls(const json& message, const std::string& name, Fields& fields) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || calls->is_null()) return;
  if (!calls->is_array()) return fields.problem(name + ".tool_calls", "must be an array", kInvalidType);
  for (size_t i = 0; i < calls->size(); ++i) {
    const json& call = (*calls)[i];
    const json function = call.is_object() ? call.value("function", json()) : json();
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
      fields.problem(at(name + ".tool_calls", i), "must be an object with function.name", kInvalidType);
  }
}

// Beside what take_chat_variables() finds.
void check_messages(const json& body, Fields& fields) {
  const auto messages = body.find("messages");
  if (messages == body.end() || !messages->is_array()) return;
  if (messages->empty() || messages->size() > kMaxMessages) {
    fields.problem("messages", "must have 1 to " + std::to_string(kMaxMessages) + " messages, got " +
                                   std::to_string(messages->size()));
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    const json& message = (*messages)[i];
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) continue;
    const auto& role = message["role"].get_ref<const std::string&>();
    const std::string name = at("messages", i);
    if (std::ranges::find(kRoles, role) == kRoles.end())
      fields.problem(name + ".role",
                     "must be system, developer, user, assistant or tool, not " + clipped(role));
    check_content(message, role, name, fields);
    if (role == "assistant") check_calls(message, name, fields);
  }
}

void check_tools(const json& body, Fields& fields) {
  const auto tools = body.find("tools");
  if (tools == body.end() || !tools->is_array()) return;
  if (tools->size() > kMaxTools) {
    fields.problem("tools", "must have at most " + std::to_string(kMaxTools) + " tools, got " +
                                std::to_string(tools->size()));
  }
  for (size_t i = 0; i < tools->size(); ++i) {
    const json& tool = (*tools)[i];
    const std::string name = at("tools", i);
    const json type = tool.is_object() ? tool.value("type", json()) : json();
    if (!type.is_string()) {
      fields.problem(name, "must be an object with a type", kInvalidType);
    } else if (type != "function") {
      fields.problem(name + ".type", clipped(type.get<std::string>()) + " is not supported: give functions",
                     kUnsupported);
    } else if (const json function = tool.value("function", json());
               !function.is_object() || !function.contains("name") || !function["name"].is_string() ||
               function["name"].get_ref<const std::string&>().empty()) {
      fields.problem(name + ".function", "must be an object with a name", kInvalidType);
    }
  }
}

// Whether tools are offered. What forces a call needs a grammar.
bool take_tool_choice(const json& body, Fields& fields) {
  const json* choice = fields.take("tool_choice");
  const auto tools = body.find("tools");
  const bool has_tools = tools != body.end() && tools->is_array() && !tools->empty();
  if (!choice || *choice == "auto") return has_tools;
  if (*choice == "none") return false;
  const bool forces = choice->is_object() || *choice == "required";
  fields.problem(
      "tool_choice",
      forces ? "must be auto or none: this worker cannot force a model to call" : "must be auto or none",
      forces ? kUnsupported : "");
  return false;
}

void take_neutral_fields(Fields& fields) {
  take_neutral(fields, "modalities", R"([["text"]])");
  take_neutral(fields, "verbosity", R"(["medium"])");
  take_neutral(fields, "functions", "[[]]");
  take_neutral(fields, "function_call", R"(["none","auto"])");
  take_neutral(fields, "echo", "[false]");
  take_neutral(fields, "continue_final_message", "[false]");
  take_neutral(fields, "add_special_tokens", "[false]");
  take_neutral(fields, "include_reasoning", "[true]");
  take_neutral(fields, "reasoning_format", R"(["auto","deepseek"])");
  take_neutral(fields, "parse_tool_calls", "[true]");
  for (const char* name : {"audio", "prediction", "web_search_options", "moderation"})
    take_neutral(fields, name, "[]");
}

std::optional<uint32_t> take_logprobs(Fields& fields) {
  const bool wanted = fields.flag("logprobs", false);
  const uint32_t n_top = take_top_logprobs(fields, "top_logprobs");
  if (n_top > 0 && !wanted) fields.problem("top_logprobs", "is only for requests with logprobs: true");
  return wanted ? std::optional(n_top) : std::nullopt;
}

void take_response_format(Fields& fields) {
  const json* format = fields.take("response_format");
  if (!format) return;
  if (!format->is_object() || !format->contains("type")) {
    fields.problem("response_format", "must be an object with a type", kInvalidType);
  } else if ((*format)["type"] != "text") {
    fields.problem("response_format",
                   "must be {\"type\":\"text\"}: this worker cannot hold a model to a format", kUnsupported);
  }
}

bool ends_in_thought(std::string_view prompt) {
  const size_t last = prompt.find_last_not_of(engine::kBlanks);
  return last != prompt.npos && prompt.substr(0, last + 1).ends_with(engine::kThoughtOpen);
}

// How the turn of a model that marks its parts in the text is read.
void set_turn(CompletionRequest* out, engine::Request* request, const std::string& prompt,
              const engine::Chat& chat, const tokenizer::Tokenizer& tokenizer) {
  out->is_harmony = engine::HarmonyTokens::find(tokenizer).has_value();
  request->split_channels = out->is_harmony;
  if (out->is_harmony) return;
  out->turn.thinks = chat.mentions(engine::kThoughtClose) || tokenizer.token_id(engine::kThoughtClose) >= 0;
  out->turn.in_thought = out->turn.thinks && ends_in_thought(prompt);
  out->turn.calls = out->offers_tools;
  const auto show = [&](bool used, std::string_view mark) {
    const int32_t id = used ? tokenizer.token_id(mark) : -1;
    if (id >= 0 && tokenizer.is_control(id)) request->shown_tokens.push_back(id);
  };
  for (const std::string_view mark : {engine::kThoughtOpen, engine::kThoughtClose})
    show(out->turn.thinks, mark);
  for (const std::string_view mark : {engine::kCallOpen, engine::kCallClose}) show(out->turn.calls, mark);
}

}  // namespace

CompletionRequest parse_chat(std::string_view body, const engine::Chat& chat,
                             const CompletionContext& context) {
  const json document = parse_json(body);
  Fields fields(document, /*null_is_absent=*/true);
  CompletionRequest out;
  out.is_chat = true;
  jinja::Dict variables = take_chat_variables(fields, body);
  check_messages(document, fields);
  check_tools(document, fields);
  engine::Request request = take_common_fields(fields, context, context.limits.max_tokens_out, &out);
  out.offers_tools = take_tool_choice(document, fields);
  out.parallel_tool_calls = fields.flag("parallel_tool_calls", true);
  const json* effort = fields.take("reasoning_effort");
  if (effort && !effort->is_string()) fields.problem("reasoning_effort", "must be a string", kInvalidType);
  request.top_logprobs = take_logprobs(fields);
  take_response_format(fields);
  take_neutral_fields(fields);
  finish_fields(fields, context);

  if (effort) variables.set("reasoning_effort", effort->get<std::string>());
  if (!out.offers_tools && variables.find("tools")) variables.set("tools", jinja::None{});
  const engine::GuardedPrompt prompt = chat_prompt(chat, std::move(variables));
  set_turn(&out, &request, prompt.text, chat, context.tokenizer);
  add_prompt(&out, request, engine::encode_prompt(context.tokenizer, prompt.text, prompt.guards), prompt.text,
             context);
  out.prompt_sha256 = sha256_hex(prompt.text);
  return out;
}

}  // namespace orcd::server
