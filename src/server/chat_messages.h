// Conversations as OpenAI's clients send them, made ready for chat templates.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "engine/chat.h"
#include "jinja/value.h"
#include "server/json_fields.h"

namespace orcd::server {

// Takes messages, tools, add_generation_prompt and chat_template_kwargs out of `fields`; `body` is the text
// they were read from, since templates print objects in the order in which they were written. Content of text
// parts becomes one text, and the arguments of tool calls, which clients send as JSON text, become objects:
// what templates expect.
jinja::Dict take_chat_variables(Fields& fields, std::string_view body);

// The prompt of such variables: for templates that know no role developer it is system, and for those that
// put texts together a content that is null is "". Throws what the template raises.
engine::GuardedPrompt chat_prompt(const engine::Chat& chat, jinja::Dict variables);

}  // namespace orcd::server
