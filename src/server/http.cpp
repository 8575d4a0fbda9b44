#include "server/http.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace orcd::server {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (same_name(key, name)) return value;
  return {};
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    uint8_t byte = 0;
    const bool is_escape = text[0] == '%' && text.size() >= 3 &&
                           std::from_chars(text.data() + 1, text.data() + 3, byte, 16).ptr == text.data() + 3;
    out += is_escape ? static_cast<char>(byte) : text[0];
    text.remove_prefix(is_escape ? 3 : 1);
  }
  return out;
}

size_t HttpRequest::count(std::string_view name) const {
  return static_cast<size_t>(
      std::ranges::count_if(headers, [&](const auto& h) { return same_name(h.first, name); }));
}

}  // namespace orcd::server
