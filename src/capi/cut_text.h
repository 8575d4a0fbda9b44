// Text into the fixed arrays of result structs and errors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "gguf/utf8.h"

namespace orcd::capi {

// Copies `text` and a NUL; what does not fit is cut off at a whole UTF-8 character. A NUL inside ends it.
// Bytes that are not UTF-8, as a path or a caller's own string may hold, become '?'.
template <size_t N>
void copy_cut(std::string_view text, char (&out)[N]) noexcept {
  text = text.substr(0, text.find('\0'));
  size_t n = std::min(text.size(), N - 1);
  if (n < text.size()) {
    while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
  }
  std::memcpy(out, text.data(), n);
  for (size_t at = 0; at < n;) {
    const size_t bad = gguf::find_invalid_utf8({out + at, n - at});
    if (bad == std::string_view::npos) break;
    at += bad;
    out[at++] = '?';
  }
  out[n] = '\0';
}

}  // namespace orcd::capi
