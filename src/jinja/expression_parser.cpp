#include "jinja/expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "jinja/filters.h"

namespace orcd::jinja {
namespace {

constexpr std::array<std::string_view, 6> kComparisons = {"==", "!=", "<", "<=", ">", ">="};

}  // namespace

ExpressionParser::Node ExpressionParser::make(ExpressionKind kind, Position at) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->at = at;
  return node;
}

ExpressionPtr ExpressionParser::done(Node node) const {
  constexpr uint32_t kMaxHeight = 500;
  const auto reach = [&](const ExpressionPtr& child) {
    if (child) node->height = std::max(node->height, child->height + 1);
  };
  for (const ExpressionPtr& item : node->items) reach(item);
  for (const Argument& argument : node->arguments) reach(argument.value);
  if (node->height > kMaxHeight) throw syntax_error(node->at, "too many operations in one expression");
  return node;
}

ExpressionPtr ExpressionParser::binary(std::string sign, Position at, ExpressionPtr left,
                                       ExpressionPtr right) {
  Node node = make(ExpressionKind::kBinary, at);
  node->name = std::move(sign);
  node->items.push_back(std::move(left));
  node->items.push_back(std::move(right));
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::expression() {
  const Nesting nesting(depth_, tokens_);
  const size_t n_unknown = unknown_.size();
  ExpressionPtr left = either();
  while (tokens_.is_name("if")) {
    Node node = make(ExpressionKind::kConditional, tokens_.next().at);
    node->items.push_back(std::move(left));
    node->items.push_back(either());
    node->items.push_back(tokens_.skip_name("else") ? expression() : nullptr);
    unknown_.erase(unknown_.begin() + static_cast<std::ptrdiff_t>(n_unknown), unknown_.end());
    left = done(std::move(node));
  }
  return left;
}

ExpressionPtr ExpressionParser::condition() { return either(); }

ExpressionPtr ExpressionParser::either() {
  ExpressionPtr left = both();
  while (tokens_.is_name("or")) {
    Node node = make(ExpressionKind::kOr, tokens_.next().at);
    node->items.push_back(std::move(left));
    node->items.push_back(both());
    left = done(std::move(node));
  }
  return left;
}

ExpressionPtr ExpressionParser::both() {
  ExpressionPtr left = negation();
  while (tokens_.is_name("and")) {
    Node node = make(ExpressionKind::kAnd, tokens_.next().at);
    node->items.push_back(std::move(left));
    node->items.push_back(negation());
    left = done(std::move(node));
  }
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!tokens_.is_name("not")) return comparison();
  const Nesting nesting(depth_, tokens_);
  Node node = make(ExpressionKind::kNot, tokens_.next().at);
  node->items.push_back(negation());
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::comparison() {
  const Position at = tokens_.current().at;
  ExpressionPtr left = sum();
  Node node;
  for (;;) {
    const Token& token = tokens_.current();
    std::string sign;
    if (token.kind == TokenKind::kOperator &&
        std::find(kComparisons.begin(), kComparisons.end(), token.text) != kComparisons.end()) {
      sign = tokens_.next().text;
    } else if (tokens_.skip_name("in")) {
      sign = "in";
    } else if (tokens_.is_name("not") && tokens_.ahead().is_name("in")) {
      tokens_.next();
      tokens_.next();
      sign = "not in";
    } else {
      break;
    }
    if (!node) {
      node = make(ExpressionKind::kCompare, at);
      node->items.push_back(std::move(left));
    }
    node->operators.push_back(std::move(sign));
    node->items.push_back(sum());
  }
  return node ? done(std::move(node)) : std::move(left);
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = concatenation();
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    Token sign = tokens_.next();
    ExpressionPtr right = concatenation();
    left = binary(std::move(sign.text), sign.at, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  const Position at = tokens_.current().at;
  ExpressionPtr first = product();
  if (!tokens_.is_operator("~")) return first;
  Node node = make(ExpressionKind::kConcat, at);
  node->items.push_back(std::move(first));
  while (tokens_.skip_operator("~")) node->items.push_back(product());
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::product() {
  ExpressionPtr left = power();
  while (tokens_.is_operator("*") || tokens_.is_operator("/") || tokens_.is_operator("//") ||
         tokens_.is_operator("%")) {
    Token sign = tokens_.next();
    ExpressionPtr right = power();
    left = binary(std::move(sign.text), sign.at, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr left = unary(true);
  while (tokens_.is_operator("**")) {
    Token sign = tokens_.next();
    ExpressionPtr right = unary(true);
    left = binary(std::move(sign.text), sign.at, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Nesting nesting(depth_, tokens_);
  ExpressionPtr node;
  if (tokens_.is_operator("-") || tokens_.is_operator("+")) {
    const Token sign = tokens_.next();
    Node signed_node =
        make(sign.text == "-" ? ExpressionKind::kNegative : ExpressionKind::kPositive, sign.at);
    signed_node->items.push_back(unary(false));
    node = done(std::move(signed_node));
  } else {
    node = primary();
  }
  node = postfix_of(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = tokens_.current();
  if (token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat) return number();
  if (tokens_.is_operator("(")) return parenthesized();
  if (tokens_.is_operator("[")) return list();
  if (tokens_.is_operator("{")) return dict();
  Node node = make(ExpressionKind::kConstant, token.at);
  if (token.kind == TokenKind::kString) {
    std::string text;
    while (tokens_.current().kind == TokenKind::kString) text += tokens_.next().text;
    node->constant = std::move(text);
    return node;
  }
  if (token.kind != TokenKind::kName) tokens_.fail("unexpected " + tokens_.shown());
  std::string name = tokens_.next().text;
  if (name == "true" || name == "True") {
    node->constant = true;
  } else if (name == "false" || name == "False") {
    node->constant = false;
  } else if (name == "none" || name == "None") {
    node->constant = None{};
  } else {
    node->kind = ExpressionKind::kName;
    node->name = std::move(name);
  }
  return node;
}

ExpressionPtr ExpressionParser::number() {
  Node node = make(ExpressionKind::kConstant, tokens_.current().at);
  const TokenKind kind = tokens_.current().kind;
  const std::string text = tokens_.current().text;
  if (kind == TokenKind::kFloat) {
    node->constant = std::strtod(text.c_str(), nullptr);
  } else {
    const char mark = text.size() > 1 ? static_cast<char>(text[1] | 0x20) : ' ';
    const int base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    int64_t value = 0;
    const char* begin = text.data() + (base == 10 ? 0 : 2);
    const auto read = std::from_chars(begin, text.data() + text.size(), value, base);
    const bool zeros = base == 10 && text.size() > 1 && text[0] == '0' && value != 0;
    if (read.ec != std::errc() || read.ptr != text.data() + text.size() || zeros) {
      tokens_.fail("'" + text.substr(0, 40) + "' is not an integer of 64 bits");
    }
    node->constant = value;
  }
  tokens_.next();
  return node;
}

ExpressionPtr ExpressionParser::parenthesized() {
  const Nesting nesting(depth_, tokens_);
  const Position at = tokens_.next().at;
  if (tokens_.skip_operator(")")) return make(ExpressionKind::kTuple, at);
  ExpressionPtr node = tuple_or_one(true);
  tokens_.expect_operator(")");
  return node;
}

bool ExpressionParser::at_tuple_end() const {
  const TokenKind kind = tokens_.current().kind;
  return kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || kind == TokenKind::kEnd ||
         tokens_.is_operator(")") || tokens_.is_name("recursive");
}

ExpressionPtr ExpressionParser::tuple_or_one(bool with_conditional) {
  const Position at = tokens_.current().at;
  if (at_tuple_end()) tokens_.fail("expected an expression, got " + tokens_.shown());
  ExpressionPtr first = with_conditional ? expression() : condition();
  if (!tokens_.is_operator(",")) return first;
  Node node = make(ExpressionKind::kTuple, at);
  node->items.push_back(std::move(first));
  while (tokens_.skip_operator(",")) {
    if (at_tuple_end()) break;
    node->items.push_back(with_conditional ? expression() : condition());
  }
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::list() {
  Node node = make(ExpressionKind::kList, tokens_.next().at);
  while (!tokens_.is_operator("]")) {
    if (!node->items.empty()) {
      tokens_.expect_operator(",");
      if (tokens_.is_operator("]")) break;
    }
    node->items.push_back(expression());
  }
  tokens_.next();
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::dict() {
  Node node = make(ExpressionKind::kDict, tokens_.next().at);
  while (!tokens_.is_operator("}")) {
    if (!node->items.empty()) {
      tokens_.expect_operator(",");
      if (tokens_.is_operator("}")) break;
    }
    node->items.push_back(expression());
    tokens_.expect_operator(":");
    node->items.push_back(expression());
  }
  tokens_.next();
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::postfix_of(ExpressionPtr node) {
  for (;;) {
    if (tokens_.is_operator(".") || tokens_.is_operator("[")) {
      node = subscript(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr node) {
  for (;;) {
    if (tokens_.skip_operator("|")) {
      node = filter(std::move(node));
    } else if (tokens_.is_name("is")) {
      node = test(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr subject) {
  const Token sign = tokens_.next();
  Node node = make(ExpressionKind::kSubscript, sign.at);
  node->items.push_back(std::move(subject));
  if (sign.text == ".") {
    if (tokens_.current().kind == TokenKind::kInteger) {
      node->items.push_back(number());
    } else {
      node->kind = ExpressionKind::kAttribute;
      node->name = tokens_.expect_name();
    }
    return done(std::move(node));
  }
  std::vector<ExpressionPtr> keys;
  bool is_tuple = false;
  while (!tokens_.is_operator("]")) {
    if (!keys.empty()) {
      tokens_.expect_operator(",");
      is_tuple = true;
    }
    keys.push_back(one_subscript());
  }
  if (keys.empty()) tokens_.fail("expected an expression, got ']'");
  tokens_.next();
  if (is_tuple) {
    Node tuple = make(ExpressionKind::kTuple, sign.at);
    tuple->items = std::move(keys);
    node->items.push_back(std::move(tuple));
  } else {
    node->items.push_back(std::move(keys.front()));
  }
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::one_subscript() {
  const Position at = tokens_.current().at;
  ExpressionPtr first;
  if (!tokens_.is_operator(":")) {
    first = expression();
    if (!tokens_.is_operator(":")) return first;
  }
  Node node = make(ExpressionKind::kSlice, at);
  node->items.push_back(std::move(first));
  while (node->items.size() < 3) {
    ExpressionPtr part;
    if (tokens_.skip_operator(":") && !tokens_.is_operator(":") && !tokens_.is_operator("]") &&
        !tokens_.is_operator(",")) {
      part = expression();
    }
    node->items.push_back(std::move(part));
  }
  return done(std::move(node));
}

std::vector<Argument> ExpressionParser::call_arguments() {
  std::vector<Argument> arguments;
  tokens_.expect_operator("(");
  while (!tokens_.is_operator(")")) {
    if (!arguments.empty()) {
      tokens_.expect_operator(",");
      if (tokens_.is_operator(")")) break;
    }
    Argument argument;
    if (tokens_.is_operator("*") || tokens_.is_operator("**")) {
      argument.name = tokens_.next().text;
    } else if (tokens_.current().kind == TokenKind::kName && tokens_.ahead().is_operator("=")) {
      argument.name = tokens_.next().text;
      tokens_.next();
    } else if (!arguments.empty() && !arguments.back().name.empty() && arguments.back().name != "*") {
      tokens_.fail("a positional argument stands behind a named one");
    }
    argument.value = expression();
    arguments.push_back(std::move(argument));
  }
  tokens_.next();
  return arguments;
}

ExpressionPtr ExpressionParser::call(ExpressionPtr subject) {
  Node node = make(ExpressionKind::kCall, tokens_.current().at);
  node->items.push_back(std::move(subject));
  node->arguments = call_arguments();
  return done(std::move(node));
}

std::string ExpressionParser::dotted_name() {
  std::string name = tokens_.expect_name();
  while (tokens_.skip_operator(".")) name += "." + tokens_.expect_name();
  return name;
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr subject) {
  Node node = make(ExpressionKind::kFilter, tokens_.current().at);
  node->name = dotted_name();
  if (find_filter(node->name) == nullptr) {
    unknown_.push_back(syntax_error(node->at, "no filter named '" + node->name + "'"));
  }
  node->items.push_back(std::move(subject));
  if (tokens_.is_operator("(")) node->arguments = call_arguments();
  return done(std::move(node));
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr subject) {
  ExpressionPtr node = filter(std::move(subject));
  while (tokens_.skip_operator("|")) {
    node = filter(std::move(node));
  }
  return node;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr subject) {
  Node node = make(ExpressionKind::kTest, tokens_.next().at);
  const bool negated = tokens_.skip_name("not");
  node->name = dotted_name();
  if (find_test(node->name) == nullptr) {
    unknown_.push_back(syntax_error(node->at, "no test named '" + node->name + "'"));
  }
  node->items.push_back(std::move(subject));
  const Token& token = tokens_.current();
  const bool is_value = token.kind == TokenKind::kString || token.kind == TokenKind::kInteger ||
                        token.kind == TokenKind::kFloat || token.is_operator("[") || token.is_operator("{");
  const bool is_argument_name = token.kind == TokenKind::kName && !token.is_name("else") &&
                                !token.is_name("or") && !token.is_name("and");
  if (tokens_.is_operator("(")) {
    node->arguments = call_arguments();
  } else if (is_value || is_argument_name) {
    if (tokens_.is_name("is")) tokens_.fail("tests cannot be chained with 'is'");
    Argument argument;
    argument.value = postfix_of(primary());
    node->arguments.push_back(std::move(argument));
  }
  if (!negated) return done(std::move(node));
  Node inverted = make(ExpressionKind::kNot, node->at);
  inverted->items.push_back(done(std::move(node)));
  return done(std::move(inverted));
}

}  // namespace orcd::jinja
