// Filters (`value | name(..)`) and tests (`value is name(..)`).
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace orcd::jinja {

using Filter = Value (*)(Renderer&, const Value& subject, const Arguments&);
using Test = bool (*)(Renderer&, const Value& subject, const Arguments&);

// nullptr if there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

// Throw TemplateFailure when there is none of that name.
Value apply_filter(Renderer& renderer, std::string_view name, const Value& subject,
                   const Arguments& arguments);
bool apply_test(Renderer& renderer, std::string_view name, const Value& subject, const Arguments& arguments);

// The two halves of the table.
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);

}  // namespace orcd::jinja
