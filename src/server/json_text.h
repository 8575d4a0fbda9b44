// JSON that goes out.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace orcd::server {

// On one line. Strings may quote bytes that came from outside: what is not UTF-8 is written as U+FFFD.
std::string dump(const nlohmann::ordered_json& json);

}  // namespace orcd::server
