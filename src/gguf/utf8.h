// Strict UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF), and printable forms of
// outside text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace orcd::gguf {

// Index of the first byte of the first malformed sequence; npos when the whole text is UTF-8.
size_t find_invalid_utf8(std::string_view text);
inline bool is_utf8(std::string_view text) { return find_invalid_utf8(text) == std::string_view::npos; }

// For messages: one line of printable text, control characters and bytes that are not UTF-8 as \xNN, at most
// about max_bytes of it. A hostile file cannot write escape sequences to a terminal with it.
std::string printable(std::string_view text, size_t max_bytes = 96);

}  // namespace orcd::gguf
