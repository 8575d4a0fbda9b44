// What people write must not become control tokens: "<|im_end|>" in a message is text. Before a template
// renders, a character that no text has is put inside every control token that the values spell; behind it,
// the characters are taken out again and their places tell the tokenizer where no control token may be.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/value.h"
#include "tokenizer/special_matcher.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

// A prompt with the offsets (ascending) that lie inside text which only looks like a control token.
struct GuardedPrompt {
  std::string text;
  std::vector<size_t> guards;
};

// Immutable, so safe to share between threads.
class PromptGuard {
 public:
  // `source`: the template, whose own characters cannot serve as a mark.
  PromptGuard(const tokenizer::Tokenizer& tokenizer, std::string_view source);

  // Marks the control tokens, and what could become one together with text behind it, in every string of
  // `variables`. Returns the mark; nothing when there is none to mark. Throws INVALID_REQUEST for texts that
  // leave no mark free.
  std::optional<std::string> mark(jinja::Dict* variables) const;
  // Takes `mark` out of a rendered prompt.
  static GuardedPrompt unmark(std::string text, const std::optional<std::string>& mark);

 private:
  bool needs_mark(std::string_view text) const;
  std::string marked(std::string_view text, std::string_view mark) const;
  std::vector<size_t> places(std::string_view text) const;

  tokenizer::SpecialMatcher control_;
  std::vector<std::string> marks_;  // free in the template
};

}  // namespace orcd::engine
