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

// Marks that StripAccents takes away: those of Unicode 8, with two signs that were letters then.
inline constexpr std::string_view kAccent =
    R"([\p{M}\x{1CF2}\x{1CF3}&&[^\x{7FD}\x{897}-\x{89F}\x{8CA}-\x{8D3}\x{9FE}\x{AFA}-\x{AFF}\x{B55}\x{C04}\x{C3C}\x{CF3}\x{D00}\x{D3B}-\x{D3C}\x{D81}\x{EBA}\x{ECE}\x{1715}\x{180F}\x{1ABF}-\x{1ACE}\x{1CF7}\x{1DF6}-\x{1DFA}\x{A82C}\x{A8FF}\x{10D24}-\x{10D27}\x{10D69}-\x{10D6D}\x{10EAB}-\x{10EAC}\x{10EFC}-\x{10EFF}\x{10F46}-\x{10F50}\x{10F82}-\x{10F85}\x{11070}\x{11073}-\x{11074}\x{110C2}\x{11145}-\x{11146}\x{111C9}\x{111CE}-\x{111CF}\x{11241}\x{1133B}\x{113B8}-\x{113C0}\x{113C2}\x{113C5}\x{113C7}-\x{113CA}\x{113CC}-\x{113D0}\x{113D2}\x{113E1}-\x{113E2}\x{1145E}\x{1182C}-\x{1183A}\x{11930}-\x{11935}\x{11937}-\x{11938}\x{1193B}-\x{1193E}\x{11940}\x{11942}-\x{11943}\x{119D1}-\x{119D7}\x{119DA}-\x{119E0}\x{119E4}\x{11A01}-\x{11A0A}\x{11A33}-\x{11A39}\x{11A3B}-\x{11A3E}\x{11A47}\x{11A51}-\x{11A5B}\x{11A8A}-\x{11A99}\x{11D31}-\x{11D36}\x{11D3A}\x{11D3C}-\x{11D3D}\x{11D3F}-\x{11D45}\x{11D47}\x{11D8A}-\x{11D8E}\x{11D90}-\x{11D91}\x{11D93}-\x{11D97}\x{11EF3}-\x{11EF6}\x{11F00}-\x{11F01}\x{11F03}\x{11F34}-\x{11F3A}\x{11F3E}-\x{11F42}\x{11F5A}\x{13440}\x{13447}-\x{13455}\x{1611E}-\x{1612F}\x{16F4F}\x{16F7F}-\x{16F87}\x{16FE4}\x{16FF0}-\x{16FF1}\x{1CF00}-\x{1CF2D}\x{1CF30}-\x{1CF46}\x{1E08F}\x{1E130}-\x{1E136}\x{1E2AE}\x{1E2EC}-\x{1E2EF}\x{1E4EC}-\x{1E4EF}\x{1E5EE}-\x{1E5EF}]])";

// Word characters of Whitespace: what \w knows, without superscripts and fractions, with the joiners.
inline constexpr std::string_view kWord =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}])";

inline constexpr std::string_view kDigitRun = Run<kDigit>::kPattern;
inline constexpr std::string_view kPunctuationRun = Run<kPunctuation>::kPattern;

}  // namespace orcd::tokenizer
