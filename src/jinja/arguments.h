// Reading the arguments of filters, methods and functions.
#pragma once

#include <string>
#include <string_view>

#include "jinja/value.h"

namespace orcd::jinja {

// The argument at `index`, or the one called `name`; null if neither is given.
inline const Value* argument(const Arguments& arguments, size_t index, std::string_view name) {
  if (index < arguments.positional.size()) return &arguments.positional[index];
  for (const auto& [known, value] : arguments.named) {
    if (known == name) return &value;
  }
  return nullptr;
}

inline int64_t integer_argument(const Value& value, std::string_view where) {
  if (!value.is_int() && !value.is_bool()) {
    throw TemplateFailure{std::string(where) + ": '" + value.type_name() +
                          "' object cannot be interpreted as an integer"};
  }
  return value.integer();
}

inline int64_t integer_or(const Arguments& arguments, size_t index, std::string_view name, int64_t missing) {
  const Value* value = argument(arguments, index, name);
  return value == nullptr || value->is_none() ? missing : integer_argument(*value, name);
}

inline bool flag_or(const Arguments& arguments, size_t index, std::string_view name, bool missing) {
  const Value* value = argument(arguments, index, name);
  return value == nullptr ? missing : value->is_true();
}

inline const std::string& string_argument(const Value& value, std::string_view where) {
  const std::string* text = value.as_string();
  if (text == nullptr) {
    throw TemplateFailure{std::string(where) + ": must be str, not " + value.type_name()};
  }
  return *text;
}

}  // namespace orcd::jinja
