// The body of POST /v1/completions.
#pragma once

#include <string_view>

#include "server/openai_fields.h"

namespace orcd::server {

// Prompts are ready-made text as those of /execute, or token ids. Throws InvalidRequest with all that is
// wrong, NOT_FOUND for another model.
CompletionRequest parse_text_completion(std::string_view body, const CompletionContext& context);

}  // namespace orcd::server
