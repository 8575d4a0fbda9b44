#include "tokenizer/byte_level.h"

#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

constexpr uint16_t kNone = 0x100;

// Code point -> byte, kNone where there is none. The alphabet ends at U+0143.
constexpr std::array<uint16_t, 0x144> inverse_alphabet() {
  std::array<uint16_t, 0x144> inverse{};
  for (auto& entry : inverse) entry = kNone;
  constexpr auto kAlphabet = byte_level_alphabet();
  for (uint16_t byte = 0; byte < 256; ++byte) inverse[kAlphabet[byte]] = byte;
  return inverse;
}

}  // namespace

std::optional<std::string> byte_level_decode(std::string_view text) {
  static constexpr auto kInverse = inverse_alphabet();
  std::string bytes;
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.status != Utf8Status::kValid || c.code_point >= kInverse.size() ||
        kInverse[c.code_point] == kNone) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(kInverse[c.code_point]));
    text.remove_prefix(c.n_bytes);
  }
  return bytes;
}

}  // namespace orcd::tokenizer
