// Tokens to a syntax tree. The grammar is the one of Jinja 3.1, without what needs other templates (include,
// import, extends, block) and with the extensions that transformers turns on: break, continue, generation.
#pragma once

#include <string_view>

#include "jinja/syntax.h"

namespace orcd::jinja {

// Throws Error(kModelLoadFailed) with line and column.
Body parse(std::string_view source);

}  // namespace orcd::jinja
