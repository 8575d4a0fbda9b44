#include "jinja/parser.h"

#include <initializer_list>

#include "jinja/expression_parser.h"

namespace orcd::jinja {
namespace {

class Parser : private ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Body run() {
    Body body = statements({});
    if (tokens_.current().kind != TokenKind::kEnd) tokens_.fail("unexpected " + tokens_.shown());
    if (!unknown_.empty()) throw decltype(unknown_)::value_type(unknown_.front());
    return body;
  }

 private:
  using NewStatement = std::unique_ptr<Statement>;

  static NewStatement make_statement(StatementKind kind, Position at) {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->at = at;
    return statement;
  }

  void end_block() { tokens_.expect(TokenKind::kBlockEnd, "the end of the statement block"); }

  // Statements up to a block that begins with one of `ends`, which is left as the current name.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(depth_, tokens_);
    Body body;
    for (;;) {
      const Token& token = tokens_.current();
      switch (token.kind) {
        case TokenKind::kEnd:
          if (ends.size() != 0) {
            tokens_.fail("unexpected end of template, expected {% " + std::string(*ends.begin()) + " %}");
          }
          return body;
        case TokenKind::kText: {
          NewStatement text = make_statement(StatementKind::kText, token.at);
          text->text = tokens_.next().text;
          body.push_back(std::move(text));
          break;
        }
        case TokenKind::kVariableBegin: {
          NewStatement output = make_statement(StatementKind::kOutput, tokens_.next().at);
          output->expression = tuple_or_one(true);
          tokens_.expect(TokenKind::kVariableEnd, "the end of the print statement");
          body.push_back(std::move(output));
          break;
        }
        case TokenKind::kBlockBegin: {
          tokens_.next();
          for (const std::string_view end : ends) {
            if (tokens_.is_name(end)) return body;
          }
          body.push_back(statement());
          break;
        }
        default:
          tokens_.fail("unexpected " + tokens_.shown());
      }
    }
  }

  // The body behind a block's head, and the end tag `end`.
  Body body_until(std::string_view end) {
    end_block();
    Body body = statements({end});
    tokens_.next();
    end_block();
    return body;
  }

  NewStatement statement() {
    const Token name = tokens_.current();
    if (name.kind != TokenKind::kName) tokens_.fail("tag name expected, got " + tokens_.shown());
    tokens_.next();
    if (name.text == "if") return branch(name.at);
    if (name.text == "for") return loop(name.at);
    if (name.text == "set") return assignment(name.at);
    if (name.text == "macro") return macro(name.at);
    if (name.text == "call") return call_block(name.at);
    if (name.text == "filter") {
      NewStatement block = make_statement(StatementKind::kFilter, name.at);
      block->expression = filters(nullptr);
      block->body = body_until("endfilter");
      return block;
    }
    if (name.text == "with") return with(name.at);
    if (name.text == "generation") {
      NewStatement block = make_statement(StatementKind::kGeneration, name.at);
      const int loops = std::exchange(n_loops_, 0);
      block->body = body_until("endgeneration");
      n_loops_ = loops;
      return block;
    }
    if (name.text == "break" || name.text == "continue") {
      if (n_loops_ == 0) throw syntax_error(name.at, "'" + name.text + "' outside of a loop");
      end_block();
      return make_statement(name.text == "break" ? StatementKind::kBreak : StatementKind::kContinue, name.at);
    }
    throw syntax_error(name.at, "unknown or unsupported tag '" + name.text + "'");
  }

  NewStatement branch(Position at) {
    NewStatement node = make_statement(StatementKind::kIf, at);
    const size_t n_unknown = unknown_.size();
    for (;;) {
      ExpressionPtr condition = tuple_or_one(false);
      end_block();
      Body body = statements({"endif", "elif", "else"});
      node->branches.emplace_back(std::move(condition), std::move(body));
      if (!tokens_.skip_name("elif")) break;
    }
    if (tokens_.skip_name("else")) {
      end_block();
      node->else_body = statements({"endif"});
    }
    tokens_.next();
    end_block();
    unknown_.erase(unknown_.begin() + static_cast<std::ptrdiff_t>(n_unknown), unknown_.end());
    return node;
  }

  NewStatement loop(Position at) {
    NewStatement node = make_statement(StatementKind::kFor, at);
    node->target = target_list();
    if (!tokens_.skip_name("in")) tokens_.fail("expected 'in', got " + tokens_.shown());
    node->expression = tuple_or_one(false);
    if (tokens_.skip_name("if")) node->condition = expression();
    node->is_recursive = tokens_.skip_name("recursive");
    end_block();
    ++n_loops_;
    node->body = statements({"endfor", "else"});
    --n_loops_;
    if (tokens_.skip_name("else")) {
      end_block();
      node->else_body = statements({"endfor"});
    }
    tokens_.next();
    end_block();
    return node;
  }

  Target one_target() {
    const Nesting nesting(depth_, tokens_);
    Target target;
    if (tokens_.skip_operator("(")) {
      target = target_list();
      tokens_.expect_operator(")");
      return target;
    }
    const Position at = tokens_.current().at;
    target.name = tokens_.expect_name();
    for (const std::string_view name : {"true", "false", "none", "True", "False", "None"}) {
      if (target.name == name) throw syntax_error(at, "can't assign to '" + target.name + "'");
    }
    return target;
  }

  Target target_list() {
    Target first = one_target();
    if (!tokens_.is_operator(",")) return first;
    Target tuple;
    tuple.items.push_back(std::move(first));
    while (tokens_.skip_operator(",")) {
      if (tokens_.is_name("in") || tokens_.is_operator("=") || tokens_.is_operator(")")) break;
      tuple.items.push_back(one_target());
    }
    return tuple;
  }

  NewStatement assignment(Position at) {
    NewStatement node = make_statement(StatementKind::kSet, at);
    if (tokens_.ahead().is_operator(".")) {
      node->target.name = tokens_.expect_name();
      tokens_.next();
      node->target.attribute = tokens_.expect_name();
    } else {
      node->target = target_list();
    }
    if (tokens_.skip_operator("=")) {
      node->expression = tuple_or_one(true);
      end_block();
      return node;
    }
    node->kind = StatementKind::kSetBlock;
    if (tokens_.skip_operator("|")) node->expression = filters(nullptr);
    node->body = body_until("endset");
    return node;
  }

  // "(a, b=1)"
  std::vector<Parameter> parameters() {
    std::vector<Parameter> list;
    tokens_.expect_operator("(");
    while (!tokens_.is_operator(")")) {
      if (!list.empty()) {
        tokens_.expect_operator(",");
        if (tokens_.is_operator(")")) break;
      }
      Parameter parameter;
      parameter.name = tokens_.expect_name();
      if (tokens_.skip_operator("=")) {
        parameter.default_value = expression();
      } else if (!list.empty() && list.back().default_value) {
        tokens_.fail("a parameter without default behind one with default");
      }
      list.push_back(std::move(parameter));
    }
    tokens_.next();
    return list;
  }

  NewStatement macro(Position at) {
    NewStatement node = make_statement(StatementKind::kMacro, at);
    node->text = tokens_.expect_name();
    node->parameters = parameters();
    callable_body(*node, "endmacro");
    return node;
  }

  NewStatement call_block(Position at) {
    NewStatement node = make_statement(StatementKind::kCall, at);
    node->text = "caller";
    if (tokens_.is_operator("(")) node->parameters = parameters();
    node->expression = expression();
    if (node->expression->kind != ExpressionKind::kCall) throw syntax_error(at, "expected a call");
    callable_body(*node, "endcall");
    return node;
  }

  // Loops outside cannot be left from inside; which of the implied names it uses decides what it takes.
  void callable_body(Statement& node, std::string_view end) {
    const int loops = std::exchange(n_loops_, 0);
    node.body = body_until(end);
    n_loops_ = loops;
    const auto uses = [&](std::string_view name) {
      for (const Parameter& parameter : node.parameters) {
        if (parameter.name == name) return false;
      }
      return body_names(node.body, name);
    };
    node.uses_varargs = uses("varargs");
    node.uses_kwargs = uses("kwargs");
    node.uses_caller = uses("caller");
  }

  static bool names(const Expression* expression, std::string_view name) {
    if (expression == nullptr) return false;
    if (expression->kind == ExpressionKind::kName && expression->name == name) return true;
    for (const ExpressionPtr& item : expression->items) {
      if (names(item.get(), name)) return true;
    }
    for (const Argument& argument : expression->arguments) {
      if (names(argument.value.get(), name)) return true;
    }
    return false;
  }

  static bool body_names(const Body& body, std::string_view name) {
    for (const auto& statement : body) {
      if (names(statement->expression.get(), name) || names(statement->condition.get(), name)) return true;
      if (body_names(statement->body, name) || body_names(statement->else_body, name)) return true;
      for (const auto& [condition, branch_body] : statement->branches) {
        if (names(condition.get(), name) || body_names(branch_body, name)) return true;
      }
      for (const auto& [target, value] : statement->assignments) {
        if (names(value.get(), name)) return true;
      }
      for (const Parameter& parameter : statement->parameters) {
        if (names(parameter.default_value.get(), name)) return true;
      }
    }
    return false;
  }

  NewStatement with(Position at) {
    NewStatement node = make_statement(StatementKind::kWith, at);
    while (tokens_.current().kind != TokenKind::kBlockEnd) {
      if (!node->assignments.empty()) tokens_.expect_operator(",");
      Target target = one_target();
      tokens_.expect_operator("=");
      node->assignments.emplace_back(std::move(target), expression());
    }
    node->body = body_until("endwith");
    return node;
  }

  int n_loops_ = 0;
};

}  // namespace

Body parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace orcd::jinja
