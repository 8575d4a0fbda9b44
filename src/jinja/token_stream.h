// The parser's view of the tokens, and the limit of nesting.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/lexer.h"

namespace orcd::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token next() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_operator(std::string_view sign) const { return current().is_operator(sign); }
  bool is_name(std::string_view name) const { return current().is_name(name); }
  bool skip_operator(std::string_view sign) { return is_operator(sign) && (next(), true); }
  bool skip_name(std::string_view name) { return is_name(name) && (next(), true); }

  void expect_operator(std::string_view sign) {
    if (!skip_operator(sign)) fail("expected '" + std::string(sign) + "', got " + shown());
  }
  std::string expect_name() {
    if (current().kind != TokenKind::kName) fail("expected a name, got " + shown());
    return next().text;
  }
  void expect(TokenKind kind, std::string_view what) {
    if (current().kind != kind) fail("expected " + std::string(what) + ", got " + shown());
    next();
  }

  [[noreturn]] void fail(const std::string& message) const { throw syntax_error(current().at, message); }
  std::string shown() const {
    if (current().kind == TokenKind::kEnd) return "the end of the template";
    if (current().kind == TokenKind::kText) return "text";
    return "'" + current().text.substr(0, 40) + "'";
  }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

// One level of the tree for each: keeps the native stack of parsing, rendering and destroying bounded.
class Nesting {
 public:
  static constexpr int kMax = 200;
  Nesting(int& depth, const TokenStream& tokens) : depth_(depth) {
    if (++depth_ > kMax) {
      --depth_;
      tokens.fail("nested more than " + std::to_string(kMax) + " levels deep");
    }
  }
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

}  // namespace orcd::jinja
