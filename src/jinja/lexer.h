// Template source to tokens, with white space treated as transformers configures jinja2: trim_blocks,
// lstrip_blocks, one newline at the end of the source dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace orcd::jinja {

struct Position {
  uint32_t line = 1;
  uint32_t column = 1;  // in code points
};

enum class TokenKind : uint8_t {
  kText,  // literal output
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,  // text: with its escapes resolved
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  Position at;

  bool is(TokenKind other, std::string_view other_text) const { return kind == other && text == other_text; }
  bool is_operator(std::string_view other) const { return is(TokenKind::kOperator, other); }
  bool is_name(std::string_view other) const { return is(TokenKind::kName, other); }
};

// The last token is kEnd. Throws Error(kModelLoadFailed) with line and column.
std::vector<Token> tokenize(std::string_view source);

// The error for a template that cannot be read.
Error syntax_error(Position at, const std::string& message);

}  // namespace orcd::jinja
