// Sets of characters that the pre-tokenizers of Hugging Face's `tokenizers` name, in the syntax of pattern.h.
// They take their properties from other versions of Unicode than their expressions do; the differences are
// spelled out (measured over all code points on tokenizers 0.22).
#pragma once

#include <array>
#include <string_view>

namespace orcd::tokenizer {

// One or more of a set.
template <const std::string_view& kSet>
struct Run {
  static constexpr auto kText = [] {
    std::array<char, kSet.size() + 1> text{};
    for (size_t i = 0; i < kSet.size(); ++i) text[i] = kSet[i];
    text.back() = '+';
    return text;
  }();
  static constexpr std::string_view kPattern{kText.data(), kText.size()};
};

// Digits: numbers of Unicode 17, where the expressions know those of Unicode 16.
inline constexpr std::string_view kDigit = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";

// Punctuation: ASCII's, and that of Unicode 8.
inline constexpr std::string_view kPunctuation =
    R"([\p{P}$+<=>\^`|~\x{166D}\x{111C9}&&[^\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B4E}\x{1B4F}\x{1B7D}-\x{1B7F}\x{2E43}-\x{2E4F}\x{2E52}-\x{2E5D}\x{10D6E}\x{10EAD}\x{10F55}-\x{10F59}\x{10F86}-\x{10F89}\x{113D4}\x{113D5}\x{113D7}\x{113D8}\x{1144B}-\x{1144F}\x{1145A}\x{1145B}\x{1145D}\x{11660}-\x{1166C}\x{116B9}\x{1183B}\x{11944}-\x{11946}\x{119E2}\x{11A3F}-\x{11A46}\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2}\x{11B00}-\x{11B09}\x{11BE1}\x{11C41}-\x{11C45}\x{11C70}\x{11C71}\x{11EF7}\x{11EF8}\x{11F43}-\x{11F4F}\x{11FFF}\x{12FF1}\x{12FF2}\x{16D6D}-\x{16D6F}\x{16E97}-\x{16E9A}\x{16FE2}\x{1E5FF}\x{1E95E}\x{1E95F}]])";

// Word characters of Whitespace: what \w knows, without superscripts and fractions, with the joiners.
inline constexpr std::string_view kWord =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}])";

inline constexpr std::string_view kDigitRun = Run<kDigit>::kPattern;
inline constexpr std::string_view kPunctuationRun = Run<kPunctuation>::kPattern;

}  // namespace orcd::tokenizer
