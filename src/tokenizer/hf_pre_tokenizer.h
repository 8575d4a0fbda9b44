// The pre-tokenizers of a tokenizer.json: how a normalised text is cut, and what becomes of the pieces.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/hf_document.h"
#include "tokenizer/pre_tokenizer.h"

namespace orcd::tokenizer::hf {

// What becomes of the matches of a split (SplitDelimiterBehavior).
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Immutable once read, so safe to share between threads.
class TextCutter {
 public:
  // ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit,
  // Metaspace and sequences of these; others are refused.
  explicit TextCutter(const Json& value);

  bool is_byte_level() const;  // the pieces are spelled in the byte-level alphabet
  // Expressions that do the same as PreTokenizer does; nothing where only cut() can.
  struct Expressions {
    std::vector<std::string> patterns, byte_patterns;
  };
  std::optional<Expressions> expressions() const;

  // at_start: nothing stands before the text.
  std::vector<std::string> cut(std::string text, bool at_start) const;

 private:
  enum class Kind { kSplit, kByteLevel, kMetaspace };
  struct Step {
    Kind kind = Kind::kSplit;
    std::string pattern;
    std::shared_ptr<const PatternFinder> finder;
    Behavior behavior = Behavior::kIsolated;
    bool is_inverted = false;
    std::string prefix;  // what a piece gets before it unless it begins so; "": nothing
    bool prefixes_first_only = false;
    std::string replacement;  // of a blank, by Metaspace
  };
  void add_split(std::string pattern, Behavior behavior, bool is_inverted = false);
  void add(const Part& part);
  void add_byte_level(const Part& part);
  void add_metaspace(const Part& part);
  std::vector<Step> steps_;
};

}  // namespace orcd::tokenizer::hf
