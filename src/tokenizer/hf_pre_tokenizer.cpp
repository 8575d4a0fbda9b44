#include "tokenizer/hf_pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "tokenizer/byte_level.h"
#include "tokenizer/character_sets.h"
#include "tokenizer/pre_families.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer::hf {
namespace {

constexpr std::array<std::pair<std::string_view, Behavior>, 5> kBehaviors = {
    {{"Removed", Behavior::kRemoved},
     {"Isolated", Behavior::kIsolated},
     {"MergedWithPrevious", Behavior::kMergedWithPrevious},
     {"MergedWithNext", Behavior::kMergedWithNext},
     {"Contiguous", Behavior::kContiguous}}};

Behavior behavior_of(const Part& part, const std::string& missing) {
  const std::string name = text(*part.json, "behavior", part.path, missing);
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) return behavior;
  }
  refuse(part.path + ".behavior", "\"" + name + "\" is not known");
}

// An expression for the one character that `text` is.
std::string character_pattern(const std::string& text, const std::string& path) {
  if (text.empty() || decode_utf8(text).n_bytes != text.size()) refuse(path, "must be one character");
  const bool is_sign =
      text.size() == 1 && std::string_view("\\^$.|?*+()[]{}").find(text[0]) != std::string_view::npos;
  return is_sign ? "\\" + text : text;
}

struct Stretch {
  size_t begin, end;
  bool is_match;
};

// The matches and the gaps between them.
std::vector<Stretch> stretches(std::string_view text, const PatternFinder& finder, bool is_inverted) {
  std::vector<Stretch> out;
  size_t at = 0;
  for (const auto& [begin, end] : finder.find(text)) {
    if (begin > at) out.push_back({at, begin, is_inverted});
    out.push_back({begin, end, !is_inverted});
    at = end;
  }
  if (at < text.size()) out.push_back({at, text.size(), is_inverted});
  return out;
}

// Joins neighbours: `joins(previous, next)` says whether next goes to previous.
template <typename Joins>
std::vector<Stretch> joined(const std::vector<Stretch>& stretches, Joins&& joins) {
  std::vector<Stretch> out;
  for (size_t i = 0; i < stretches.size(); ++i) {
    if (i > 0 && joins(stretches[i - 1], stretches[i])) {
      out.back().end = stretches[i].end;
    } else {
      out.push_back(stretches[i]);
    }
  }
  return out;
}

std::vector<Stretch> pieces_of(std::vector<Stretch> all, Behavior behavior) {
  switch (behavior) {
    case Behavior::kIsolated:
      break;
    case Behavior::kRemoved:
      std::erase_if(all, [](const Stretch& s) { return s.is_match; });
      break;
    case Behavior::kContiguous:
      return joined(all, [](const Stretch& a, const Stretch& b) { return a.is_match == b.is_match; });
    case Behavior::kMergedWithPrevious:
      return joined(all, [](const Stretch& a, const Stretch& b) { return b.is_match && !a.is_match; });
    case Behavior::kMergedWithNext:
      return joined(all, [](const Stretch& a, const Stretch& b) { return a.is_match && !b.is_match; });
  }
  return all;
}

std::string replaced(std::string_view text, char from, std::string_view to) {
  std::string out;
  for (const char c : text) c == from ? out.append(to) : out.append(1, c);
  return out;
}

std::string spelled_in_bytes(std::string_view text) {
  static constexpr auto kAlphabet = byte_level_alphabet();
  std::string out;
  for (const char c : text) append_utf8(kAlphabet[static_cast<uint8_t>(c)], out);
  return out;
}

}  // namespace

TextCutter::TextCutter(const Json& value) {
  for (const Part& part : parts_of(value, "pretokenizers", "pre_tokenizer")) add(part);
}

void TextCutter::add_split(std::string pattern, Behavior behavior, bool is_inverted) {
  Step step;
  step.finder = std::make_shared<PatternFinder>(pattern);
  step.pattern = std::move(pattern);
  step.behavior = behavior;
  step.is_inverted = is_inverted;
  steps_.push_back(std::move(step));
}

void TextCutter::add(const Part& part) {
  const std::string& type = part.type;
  if (type == "Split") {
    add_split(pattern_of(*part.json, part.path), behavior_of(part, ""),
              flag(*part.json, "invert", part.path, false));
  } else if (type == "Digits") {
    const bool single = flag(*part.json, "individual_digits", part.path, false);
    add_split(std::string(single ? kDigit : kDigitRun), Behavior::kIsolated);
  } else if (type == "Punctuation") {
    const Behavior behavior = behavior_of(part, "Isolated");
    const bool is_run = behavior == Behavior::kContiguous;
    add_split(std::string(is_run ? kPunctuationRun : kPunctuation), is_run ? Behavior::kIsolated : behavior);
  } else if (type == "Whitespace") {
    const std::string word(kWord);
    add_split(word + "+|[^" + word + "\\s]+", Behavior::kRemoved, /*is_inverted=*/true);
  } else if (type == "WhitespaceSplit" || type == "BertPreTokenizer") {
    add_split("\\s", Behavior::kRemoved);
    if (type == "BertPreTokenizer") add_split(std::string(kPunctuation), Behavior::kIsolated);
  } else if (type == "CharDelimiterSplit") {
    add_split(character_pattern(text(*part.json, "delimiter", part.path), part.path + ".delimiter"),
              Behavior::kRemoved);
  } else if (type == "ByteLevel") {
    add_byte_level(part);
  } else if (type == "Metaspace") {
    add_metaspace(part);
  } else {
    refuse(part.path, "the pre-tokenizer " + type +
                          " is not supported (supported: ByteLevel, Split, Digits, Punctuation, Whitespace, "
                          "WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, Metaspace, Sequence)");
  }
}

void TextCutter::add_byte_level(const Part& part) {
  Step step;
  step.kind = Kind::kByteLevel;
  if (is_byte_level()) refuse(part.path, "a second ByteLevel is not supported");
  if (flag(*part.json, "add_prefix_space", part.path, true)) step.prefix = " ";
  if (flag(*part.json, "use_regex", part.path, true)) {
    step.pattern = find_pre_family("gpt-2")->used_patterns()[0];
    step.finder = std::make_shared<PatternFinder>(step.pattern);
  }
  steps_.push_back(std::move(step));
}

void TextCutter::add_metaspace(const Part& part) {
  Step step;
  step.kind = Kind::kMetaspace;
  step.replacement = text(*part.json, "replacement", part.path, "\xE2\x96\x81");
  const bool old_scheme = flag(*part.json, "add_prefix_space", part.path, true);
  const std::string scheme = text(*part.json, "prepend_scheme", part.path, old_scheme ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    refuse(part.path + ".prepend_scheme", "\"" + scheme + "\" is not known");
  if (scheme != "never") step.prefix = step.replacement;
  step.prefixes_first_only = scheme == "first";
  if (flag(*part.json, "split", part.path, true)) {
    step.finder =
        std::make_shared<PatternFinder>(character_pattern(step.replacement, part.path + ".replacement"));
    step.behavior = Behavior::kMergedWithNext;
  }
  steps_.push_back(std::move(step));
}

bool TextCutter::is_byte_level() const {
  return std::ranges::any_of(steps_, [](const Step& step) { return step.kind == Kind::kByteLevel; });
}

std::optional<TextCutter::Expressions> TextCutter::expressions() const {
  Expressions found;
  bool in_bytes = false;
  for (const Step& step : steps_) {
    if (step.kind == Kind::kMetaspace || !step.prefix.empty()) return std::nullopt;
    if (step.kind == Kind::kSplit && (step.behavior != Behavior::kIsolated || step.is_inverted))
      return std::nullopt;
    if (step.finder) (in_bytes ? found.byte_patterns : found.patterns).push_back(step.pattern);
    in_bytes = in_bytes || step.kind == Kind::kByteLevel;
  }
  if (!in_bytes) return std::nullopt;
  return found;
}

std::vector<std::string> TextCutter::cut(std::string text, bool at_start) const {
  std::vector<std::string> pieces, next;
  if (!text.empty()) pieces.push_back(std::move(text));
  // Whether the first piece is still the one that the text began with.
  bool first_is_start = at_start;
  for (const Step& step : steps_) {
    next.clear();
    bool is_start = first_is_start;
    for (size_t i = 0; i < pieces.size(); ++i) {
      std::string piece = std::move(pieces[i]);
      if (step.kind == Kind::kMetaspace) piece = replaced(piece, ' ', step.replacement);
      const bool has_prefix = step.prefixes_first_only ? i == 0 && first_is_start : true;
      if (has_prefix && !piece.starts_with(step.prefix)) piece.insert(0, step.prefix);
      std::vector<Stretch> cuts{{0, piece.size(), false}};
      if (step.finder) cuts = pieces_of(stretches(piece, *step.finder, step.is_inverted), step.behavior);
      if (i == 0 && (cuts.empty() || cuts[0].begin != 0)) is_start = false;
      for (const Stretch& s : cuts) {
        if (s.end == s.begin) continue;
        const std::string_view part = std::string_view(piece).substr(s.begin, s.end - s.begin);
        next.push_back(step.kind == Kind::kByteLevel ? spelled_in_bytes(part) : std::string(part));
      }
    }
    first_is_start = is_start;
    pieces.swap(next);
  }
  return pieces;
}

}  // namespace orcd::tokenizer::hf
