// The functions that every template may call.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/value.h"

namespace orcd::jinja {

// range, dict, namespace, cycler, joiner, and transformers' raise_exception and strftime_now.
const std::vector<std::pair<std::string_view, Value>>& global_functions();

}  // namespace orcd::jinja
