// The expressions of Renderer.
#include <algorithm>

#include "jinja/filters.h"
#include "jinja/operators.h"
#include "jinja/renderer.h"
#include "jinja/text.h"

namespace orcd::jinja {

Value Renderer::evaluate(const Expression& node) {
  charge(1);
  if (++depth_ > limits_.max_depth) {
    --depth_;
    throw TemplateFailure{"nests deeper than " + std::to_string(limits_.max_depth) + " levels"};
  }
  struct Leave {
    uint32_t& depth;
    ~Leave() { --depth; }
  } leave{depth_};
  return evaluate_node(node);
}

Value Renderer::evaluate_node(const Expression& node) {
  const auto item = [&](size_t index) { return evaluate(*node.items[index]); };
  switch (node.kind) {
    case ExpressionKind::kConstant:
      return node.constant;
    case ExpressionKind::kName:
      return lookup(node);
    case ExpressionKind::kList:
    case ExpressionKind::kTuple: {
      std::vector<Value> items;
      items.reserve(node.items.size());
      for (const ExpressionPtr& element : node.items) items.push_back(evaluate(*element));
      return node.kind == ExpressionKind::kList ? Value::list(std::move(items))
                                                : Value::tuple(std::move(items));
    }
    case ExpressionKind::kDict: {
      Dict dict;
      for (size_t i = 0; i < node.items.size(); i += 2) {
        Value key = item(i);
        dict.set(std::move(key), item(i + 1));
      }
      return dict;
    }
    case ExpressionKind::kAttribute: {
      const Value subject = item(0);
      at_ = node.at;
      return attribute(*this, subject, node.name);
    }
    case ExpressionKind::kSubscript:
      return evaluate_subscript(node);
    case ExpressionKind::kSlice:
      throw TemplateFailure{"a slice stands alone"};
    case ExpressionKind::kCall:
      return evaluate_call(node, nullptr);
    case ExpressionKind::kFilter:
      return evaluate_filter(node, nullptr);
    case ExpressionKind::kTest:
      return evaluate_test(node);
    case ExpressionKind::kNot:
      return !item(0).is_true();
    case ExpressionKind::kNegative: {
      const Value value = item(0);
      at_ = node.at;
      return negative(value);
    }
    case ExpressionKind::kPositive: {
      Value value = item(0);
      at_ = node.at;
      if (!value.is_number())
        throw TemplateFailure{std::string("bad operand for unary +: ") + value.type_name()};
      return value.is_bool() ? Value(value.integer()) : value;
    }
    case ExpressionKind::kBinary: {
      const Value left = item(0), right = item(1);
      at_ = node.at;
      return binary_operation(*this, node.name, left, right);
    }
    case ExpressionKind::kConcat: {
      std::string text;
      for (const ExpressionPtr& part : node.items) {
        text += to_text(evaluate(*part));
        charge_bytes(text.size());
      }
      return text;
    }
    case ExpressionKind::kAnd: {
      Value left = item(0);
      return left.is_true() ? item(1) : left;
    }
    case ExpressionKind::kOr: {
      Value left = item(0);
      return left.is_true() ? left : item(1);
    }
    case ExpressionKind::kCompare:
      return evaluate_compare(node);
    case ExpressionKind::kConditional:
      if (item(1).is_true()) return item(0);
      if (node.items[2]) return item(2);
      return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
  }
  return {};
}

Value Renderer::lookup(const Expression& node) const {
  if (const Value* value = scope_->find(node.name)) return *value;
  return Value::undefined("'" + node.name + "' is undefined");
}

Value Renderer::evaluate_compare(const Expression& node) {
  Value left = evaluate(*node.items[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate(*node.items[i + 1]);
    at_ = node.at;
    if (!compare(*this, node.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Renderer::evaluate_subscript(const Expression& node) {
  const Value subject = evaluate(*node.items[0]);
  const Expression& key = *node.items[1];
  if (key.kind != ExpressionKind::kSlice) {
    const Value index = evaluate(key);
    at_ = node.at;
    return subscript(*this, subject, index);
  }
  Value parts[3] = {None{}, None{}, None{}};
  for (size_t i = 0; i < 3; ++i) {
    if (key.items[i]) parts[i] = evaluate(*key.items[i]);
  }
  at_ = node.at;
  return slice(*this, subject, parts[0], parts[1], parts[2]);
}

Arguments Renderer::evaluate_arguments(const std::vector<Argument>& arguments) {
  Arguments out;
  for (const Argument& argument : arguments) {
    Value value = evaluate(*argument.value);
    if (argument.name.empty()) {
      out.positional.push_back(std::move(value));
    } else if (argument.name == "*") {
      for (Value& item : items_of(value)) out.positional.push_back(std::move(item));
    } else if (argument.name == "**") {
      const Dict* dict = value.as_dict();
      if (dict == nullptr) throw TemplateFailure{"the argument behind ** must be a dict"};
      for (const auto& [name, item] : dict->entries()) out.named.emplace_back(to_text(name), item);
    } else {
      out.named.emplace_back(argument.name, std::move(value));
    }
  }
  return out;
}

Value Renderer::evaluate_call(const Expression& node, const Value* caller) {
  const Value callee = evaluate(*node.items[0]);
  Arguments arguments = evaluate_arguments(node.arguments);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  at_ = node.at;
  return call(callee, arguments);
}

Value Renderer::call(const Value& callee, const Arguments& arguments) {
  charge(1);
  if (callee.is_undefined()) fail_undefined(callee);
  const Callable* callable = callee.as_callable();
  if (callable == nullptr || !callable->call) {
    throw TemplateFailure{std::string("'") + callee.type_name() + "' object is not callable"};
  }
  return callable->call(*this, arguments);
}

Value Renderer::evaluate_filter(const Expression& node, const Value* subject) {
  // The first filter of a block's chain has no subject of its own.
  Value value;
  if (!node.items[0]) {
    value = *subject;
  } else if (subject != nullptr) {
    value = evaluate_filter(*node.items[0], subject);
  } else {
    value = evaluate(*node.items[0]);
  }
  const Arguments arguments = evaluate_arguments(node.arguments);
  at_ = node.at;
  return apply_filter(*this, node.name, value, arguments);
}

Value Renderer::evaluate_test(const Expression& node) {
  const Value value = evaluate(*node.items[0]);
  const Arguments arguments = evaluate_arguments(node.arguments);
  at_ = node.at;
  return apply_test(*this, node.name, value, arguments);
}

std::vector<Value> Renderer::items_of(const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (const Sequence* sequence = value.as_sequence()) {
    charge(sequence->items.size());
    if (sequence->kind == SequenceKind::kGenerator && std::exchange(sequence->is_consumed, true))
      return items;
    return sequence->items;
  }
  if (const Dict* dict = value.as_dict()) {
    charge(dict->size());
    for (const auto& [key, item] : dict->entries()) items.push_back(key);
    return items;
  }
  if (const std::string* text = value.as_string()) {
    charge(text->size());
    for (size_t at = 0; at < text->size();) {
      const size_t n = code_point_at(*text, at).n_bytes;
      items.emplace_back(std::string_view(*text).substr(at, n));
      at += n;
    }
    return items;
  }
  throw TemplateFailure{std::string("'") + value.type_name() + "' object is not iterable"};
}

}  // namespace orcd::jinja
