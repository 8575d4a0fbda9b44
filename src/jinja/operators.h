// Operators, subscripts and attributes of values.
#pragma once

#include <optional>
#include <string_view>

#include "jinja/renderer.h"
#include "jinja/value.h"

namespace orcd::jinja {

// "+", "-", "*", "/", "//", "%", "**" with Python's meaning. Throws TemplateFailure for types that have none.
Value binary_operation(Renderer& renderer, std::string_view sign, const Value& left, const Value& right);
Value negative(const Value& value);
bool compare(Renderer& renderer, std::string_view sign, const Value& left, const Value& right);
bool contains(Renderer& renderer, const Value& container, const Value& item);

// value[key] and value.name as jinja2's sandbox resolves them: what there is none of is undefined.
Value subscript(Renderer& renderer, const Value& value, const Value& key);
Value attribute(Renderer& renderer, const Value& value, std::string_view name);
// value[start:stop:step]; undefined or None parts are left out.
Value slice(Renderer& renderer, const Value& value, const Value& start, const Value& stop, const Value& step);

// The method `name` of the value's type, bound to it; nothing if it has none.
std::optional<Value> method_of(const Value& value, std::string_view name);

// Python's str.replace; a negative limit is none.
Value replace_text(Renderer& renderer, const std::string& text, const std::string& from,
                   const std::string& to, int64_t limit);

[[noreturn]] void fail_undefined(const Value& value);  // REQUIRES value.is_undefined()

}  // namespace orcd::jinja
