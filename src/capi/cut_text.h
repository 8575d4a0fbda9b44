// Text into the fixed arrays of result structs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace orcd::capi {

// Copies `text` and a NUL; what does not fit is cut off at a whole UTF-8 character. A NUL inside ends it.
template <size_t N>
void copy_cut(std::string_view text, char (&out)[N]) noexcept {
  text = text.substr(0, text.find('\0'));
  size_t n = std::min(text.size(), N - 1);
  if (n < text.size()) {
    while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
  }
  std::memcpy(out, text.data(), n);
  out[n] = '\0';
}

}  // namespace orcd::capi
