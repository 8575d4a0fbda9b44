// Rewrites the regular expressions of tokenizers from characters to character classes, one byte each.
// Understood: literals, escapes \r \n \t \f \v \0 \xHH \x{H..} \uHHHH, \s \S \d \D \w \W \p{..} \P{..}
// (general categories and Han), [...] with ranges, these escapes, sets inside and &&, groups (?: (?i: (?= (?!
// (?<= (?<!, a leading (?i), quantifiers, possessive ones too, | and ^ $.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace orcd::tokenizer {

// Which byte stands for which character. 0x00-0x7F: ASCII; from 0x80: the general category; then the
// characters that need a class of their own; then classes for the ranges that the patterns spell out.
class ClassAlphabet {
 public:
  static constexpr uint8_t kFirstCategory = 0x80;
  static constexpr uint8_t kNextLine = 0x9E;  // U+0085: a control character, but white space
  static constexpr uint8_t kLongS = 0x9F;     // U+017F: 's' without regard to case
  static constexpr uint8_t kKelvin = 0xA0;    // U+212A: 'k' without regard to case
  static constexpr uint8_t kInvalid =
      0xA1;  // a byte that is not UTF-8: in no class, so matched by negated ones only
  static constexpr uint8_t kFirstRange = 0xA2;

  uint8_t class_of(uint32_t code_point) const;

 private:
  friend class PatternCompiler;
  struct Segment {
    uint32_t first;      // up to the next segment's first
    uint32_t signature;  // bit i: inside the i-th spelled-out set; 0: in none
  };
  uint32_t signature_of(uint32_t code_point) const;
  std::vector<Segment> segments_;  // ascending; empty when the patterns spell nothing out
  std::map<std::pair<uint8_t, uint32_t>, uint8_t>
      classes_;  // (class without ranges, signature != 0) -> class
};

// The class of a character by properties alone.
uint8_t property_class(uint32_t code_point);

struct CompiledPatterns {
  ClassAlphabet alphabet;
  std::vector<std::string> expressions;  // for PCRE2 without UTF
};
// Throws Error(kModelLoadFailed) that names the construct it does not understand.
CompiledPatterns compile_patterns(std::span<const std::string_view> patterns);

}  // namespace orcd::tokenizer
