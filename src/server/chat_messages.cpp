#include "server/chat_messages.h"

#include "base/error.h"
#include "jinja/json.h"

namespace orcd::server {
namespace {

using jinja::Dict;
using jinja::Value;

// The text of parts that are all text; otherwise the parts as they are.
Value joined_parts(const Value& content) {
  std::string text;
  for (const Value& part : content.as_sequence()->items) {
    const Dict* dict = part.as_dict();
    const Value* type = dict ? dict->find("type") : nullptr;
    const Value* part_text = dict ? dict->find("text") : nullptr;
    if (!type || !type->is_string() || *type->as_string() != "text" || !part_text ||
        !part_text->is_string()) {
      return content;
    }
    text += *part_text->as_string();
  }
  return text;
}

Value with_parsed_arguments(const Value& call) {
  const Dict* dict = call.as_dict();
  const Value* function = dict ? dict->find("function") : nullptr;
  const Dict* fields = function ? function->as_dict() : nullptr;
  const Value* arguments = fields ? fields->find("arguments") : nullptr;
  if (!arguments || !arguments->is_string()) return call;
  Value parsed;
  try {
    parsed = jinja::parse_json(*arguments->as_string());
  } catch (const Error&) {
    return call;  // a model may have written what is not JSON: the template gets the text
  }
  if (!parsed.as_dict()) return call;
  Dict changed_function = *fields, changed = *dict;
  changed_function.set("arguments", std::move(parsed));
  changed.set("function", std::move(changed_function));
  return changed;
}

Value prepared_message(const Value& message, const std::string& name, Fields& fields) {
  const Dict* dict = message.as_dict();
  if (!dict) return fields.problem(name, "must be an object", kInvalidType), Value();
  const Value* role = dict->find("role");
  if (!role || !role->is_string()) fields.problem(name + ".role", "must be a string", kInvalidType);
  Dict out;
  for (const auto& [key, value] : dict->entries()) {
    const std::string& field = *key.as_string();
    const bool is_list = value.is_sequence(jinja::SequenceKind::kList);
    if (field == "content" && is_list) {
      out.set(key, joined_parts(value));
    } else if (field == "content" && !value.is_string() && !value.is_none()) {
      fields.problem(name + ".content", "must be a string, an array of parts, or null", kInvalidType);
    } else if (field == "tool_calls" && is_list) {
      std::vector<Value> calls;
      for (const Value& call : value.as_sequence()->items) calls.push_back(with_parsed_arguments(call));
      out.set(key, Value::list(std::move(calls)));
    } else {
      out.set(key, value);
    }
  }
  if (!dict->find("content")) out.set("content", dict->find("tool_calls") ? Value(jinja::None{}) : Value(""));
  return out;
}

// Templates that know no developer call the same role system.
void rename_developers(Dict* variables) {
  std::vector<Value> messages;
  for (const Value& message : variables->find("messages")->as_sequence()->items) {
    Dict renamed = *message.as_dict();
    if (*renamed.find("role")->as_string() == "developer") renamed.set("role", "system");
    messages.emplace_back(std::move(renamed));
  }
  variables->set("messages", Value::list(std::move(messages)));
}

// Many templates put texts together, and know no content that is null: what an answer of tool calls alone
// has.
engine::GuardedPrompt prompt_with_text(const engine::Chat& chat, Dict variables) {
  std::vector<Value> messages;
  bool has_null = false;
  for (const Value& message : variables.find("messages")->as_sequence()->items) {
    Dict filled = *message.as_dict();
    const Value* content = filled.find("content");
    if (content && content->is_none()) {
      has_null = true;
      filled.set("content", "");
    }
    messages.emplace_back(std::move(filled));
  }
  if (!has_null) return chat.prompt(std::move(variables));
  try {
    return chat.prompt(variables);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidRequest) throw;
    variables.set("messages", Value::list(std::move(messages)));
    return chat.prompt(std::move(variables));
  }
}

}  // namespace

jinja::Dict take_chat_variables(Fields& fields, std::string_view body) {
  Dict variables;
  const bool generates = fields.flag("add_generation_prompt", true);
  const nlohmann::json* messages = fields.take("messages");
  const nlohmann::json* tools = fields.take("tools");
  const nlohmann::json* more = fields.take("chat_template_kwargs");
  if (!messages) {
    fields.problem("messages", "is required", kMissing);
  } else if (!messages->is_array()) {
    fields.problem("messages", "must be an array, not " + Fields::kind(*messages), kInvalidType);
  }
  if (tools && !tools->is_array() && !tools->is_null())
    fields.problem("tools", "must be an array", kInvalidType);
  if (more && !more->is_object()) fields.problem("chat_template_kwargs", "must be an object", kInvalidType);

  const Value ordered = jinja::parse_json(body);
  const Dict& root = *ordered.as_dict();
  if (more && more->is_object()) {
    for (const auto& [name, value] : root.find("chat_template_kwargs")->as_dict()->entries())
      variables.set(name, value);
  }
  if (messages && messages->is_array()) {
    std::vector<Value> list;
    for (const Value& message : root.find("messages")->as_sequence()->items) {
      list.push_back(prepared_message(message, "messages[" + std::to_string(list.size()) + "]", fields));
    }
    variables.set("messages", Value::list(std::move(list)));
  }
  if (tools && tools->is_array() && !tools->empty()) variables.set("tools", *root.find("tools"));
  variables.set("add_generation_prompt", generates);
  return variables;
}

engine::GuardedPrompt chat_prompt(const engine::Chat& chat, Dict variables) {
  if (!chat.mentions("developer")) rename_developers(&variables);
  return prompt_with_text(chat, std::move(variables));
}

}  // namespace orcd::server
