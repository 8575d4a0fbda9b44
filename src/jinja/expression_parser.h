// The expressions of the grammar (jinja/parser.h).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jinja/syntax.h"
#include "jinja/token_stream.h"

namespace orcd::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  using Node = std::unique_ptr<Expression>;

  ExpressionPtr expression();                         // with `a if b else c`
  ExpressionPtr condition();                          // without
  ExpressionPtr tuple_or_one(bool with_conditional);  // `a, b` without parentheses is a tuple
  ExpressionPtr filters(ExpressionPtr subject);       // `name(..) | name ...`, its first without the bar
  ExpressionPtr postfix_of(ExpressionPtr node);       // subscripts and calls behind `node`
  ExpressionPtr primary();
  std::vector<Argument> call_arguments();  // from "(" to ")"

  Node make(ExpressionKind kind, Position at) const;
  // Bounds the height of the tree, and with it the native stack of whoever walks it.
  ExpressionPtr done(Node node) const;

  TokenStream tokens_;
  int depth_ = 0;
  // Unknown filters and tests. Those inside branches are taken out again: they fail only when reached.
  std::vector<Error> unknown_;

 private:
  ExpressionPtr either();
  ExpressionPtr both();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr parenthesized();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr number();
  ExpressionPtr subscript(ExpressionPtr node);
  ExpressionPtr one_subscript();
  ExpressionPtr call(ExpressionPtr node);
  ExpressionPtr filter(ExpressionPtr node);
  ExpressionPtr test(ExpressionPtr node);
  ExpressionPtr filters_and_tests(ExpressionPtr node);
  ExpressionPtr binary(std::string sign, Position at, ExpressionPtr left, ExpressionPtr right);
  bool at_tuple_end() const;
  std::string dotted_name();
};

}  // namespace orcd::jinja
