// JSON from outside: nesting and size are bounded, names must be unique, text must be UTF-8.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace orcd::server {

inline constexpr int kMaxJsonDepth = 32;

// Throws InvalidRequest that says what is wrong and at which byte.
nlohmann::json parse_json(std::string_view text);

}  // namespace orcd::server
