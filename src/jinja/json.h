// JSON text to values and back.
#pragma once

#include <string>
#include <string_view>

#include "jinja/value.h"

namespace orcd::jinja {

// Keeps the order of names; of equal names the last counts. Numbers that no 64-bit integer holds become
// floats. Throws Error(kInvalidRequest) with the byte offset; also for text that nests deeper than 64 levels.
Value parse_json(std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string indent;  // "" with is_indented false: on one line
  bool is_indented = false;
  std::string item_separator = ", ", key_separator = ": ";
};
// As Python's json.dumps. Throws TemplateFailure for what is not JSON.
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace orcd::jinja
