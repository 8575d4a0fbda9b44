// UTF-8 decoding of untrusted bytes, general categories and NFC as the reference tokenizers know them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace orcd::tokenizer {

// In the order of the generated table.
enum class Category : uint8_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCo,
  kCn
};
inline constexpr int kCategoryCount = 29;

// "Lu" -> its index, -1 if there is none of that name.
int category_index(std::string_view name);
// O(1). REQUIRES code_point < 0x110000.
Category category_of(uint32_t code_point);

enum class Utf8Status : uint8_t {
  kValid,    // one character
  kInvalid,  // `n_bytes` (>= 1) form a maximal ill-formed subpart (Unicode 3.9, table 3-7; WHATWG Encoding)
  kIncomplete,  // the text ends inside a sequence that could still become valid
};
struct Utf8Char {
  uint32_t code_point;
  uint8_t n_bytes;
  Utf8Status status;
};
// The character at the front of text. REQUIRES !text.empty().
Utf8Char decode_utf8(std::string_view text);

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

void append_utf8(uint32_t code_point, std::string& out);

bool is_white_space(uint32_t code_point);  // Unicode's White_Space
bool is_mark(uint32_t code_point);         // categories Mn, Mc, Me
bool is_word(uint32_t code_point);         // \w as Unicode's UTS 18 has it
// Its lower case, which may be two characters.
void append_lowercase(uint32_t code_point, std::string& out);

enum class UnicodeForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };
// Every valid stretch in that form; invalid bytes stay as they are.
std::string normalized(std::string_view text, UnicodeForm form);
// NFC of every valid stretch; invalid bytes stay as they are. Returns false, and leaves `out` alone, when the
// text holds nothing that could change.
bool normalize_nfc(std::string_view text, std::string& out);

}  // namespace orcd::tokenizer
