// The alphabet of byte-level BPE: a printable character for each byte, so that token texts hold no blanks or
// controls. (Radford et al. 2019, bytes_to_unicode)
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace orcd::tokenizer {

// The character of each byte: itself where it is a printable one of Latin-1, else U+0100 and up in order.
constexpr std::array<uint16_t, 256> byte_level_alphabet() {
  std::array<uint16_t, 256> alphabet{};
  uint16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet[byte] = printable ? static_cast<uint16_t>(byte) : next++;
  }
  return alphabet;
}

// The bytes that a token text spells; nullopt when it holds a character outside the alphabet.
std::optional<std::string> byte_level_decode(std::string_view text);

}  // namespace orcd::tokenizer
