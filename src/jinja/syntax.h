// The syntax tree of a template. Built by the parser, then only read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jinja/lexer.h"
#include "jinja/value.h"

namespace orcd::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

enum class ExpressionKind : uint8_t {
  kConstant,     // constant
  kName,         // name
  kList,         // items
  kTuple,        // items
  kDict,         // items: key, value, key, value, ...
  kAttribute,    // items[0] . name
  kSubscript,    // items[0] [ items[1] ]
  kSlice,        // as items[1] of kSubscript: start, stop, step; each may be null
  kCall,         // items[0] ( arguments )
  kFilter,       // items[0] | name(arguments); items[0] null: what the statement gives
  kTest,         // items[0] is name(arguments)
  kNot,          // items[0]
  kNegative,     // - items[0]
  kPositive,     // + items[0]
  kBinary,       // items[0] name items[1]: + - * / // % **
  kConcat,       // items joined by ~
  kAnd,          // items[0], items[1]
  kOr,           // items[0], items[1]
  kCompare,      // items[0] operators[0] items[1] operators[1] items[2] ...
  kConditional,  // items[0] if items[1] else items[2] (null: undefined)
};

// `name` "" is positional, "*" and "**" spread a sequence or a dict.
struct Argument {
  std::string name;
  ExpressionPtr value;
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  Position at;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> items;
  std::vector<Argument> arguments;
  std::vector<std::string> operators;  // "==", ..., "in", "not in"
  uint32_t height = 1;                 // of the tree below
};

struct Statement;
using Body = std::vector<std::unique_ptr<const Statement>>;

enum class StatementKind : uint8_t {
  kText,        // text
  kOutput,      // expression
  kIf,          // branches; else_body
  kFor,         // target in expression if condition: body; else_body
  kSet,         // target = expression
  kSetBlock,    // target = body, through the filters of expression (may be null)
  kMacro,       // parameters, body; text is its name
  kCall,        // expression is the call; parameters and body are its caller
  kFilter,      // body through the filters of expression
  kWith,        // assignments, body
  kGeneration,  // body: what an assistant said; a scope of its own
  kBreak,
  kContinue,
};

// A name, a tuple of targets, or an attribute of a namespace.
struct Target {
  std::string name;
  std::string attribute;      // not empty: name.attribute
  std::vector<Target> items;  // not empty: a tuple
};

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // may be null
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  Position at;
  std::string text;
  ExpressionPtr expression, condition;
  Target target;
  Body body, else_body;
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  std::vector<Parameter> parameters;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  bool is_recursive = false;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;  // of a macro's or caller's body
};

}  // namespace orcd::jinja
