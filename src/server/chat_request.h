// The body of POST /v1/chat/completions.
#pragma once

#include <string_view>

#include "engine/chat.h"
#include "server/openai_fields.h"

namespace orcd::server {

inline constexpr size_t kMaxMessages = 4096, kMaxTools = 128;

// Throws InvalidRequest with all that is wrong, INVALID_REQUEST for a model without a template or messages
// that it refuses, NOT_FOUND for another model.
CompletionRequest parse_chat(std::string_view body, const engine::Chat& chat,
                             const CompletionContext& context);

}  // namespace orcd::server
