// Python's two ways of filling values into text: "%s" % values and "{}".format(values).
#pragma once

#include <string>
#include <string_view>

#include "jinja/value.h"

namespace orcd::jinja {

// `values` is a tuple, a dict for %(name)s, or one value. Throws TemplateFailure.
std::string format_percent(std::string_view form, const Value& values);
// Fields {} {0} {name}, with !s or !r, and :[fill][<>^][width][.precision][s d f x]. Throws TemplateFailure.
std::string format_braces(std::string_view form, const Arguments& arguments);

}  // namespace orcd::jinja
