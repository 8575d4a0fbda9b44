// The last line of defence: what no request can be told about any more.
#pragma once

#include <exception>
#include <string_view>

namespace orcd::server {

// Logs an INTERNAL error of this part of the server; throws nothing, even without memory.
void report_failure(std::string_view part, const std::exception& error) noexcept;

}  // namespace orcd::server
