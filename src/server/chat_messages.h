// Conversations as OpenAI's clients send them, made ready for chat templates.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "jinja/value.h"
#include "server/json_fields.h"

namespace orcd::server {

// Takes messages, tools, add_generation_prompt and chat_template_kwargs out of `fields`; `body` is the text
// they were read from, since templates print objects in the order in which they were written. Content of text
// parts becomes one text, and the arguments of tool calls, which clients send as JSON text, become objects:
// what templates expect.
jinja::Dict take_chat_variables(Fields& fields, std::string_view body);

}  // namespace orcd::server
