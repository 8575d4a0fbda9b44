// Splits text by the regular expressions of a pre-tokenizer. The expressions run over one byte for each
// character (ASCII as itself, other characters by their class), so matching is fast, linear in memory,
// indifferent to invalid UTF-8 and to the Unicode version of the installed PCRE2: the classes come from our
// own tables.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace orcd::tokenizer {

// Immutable after construction, so safe to share between threads.
class PreTokenizer {
 public:
  // The patterns are applied one after the other, each to the pieces that the one before it left; matches and
  // the gaps between them are both kept ("isolated"). After them come `byte_patterns`, which see each byte as
  // its character of the byte-level alphabet (byte_level.h), so they may cut inside a character. Syntax: see
  // pattern.h. Throws Error(kModelLoadFailed) for others.
  explicit PreTokenizer(std::span<const std::string_view> patterns,
                        std::span<const std::string_view> byte_patterns = {});
  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  // Appends the end offset (in bytes) of every piece of text, ascending; nothing for an empty text.
  void split(std::string_view text, std::vector<size_t>& ends) const;

 private:
  void split_characters(std::string_view text, std::vector<size_t>& ends) const;
  struct State;
  std::unique_ptr<const State> state_;
};

// The matches of one expression, as the oracle's engine goes through them: empty ones too, but none of those
// right behind another match. Immutable after construction.
class PatternFinder {
 public:
  struct Match {
    size_t begin, end;  // in bytes
  };
  explicit PatternFinder(std::string_view pattern);  // throws Error(kModelLoadFailed); syntax: see pattern.h
  ~PatternFinder();
  PatternFinder(const PatternFinder&) = delete;
  PatternFinder& operator=(const PatternFinder&) = delete;

  std::vector<Match> find(std::string_view text) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace orcd::tokenizer
